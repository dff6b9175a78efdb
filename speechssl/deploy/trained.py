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

    @torch.no_grad()
    def predict(self, waveforms: Sequence[Tensor]) -> list[dict[str, Any]]:
        """Return what `DownstreamTask.predictions` says of each of these 1-D waveforms."""
        if self.model is None or not isinstance(self.task, DownstreamTask):
            raise UserError(f"task {self.task.name} trains nothing and answers no single recording")
        device = next((p.device for p in self.model.state_dict().values()), torch.device("cpu"))
        padded, lengths = self.upstream.checked(list(waveforms))
        outputs, valid = self.model(padded.to(device), lengths.to(device))
        return self.task.predictions(outputs, valid, self.frame_seconds, **self.choices)


def load_trained(run: str | Path, upstream: str | None = None) -> TrainedTask:
    """Return what a downstream run directory holds.

    Args:
        run: the folder of one result, its `export/`, a benchmark's run directory with a single result, or
            `RUN_DIR/results.jsonl:KEY` (see `speechssl.probe.reproduce.find_row`).
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
        if (folder / "head.json").is_file() or _is_head(folder / "config.json"):
            return folder
    if (path / RESULTS).is_file():
        found = [path / row["run"] for row in read_lines(path / RESULTS)]
        usable = [folder for folder in found if (folder / "export").is_dir()]
        if len(usable) == 1:
            return export_of(usable[0])
        names = ", ".join(map(str, usable[:4])) + (", ..." if len(usable) > 4 else "")
        raise UserError(f"{path} has {len(usable)} results that can be used; choose one as run=: {names or 'none'}")
    raise UserError(
        f"{run} holds no result of a benchmark; expected the folder of one, such as RUN_DIR/UPSTREAM/TASK/NAME, or "
        "RUN_DIR/results.jsonl:KEY"
    )


def _is_head(path: Path) -> bool:
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
    settings = config.get("settings", {})
    names = [given] if given else [config["upstream"], about.get("upstream_path", "")]
    if not given and "upstream_path" in about:
        names.reverse()  # where it lay, whatever the working directory is now
    for name in dict.fromkeys(filter(None, names)):
        if name == about.get("upstream_path") and not Path(name).exists():
            continue
        upstream = load_upstream(name, **settings)
        if "statistics" in about:
            upstream.set_statistics(*(torch.tensor(values) for values in about["statistics"]))
        digest = weights_sha256(upstream)
        if digest == about["upstream_sha256"]:
            return upstream
        raise UserError(
            f"{folder} was trained on an upstream with the digest {about['upstream_sha256'][:16]}, {name} has "
            f"{digest[:16]}; say where the right one is: upstream=NAME"
        )
    raise UserError(f"the upstream {config['upstream']} of {folder} is gone; say where it is now: upstream=NAME")


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
