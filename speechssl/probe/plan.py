"""What users type for a benchmark, as plain lists: upstreams and tasks with their settings, data folders."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechssl import configs, registry
from speechssl.data.cuts import Corpus, fold_folders, open_corpus
from speechssl.data.manifest import CORPUS_FILE
from speechssl.errors import UserError, nearest
from speechssl.hub import family_of, is_foreign
from speechssl.interfaces import BenchmarkTask, DownstreamTask

TRAINING = (
    "steps",
    "batch_size",
    "eval_every",
    "lrs",
    "clip_norm",
)  # settings of a task that `probe.*` may replace


def read_upstreams(value: str | Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Return {label: name} of one upstream, a list of them, or a mapping with labels of one's own.

    Without a label, a path is called by its last part and everything else by its name.
    """
    if isinstance(value, Mapping):
        return {str(label): str(name) for label, name in value.items()}
    names = [value] if isinstance(value, str) else [str(name) for name in value]
    labels = [_label(name) for name in names]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise UserError(
            f"two upstreams are called {twice[0]!r}; name them yourself: upstream={{first: ..., second: ...}}"
        )
    return dict(zip(labels, names, strict=True))


def _label(name: str) -> str:
    family, colon, rest = name.partition(":")
    if colon:
        return f"{family}:{Path(rest).name}"
    return Path(name).resolve().name if Path(name).is_dir() else name


@dataclass(frozen=True)
class TaskPlan:
    """A task, the size of its head, and the constructor arguments that follow from them."""

    name: str
    size: str
    arguments: dict[str, Any]
    protocol: str
    pooled: bool

    def build(self, corpus: Corpus) -> BenchmarkTask:
        """Return the task on a corpus; raises UserError for a setting it does not have."""
        cls = registry.module("downstream", self.name).TASK
        registry.check_arguments(cls, self.arguments, f"task {self.name}")
        task = cls(corpus, **self.arguments)
        if not isinstance(task, DownstreamTask):
            return task
        for name in ("steps", "batch_size", "eval_every"):
            if getattr(task, name) < 1:
                raise UserError(f"{name} of task {self.name} must be at least 1, found {getattr(task, name)}")
        if not task.lrs or min(task.lrs) <= 0 or len(set(task.lrs)) < len(task.lrs):
            raise UserError(f"lrs of task {self.name} must be different and above 0, found {list(task.lrs)}")
        return task


def read_tasks(
    value: str | Sequence[str],
    probe: Mapping[str, Any],
    label: str | Mapping[str, str] | None,
    extra: Mapping[str, Any],
    mode: str = "",
) -> list[TaskPlan]:
    """Return the tasks of "ks", "asr/debug" or a list of such names.

    Args:
        value: the name or names.
        probe: what is part of the protocol's name (see `_marks`), and replacements of `TRAINING` settings; None
            leaves the task's own.
        label: column with the labels, for one task or {task: column}.
        extra: further constructor arguments, for a single task only.
        mode: part of the protocol's name: how upstreams are fine-tuned, or "" where they are frozen.
    """
    names = [value] if isinstance(value, str) else [str(name) for name in value]
    if len(names) > 1 and (extra or isinstance(label, str)):
        what = "task.*" if extra else "label"
        some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise UserError(f"{what} needs a single task, found {some}; run them one by one")
    plans = []
    for name in names:
        task, given = configs.load("downstream", name)
        size = configs.split_name("downstream", name)[1]
        column = label.get(task) if isinstance(label, Mapping) else label
        cls = registry.module("downstream", task).TASK
        trained = issubclass(cls, DownstreamTask)
        given |= {key: probe[key] for key in TRAINING if trained and probe.get(key) is not None}
        given |= dict(extra) | ({"label": column} if column else {})
        marks = [mode, *(_marks(given, probe, cls.pooled) if trained else ())]
        protocol = "+".join([size, *filter(None, [*marks, f"label={column}" if column else ""])])
        plans.append(TaskPlan(task, size, given, protocol, cls.pooled))
    if len({plan.name for plan in plans}) < len(plans) or not plans:
        raise UserError(f"expected different tasks, found {', '.join(names) or 'none'}")
    return plans


def check_seeds(seeds: Sequence[Any]) -> None:
    """Raise UserError for seeds that are none."""
    numbers = [seed for seed in seeds if isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0]
    if not seeds or len(set(numbers)) < len(seeds):
        raise UserError(f"seeds expects different whole numbers from 0 on, such as [0,1,2], found {list(seeds)}")


def _marks(arguments: Mapping[str, Any], probe: Mapping[str, Any], pooled: bool) -> list[str]:
    """Return what the protocol's name says of training on frozen features, where it is not the published way."""
    pooling, alphabet = arguments.get("pooling", "mean"), arguments.get("alphabet", "english")
    return [
        pooling if pooling != "mean" else "",
        f"alphabet={alphabet}" if alphabet != "english" else "",
        "standardize" if probe["standardize"] else "",
        "" if probe.get("fixed_batch", True) or pooled else "budget",
        "halving" if probe.get("halving") else "",
    ]


ALL = "all"


def every_task(value: Any) -> str | None:
    """Return the size in "all" or "all/debug" ("" = what the corpus suggests), or None for names of tasks."""
    names = [value] if isinstance(value, str) else list(value)
    if not any(str(name).partition("/")[0] == ALL for name in names):
        return None
    if len(names) > 1:
        raise UserError(f"tasks=all stands alone, found {', '.join(map(str, names))}; give all, or names of tasks")
    return str(names[0]).partition("/")[2]


def sized_tasks(size: str, data: Any) -> list[str]:
    """Return all tasks of a size, which is left to the corpus where it is "": it may suggest one, else SUPERB's."""
    if not isinstance(data, str | Path):
        raise UserError("tasks=all expects one prepared folder as data=, with a view for every task that has one")
    chosen = size or open_corpus(fold_folders(data)[0]).info.get("task_size") or "base"
    sizes = {name: registry.sizes("downstream", name) for name in registry.names("downstream")}
    if not any(chosen in own for own in sizes.values()):
        known = sorted({size for own in sizes.values() for size in own})
        raise UserError(f"no task has a configuration {chosen!r}; known: {', '.join(known)}{nearest(chosen, known)}")
    return [f"{name}/{chosen}" for name, own in sizes.items() if chosen in own]


def view_of(data: str | Path, task: str) -> str:
    """Return the view of a prepared folder that is made for a task, else the folder itself."""
    view = Path(data) / task
    if (view / CORPUS_FILE).is_file() or any(view.glob(f"*/{CORPUS_FILE}")):
        return str(view)
    return str(data)


def finetuning_mode(finetune: bool, preset: str | None, probe: Mapping[str, Any]) -> str:
    """Return what the protocol's name says of fine-tuning, "" without it.

    Raises:
        UserError: a preset without fine-tuning, or settings of frozen features with it.
    """
    if not finetune:
        if preset:
            raise UserError(f"preset={preset} is a recipe for fine-tuning; add finetune=true")
        return ""
    given = [key for key in TRAINING if probe.get(key) is not None] + (["standardize"] if probe["standardize"] else [])
    if given:
        hint = f"use finetuning.{given[0]}" if given[0] not in ("standardize",) else "leave it out"
        raise UserError(f"probe.{given[0]} is for heads on frozen features; with finetune=true {hint}")
    return f"finetune={preset}" if preset else "finetune"


def read_settings(upstreams: Mapping[str, str], settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return {label: constructor arguments} of upstreams {label: name}: of the settings, those that each one has.

    Raises:
        UserError: a setting that none of them has.
    """
    own: dict[str, dict[str, Any]] = {label: {} for label in upstreams}
    known: dict[str, None] = {}
    for label, name in upstreams.items() if settings else ():
        module = registry.module("upstream", family_of(name))
        parameters = inspect.signature(module.FOREIGN.load if is_foreign(name) else module.UPSTREAM).parameters
        if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):  # the library says which it takes
            parameters = settings
        known |= dict.fromkeys(parameters)
        own[label] = {key: value for key, value in settings.items() if key in parameters}
    for key in settings:
        if key not in known:
            raise UserError(f"no upstream has a setting {key!r} (settings: {', '.join(known)}){nearest(key, known)}")
    return own


def read_data(value: str | Sequence[str] | Mapping[str, Any], tasks: Sequence[TaskPlan]) -> dict[str, list[TaskPlan]]:
    """Return {folder: tasks on it}; tasks that need every frame come first, so that nothing is encoded twice.

    Args:
        value: a folder for all tasks, several (folds), or {task: folder or folders}; a folder that holds nothing but
            prepared folds stands for all of them.
        tasks: all of them.
    """
    if isinstance(value, Mapping):
        known = [task.name for task in tasks]
        for name in value:
            if name not in known:
                raise UserError(f"data names a task {name!r}; tasks are {', '.join(known)}{nearest(str(name), known)}")
        missing = [name for name in known if name not in value]
        if missing:
            raise UserError(f"data says nothing of the task {missing[0]!r}; give data={{{missing[0]}: FOLDER, ...}}")
    folders: dict[str, list[TaskPlan]] = {}
    for task in sorted(tasks, key=lambda task: task.pooled):
        chosen = value[task.name] if isinstance(value, Mapping) else value
        given = [chosen] if isinstance(chosen, str) else chosen
        for folder in (view for one in given for view in fold_folders(view_of(one, task.name))):
            folders.setdefault(str(folder), []).append(task)
    if not folders:
        raise UserError("data names no folder")
    return folders
