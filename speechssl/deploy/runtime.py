"""Written programs run and held against the model they were made from, utterance by utterance.

Every utterance is given in a batch with others, behind its end there is noise where zeros belong, and what comes out
has to be what PyTorch gives for it alone.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from speechssl.deploy.parity import signals
from speechssl.deploy.program import INPUTS, Exportable
from speechssl.errors import UserError

LONG = 12.0  # seconds; longer than the pretraining input of most models
SHORT = 123  # samples; less than any model reads
SEED = 0

Runner = Callable[[Tensor, Tensor], list[Tensor]]  # (B, S) and (B,) to the outputs, the valid lengths last


@dataclass(frozen=True)
class Agreement:
    """How far an output of a program is from the model's, over all utterances.

    Attributes:
        name: of the output.
        absolute: largest difference.
        largest: largest absolute value of the model's.
        error: root mean square of the difference as a share of that of the output.
        same: share of frames (or utterances) whose largest element is the same one.
    """

    name: str
    absolute: float
    largest: float
    error: float
    same: float

    @property
    def relative(self) -> float:
        """The largest difference as a share of the largest value, where that is above 1."""
        return self.absolute / max(1.0, self.largest)


def onnx_runner(path: Path) -> Runner:
    """Return an ONNX file as onnxruntime computes it on a CPU.

    Raises:
        UserError: an operator, or a shape, that onnxruntime does not take.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # warnings are about its own optimisations, errors are raised
    failures = onnxruntime.capi.onnxruntime_pybind11_state
    failures = (failures.Fail, failures.InvalidArgument, failures.InvalidGraph, failures.NotImplemented)
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except failures as error:
        raise UserError(f"onnxruntime cannot load this program ({_first_line(error)})") from error

    def run(waveforms: Tensor, lengths: Tensor) -> list[Tensor]:
        inputs = dict(zip(INPUTS, (waveforms.numpy(), lengths.numpy()), strict=True))
        try:
            return [torch.from_numpy(output) for output in session.run(None, inputs)]
        except failures as error:
            raise UserError(
                f"onnxruntime cannot run this program ({_first_line(error)}); try another opset="
            ) from error

    return run


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]


def program_runner(path: Path) -> Runner:
    """Return a .pt2 file as PyTorch computes it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about its own reading of buffers
        module = torch.export.load(path).module()

    @torch.no_grad()
    def run(waveforms: Tensor, lengths: Tensor) -> list[Tensor]:
        return list(module(waveforms, lengths))

    return run


def batches(min_samples: int) -> list[list[Tensor]]:
    """Return utterances (S,) in batches: one alone, the shortest, several of different lengths, and a long one."""
    generator = torch.Generator().manual_seed(SEED)
    made = list(signals(SEED).values())
    long = torch.cat([*made, *made, *made])[: int(LONG * 16000)]
    shortest = made[1][:min_samples]
    short = 0.1 * torch.randn(SHORT, generator=generator)
    return [[made[3]], [shortest], [made[0], made[2], short, made[1]], [long]]


def compare(run: Runner, exported: Exportable) -> list[Agreement]:
    """Return how far a written program is from its model, output by output.

    Raises:
        UserError: outputs of another shape, or values that are not finite.
    """
    pairs: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in exported.outputs[:-1]}
    generator = torch.Generator().manual_seed(SEED)
    for batch in batches(exported.upstream.min_samples):
        lengths = torch.tensor([len(waveform) for waveform in batch])
        padded = torch.randn(len(batch), max(int(lengths.max()), exported.upstream.min_samples), generator=generator)
        for row, waveform in zip(padded, batch, strict=True):
            row[: len(waveform)] = waveform
        *outputs, valid = run(padded, lengths)
        for number, waveform in enumerate(batch):
            expected = exported.reference(waveform)
            for name, output, reference in zip(pairs, outputs, expected, strict=True):
                found = output[number, : int(valid[number])] if output.dim() == 3 else output[number]
                _check(name, found, reference)
                pairs[name].append((found.reshape(-1, found.shape[-1]), reference.reshape(-1, found.shape[-1])))
    return [_agreement(name, found) for name, found in pairs.items()]


def _check(name: str, found: Tensor, expected: Tensor) -> None:
    if found.shape != expected.shape:
        raise UserError(
            f"{name} of the program has the shape {tuple(found.shape)}, the model's {tuple(expected.shape)}"
        )
    if not bool(found.isfinite().all()) and bool(expected.isfinite().all()):
        raise UserError(f"{name} of the program holds values that are not finite, the model's does not")


def _agreement(name: str, pairs: Sequence[tuple[Tensor, Tensor]]) -> Agreement:
    found, expected = (torch.cat(parts).double() for parts in zip(*pairs, strict=True))
    difference = found - expected
    same = (found.argmax(dim=-1) == expected.argmax(dim=-1)).double().mean()
    error = difference.norm() / expected.norm().clamp(min=1e-30)
    return Agreement(name, float(difference.abs().max()), float(expected.abs().max()), float(error), float(same))
