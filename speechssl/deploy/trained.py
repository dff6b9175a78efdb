"""A downstream run directory read back: upstream, head and task as they were tested, without the corpus.

What was trained on frozen features needs its upstream, which is not part of the run directory: it is looked for under
the name that was benchmarked, and has to be the same to the last bit. A fine-tuned model is in its run directory whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from speechssl import registry
from speechssl.errors import UserError
from speechssl.files import load_safetensors, read_json
from speechssl.finetune.model import FinetunedModel, build_model
from speechssl.hub import load_upstream, load_weights, weights_sha256
from speechssl.interfaces import BenchmarkTask, DownstreamTask, Remembered, Upstream
from speechssl.probe.grid import SelectedHead
from speechssl.probe.heads import Standardize, build_head
from speechssl.probe.reproduce import find_row
from speechssl.probe.rows import RESULTS, read_lines


class FrozenModel(nn.Module):
    """Waveforms to the outputs of a task, through a head on frozen features."""

    def __init__(self, upstream: Upstream, head: SelectedHead):
        super().__init__()
        self.upstream, self.head = upstream, head

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, S) waveforms in [-1, 1] with (B,) valid samples to the head's outputs and their lengths."""
        states, frames = self.upstream(waveforms, lengths)
        return self.head(torch.stack(states, dim=2), frames)


@dataclass(frozen=True)
class TrainedTask:
    """A task that can be used.

    Attributes:
        folder: the export it was read from.
        task: built without its corpus: it knows what outputs mean, but has no utterances.
        upstream: in eval mode on the CPU.
        model: waveforms (B, S) and lengths (B,) to the head's outputs and their lengths, in eval mode; None where
            nothing was trained (`LayerwiseTask`).
        choices: what `task.tune` decided.
        about: all that the export tells.
    """

    folder: Path
    task: BenchmarkTask
    upstream: Upstream
    model: FrozenModel | FinetunedModel | None
    choices: dict[str, Any]
    about: dict[str, Any]

    @property
    def frame_seconds(self) -> float:
        """Seconds between two frames of the upstream's features."""
        return self.upstream.downsample_rate / self.upstream.sample_rate

    def to(self, device: str) -> "TrainedTask":
        """Move the model to a device, "cpu" or "cuda:1", in place; return self.

        Raises:
            UserError: no such device.
        """
        try:
            torch.empty(0, device=device)
            (self.upstream if self.model is None else self.model).to(device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(f"device={device} cannot be used ({reason}); use cpu, or see speechssl doctor") from error
        return self

    @torch.no_grad()
    def predict(self, waveforms: Sequence[Tensor]) -> list[dict[str, Any]]:
        """Return what `DownstreamTask.predictions` says of each of these 1-D waveforms."""
        if self.model is None or not isinstance(self.task, DownstreamTask):
            raise UserError(f"task {self.task.name} trains nothing and answers no single recording")
        outputs, valid = self.model(*self._batch(self.model, waveforms))
        return self.task.predictions(outputs, valid, self.frame_seconds, **self.choices)

    @torch.no_grad()
    def features(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """Return the frames (T, D) of each of these 1-D waveforms in the hidden state that dev chose.

        For tasks that train nothing.
        """
        states, frames = self.upstream(*self._batch(self.upstream, waveforms))
        rows = zip(states[self.about["layer"]], frames.tolist(), strict=True)
        return [row[:count].float() for row, count in rows]

    def _batch(self, model: nn.Module, waveforms: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        device = next((values.device for values in model.state_dict().values()), torch.device("cpu"))
        padded, lengths = self.upstream.checked(list(waveforms))
        return padded.to(device), lengths.to(device)


def load_trained(run: str | Path, upstream: str | None = None) -> TrainedTask:
    """Return what a downstream run directory holds.

    Args:
        run: the folder of one result, its `export/`, a folder with a single result (of a benchmark, or of one of its
            tasks), or `RUN_DIR/results.jsonl:KEY` (see `speechssl.probe.reproduce.find_row`).
        upstream: where the frozen upstream is now, as a name for `load_upstream`; None = where it was.

    Raises:
        UserError: nothing usable there, another upstream than was benchmarked, or damaged files.
    """
    folder = export_of(run)
    whole = (folder / "head.json").is_file()
    about = read_json(folder / ("head.json" if whole else "config.json"))
    _check(about, folder)
    if whole and upstream is not None:
        raise UserError(f"{folder} is a fine-tuned model with an upstream of its own; leave upstream= out")
    task = _task(about)
    encoder = load_upstream(str(folder)) if whole else _frozen_upstream(about, folder, upstream)
    model = None
    if isinstance(task, DownstreamTask):
        model = _finetuned(about, folder, task, encoder) if whole else _frozen(about, folder, task, encoder)
        model = model.eval().requires_grad_(False)
    return TrainedTask(folder, task, encoder, model, about["choices"], about)


def export_of(run: str | Path) -> Path:
    """Return the export folder of a result; see `load_trained` for what `run` may be."""
    path = Path(run)
    if not path.exists() and f"{RESULTS}:" in str(run):
        row = find_row(str(run))
        path = Path(str(run).rpartition(":")[0]).parent / row["run"]
    for folder in (path, path / "export"):
        if _is_export(folder):
            return folder
    usable = [folder for folder in _results_in(path) if (folder / "export").is_dir()]
    if len(usable) == 1:
        return export_of(usable[0])
    if usable:
        names = ", ".join(map(str, usable[:4])) + (", ..." if len(usable) > 4 else "")
        raise UserError(f"{path} has {len(usable)} results that can be used; choose one as run=: {names}")
    raise UserError(
        f"{run} holds no result of a benchmark; expected the folder of one, such as RUN_DIR/UPSTREAM/TASK, or "
        "RUN_DIR/results.jsonl:KEY"
    )


def is_result(run: str | Path) -> bool:
    """Tell whether `run` names a result of a benchmark, or a folder with some, and not an encoder."""
    path = Path(run)
    if f"{RESULTS}:" in str(run) or (path / RESULTS).is_file():
        return True
    return _is_export(path) or _is_export(path / "export") or bool(_results_in(path))


def _is_export(folder: Path) -> bool:
    return (folder / "head.json").is_file() or _is_head(folder)


def _results_in(path: Path) -> list[Path]:
    """Return the folders of the results in a benchmark's run directory, or in that of one of its tasks."""
    if (path / RESULTS).is_file():
        return [path / row["run"] for row in read_lines(path / RESULTS)]
    found = sorted(place.parent for place in path.glob("*/export"))
    return [folder for folder in found if _is_export(folder / "export")]


def _is_head(export: Path) -> bool:
    path = export / "config.json"
    return path.is_file() and "upstream_sha256" in read_json(path)


def _check(about: dict[str, Any], folder: Path) -> None:
    if "facts" not in about:
        raise UserError(
            f"{folder} is of an earlier version, which did not write down what its outputs mean; run the benchmark "
            "again into another run_dir (features come from the cache)"
        )


def _task(about: dict[str, Any]) -> BenchmarkTask:
    """Return the task of a head, built of what it remembers of its corpus."""
    name = about["config"]["task"].partition("/")[0]
    return registry.module("downstream", name).TASK(
        Remembered(about["corpus"], about["facts"], about["fold"]), **about["config"]["arguments"]
    )


def _frozen_upstream(about: dict[str, Any], folder: Path, given: str | None) -> Upstream:
    """Return the upstream that a head was trained on."""
    config = about["config"]
    # A path is where it lay, whatever the working directory is now.
    name = given or about.get("upstream_path") or config["upstream"]
    try:
        upstream = load_upstream(name, **config.get("settings", {}))
    except UserError as error:
        if given:
            raise
        raise UserError(
            f"the upstream {name} of {folder} cannot be loaded any more ({error}); say where it is now: upstream=NAME"
        ) from error
    if "statistics" in about:
        upstream.set_statistics(*(torch.tensor(values, dtype=torch.float64) for values in about["statistics"]))
    digest = weights_sha256(upstream)
    if digest != about["upstream_sha256"]:
        raise UserError(
            f"{folder} was trained on an upstream with the digest {about['upstream_sha256'][:16]}, {name} has "
            f"{digest[:16]}; say where the right one is: upstream=NAME"
        )
    return upstream


def _frozen(about: dict[str, Any], folder: Path, task: DownstreamTask, upstream: Upstream) -> FrozenModel:
    probe = build_head(task, upstream.num_layers + 1, upstream.hidden_size, upstream.downsample_rate, seed=0)
    deviations = task.pooled and task.pooling == "mean_std"
    standardize = None
    if about["config"].get("standardize"):
        size = (upstream.num_layers + 1, upstream.hidden_size * (2 if deviations else 1))
        standardize = Standardize(torch.zeros(size), torch.ones(size))
    head = SelectedHead(probe, standardize, deviations)
    weights = folder / "model.safetensors"
    load_weights(head, load_safetensors(weights), weights)
    return FrozenModel(upstream, head)


def _finetuned(about: dict[str, Any], folder: Path, task: DownstreamTask, upstream: Upstream) -> FinetunedModel:
    settings = about["config"]["finetuning"]
    model = build_model(upstream, task, layers=settings["layers"], head=settings["head"], seed=0)
    weights = folder / "head.safetensors"
    load_weights(model.head, load_safetensors(weights), weights)
    return model
