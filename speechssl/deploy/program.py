"""What is exported: a module from waveforms to hidden states, or to a task's outputs, and its traced program.

Programs take any batch and any length from `min_samples` on, have the frontend inside, and give every utterance what
it gives alone. They have no checks in them: lengths above S, or audio at another rate, are not noticed.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from speechssl.deploy.trained import FrozenModel, TrainedTask, is_result, load_trained
from speechssl.errors import UserError
from speechssl.finetune.model import FinetunedModel
from speechssl.hub import load_upstream, weights_sha256
from speechssl.interfaces import Upstream
from speechssl.version import __version__

INPUTS = ("waveforms", "lengths")
VALID = "valid"  # the output that says how many of T are; a name of its own, because ONNX knows no two of one name
EXAMPLE = 17_001  # samples at least; no multiple of a hop, a patch or a window


class Program(nn.Module):
    """Waveforms (B, S) float32 in [-1, 1] and lengths (B,) int64 to a tuple of outputs.

    Args:
        upstream: the encoder.
        layers: of an encoder: which hidden states are returned.
        model: of a task: the outputs of its head are returned instead.
    """

    def __init__(self, upstream: Upstream, layers: Sequence[int] = (), model: nn.Module | None = None):
        super().__init__()
        self.model = upstream if model is None else model
        self.layers = tuple(layers)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Return hidden states (B, T, D), or the outputs of the head; then (B,) how many of T are valid."""
        upstream = getattr(self.model, "upstream", self.model)
        inside = torch.arange(waveforms.shape[1], device=waveforms.device) < lengths[:, None]
        lengths = lengths.clamp(min=upstream.min_samples)
        states, frames = upstream.encode(waveforms.masked_fill(~inside, 0.0), lengths)
        states = _longest(states, frames)
        if isinstance(self.model, FrozenModel):
            return self.model.head(torch.stack(states, dim=2), frames)
        if isinstance(self.model, FinetunedModel):
            return self.model.head(states, frames)
        return *(states[layer] for layer in self.layers), frames


@contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Keep what loggers of these names tell of their own work, up to warnings, to themselves; "" is the root."""
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _longest(states: list[Tensor], frames: Tensor) -> list[Tensor]:
    """Cut states (B, T, D) to the longest utterance.

    That number is read from data. T as a function of S would leave the tracer with equations it cannot solve, such as
    whether frames divide what heads make of them.
    """
    longest = frames.max().item()
    torch._check(longest >= 1)
    steps = torch.arange(longest, device=frames.device)
    return [state.index_select(1, steps) for state in states]


@dataclass(frozen=True)
class Exportable:
    """What can be exported.

    Attributes:
        program: in eval mode on the CPU, without gradients.
        upstream: the encoder in it.
        outputs: names of what the program returns, `VALID` last.
        about: plain values that travel with the program: what it takes a user to read its outputs.
    """

    program: Program
    upstream: Upstream
    outputs: tuple[str, ...]
    about: dict[str, Any]

    @torch.no_grad()
    def reference(self, waveform: Tensor) -> list[Tensor]:
        """Return what the model gives for a 1-D waveform on its own, valid frames only, without the lengths."""
        padded, length = self.upstream.checked([waveform])
        *outputs, valid = self.program(padded, length)
        return [output[0, : int(valid[0])] if output.dim() == 3 else output[0] for output in outputs]


def exportable(run: str, upstream: str | None = None, layers: Sequence[int] | None = None) -> Exportable:
    """Return what `run` names, ready to be exported.

    Args:
        run: a result of a benchmark (see `load_trained`), else anything that `load_upstream` takes.
        upstream: of a result on frozen features: where its upstream is now; None = where it was.
        layers: of an encoder: hidden states to return, negative ones count from the end; None = the last.

    Raises:
        UserError: nothing usable there, or keys that do not fit it.
    """
    if is_result(run):
        if layers is not None:
            raise UserError("layers= is for encoders; a trained task takes the layers that it was trained on")
        return _task(load_trained(run, upstream))
    if upstream is not None:
        raise UserError(f"upstream= goes with a result of a benchmark, and {run} is an encoder; leave it out")
    return _encoder(run, load_upstream(run), layers)


def trace(exported: Exportable) -> ExportedProgram:
    """Return the program for any batch and length, as torch.export makes it.

    Raises:
        UserError: the model does something that cannot be traced, as models of other libraries may.
    """
    samples = max(EXAMPLE, 2 * exported.upstream.min_samples + 1)
    waveforms = torch.linspace(-0.5, 0.5, 3 * samples).view(3, samples).sin()
    inputs = (waveforms, torch.tensor([samples, samples - 4321, samples // 2]))
    batch, length = Dim("batch"), Dim("samples", min=exported.upstream.min_samples)
    shapes = {"waveforms": {0: batch, 1: length}, "lengths": {0: batch}}
    try:
        # On stderr torch.export prints what it had traced until it failed.
        with torch.no_grad(), quiet("torch.fx.experimental.symbolic_shapes"), redirect_stderr(StringIO()):
            exported.program(*inputs)  # what is looked up once is known before anything is traced
            return torch.export.export(exported.program, inputs, dynamic_shapes=shapes, strict=False)
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"this {exported.upstream.family} model cannot become a program for any length; settings that cut "
            f"recordings into windows, and some models of other libraries, cannot be traced ({reason})"
        ) from error


def _encoder(name: str, upstream: Upstream, layers: Sequence[int] | None) -> Exportable:
    if upstream.statistics_frontend() is not None:
        raise UserError(
            f"{name} takes mean and std from the corpus it is used on, and has none yet; export a trained one"
        )
    count = upstream.num_layers + 1
    if layers is not None and not (isinstance(layers, list | tuple) and all(type(layer) is int for layer in layers)):
        raise UserError(f"layers= expects a list of numbers, such as [0,-1], found {layers!r}")
    chosen = [count - 1] if layers is None else [layer + count if layer < 0 else layer for layer in layers]
    if not chosen or len(set(chosen)) < len(chosen) or not all(0 <= layer < count for layer in chosen):
        raise UserError(f"layers= expects different ones from 0 to {count - 1}, found {list(layers or [])}")
    names = tuple(f"hidden_state_{layer}" for layer in chosen)
    about = {"kind": "encoder", "layers": chosen, "hidden_size": upstream.hidden_size, **_common(name, upstream)}
    return Exportable(Program(upstream, chosen).eval(), upstream, (*names, VALID), about)


def _task(trained: TrainedTask) -> Exportable:
    task, upstream, about = trained.task, trained.upstream, trained.about
    if trained.model is None:
        raise UserError(
            f"task {task.name} trains nothing, so there is no head to export; export its upstream with "
            f"layers=[{about.get('layer', 0)}]"
        )
    known = {
        "kind": "task",
        "task": task.name,
        "classes": about["classes"],
        "multi_label": bool(getattr(task, "multi_label", False)),
        "slots": getattr(task, "slots", None),
        "num_special": getattr(task, "num_special", None),
        "choices": trained.choices,
        **_common(about["config"]["upstream"], upstream),
        "upstream_sha256": about["upstream_sha256"],
    }
    program = Program(upstream, model=trained.model).eval()
    found = Exportable(program, trained.model.upstream, ("outputs", VALID), known)
    known |= _facts_of_outputs(found)
    return found


@torch.no_grad()
def _facts_of_outputs(exported: Exportable) -> dict[str, Any]:
    """Return "frames_per_output", how many frames of the upstream an output stands for, and "classes".

    Outputs of whole utterances stand for no number of frames. Those that are no scores of classes, such as embeddings,
    have none, whatever classes the task was trained with.
    """
    waveforms, lengths = exported.upstream.checked([torch.zeros(10 * exported.upstream.sample_rate)])
    frames = exported.upstream.encode(waveforms, lengths).lengths
    outputs, valid = exported.program(waveforms, lengths)
    classes = exported.about["classes"]
    return {
        "frames_per_output": round(int(frames) / int(valid)) if outputs.dim() == 3 else None,
        "classes": classes if classes is not None and len(classes) == outputs.shape[-1] else None,
    }


def _common(name: str, upstream: Upstream) -> dict[str, Any]:
    return {
        "upstream": Path(name).name if Path(name).exists() else name,  # a program says nothing of this machine
        "family": upstream.family,
        "upstream_sha256": weights_sha256(upstream),
        "sample_rate": upstream.sample_rate,
        "min_samples": upstream.min_samples,
        "frame_seconds": upstream.downsample_rate / upstream.sample_rate,
        "speechssl": __version__,
    }
