"""Settings of fine-tuning, checked; their defaults stand in `speechssl/conf/benchmark.yaml`."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from speechssl.errors import UserError, nearest
from speechssl.optim.epochs import KINDS
from speechssl.train.ranks import PRECISIONS

CHOICES = {
    "optimizer": ("adam", "adamw"),
    "schedule": KINDS,
    "layers": ("last", "mix"),
    "head": ("task", "linear", "mean"),
    "loss": ("task", "bce", "ce"),
    "select": ("dev", "last", "average"),
    "precision": PRECISIONS,
}
POSITIVE = ("head_lr", "layer_decay", "epochs", "batch_size", "accumulate", "eval_every", "mixup_beta", "save_every")
NOT_NEGATIVE = (
    "warmup_steps",
    "weight_decay",
    "clip_norm",
    "mixup",
    "label_smoothing",
    "frequency_mask",
    "time_mask",
    "time_mask_share",
    "time_warp",
    "freeze_epochs",
    "num_workers",
)

AT_MOST_ONE = {
    "mixup": "a probability per utterance",
    "label_smoothing": "a share of a label's mass",
    "time_mask_share": "a share of a clip's frames",
    "layer_decay": "a factor on the learning rate per layer",
}


@dataclass(frozen=True)
class FinetuneSettings:
    """The group `finetuning` of `speechssl benchmark`; the YAML says what each key means."""

    lrs: list[float]
    head_lr: float
    layer_decay: float
    epochs: int
    steps: int | None
    batch_size: int
    accumulate: int
    optimizer: str
    weight_decay: float
    betas: list[float]
    clip_norm: float
    schedule: str
    warmup_steps: int
    milestones: dict[str, int]
    gamma: float
    lr_floor: float
    freeze_epochs: int
    layers: str
    head: str
    loss: str
    label_smoothing: float
    mixup: float
    mixup_beta: int
    frequency_mask: int
    time_mask: int
    time_mask_share: float
    time_warp: int
    noise: bool
    roll: float | None
    balance: bool | None
    crop_seconds: float | None
    eval_every: int
    average_from: int | None
    select: str
    precision: str
    save_every: int
    num_workers: int

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            found = getattr(self, name)
            if found not in known:
                hint = nearest(str(found), known)
                raise UserError(f"finetuning.{name} expects one of {', '.join(known)}, found {found!r}{hint}")
        for names, limit, words in ((POSITIVE, 1e-12, "more than 0"), (NOT_NEGATIVE, 0, "0 or more")):
            for name in names:
                if getattr(self, name) < limit:
                    raise UserError(f"finetuning.{name} expects {words}, found {getattr(self, name)}")
        for name, example in (("lrs", "[1e-4]"), ("betas", "[0.9,0.999]")):
            found = getattr(self, name)
            if not isinstance(found, list) or not all(map(_is_number, found)):
                raise UserError(f"finetuning.{name} expects a list of numbers such as {example}, found {found!r}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"finetuning.betas expects two numbers in [0, 1), found {self.betas}")
        if not self.lrs or min(self.lrs) <= 0 or len(set(self.lrs)) < len(self.lrs):
            raise UserError(f"finetuning.lrs expects different numbers above 0, found {self.lrs}")
        if set(self.milestones) != {"start", "every"} or min(self.milestones.values()) < 1:
            raise UserError(f"finetuning.milestones expects start and every, at least 1 epoch, found {self.milestones}")
        self._check_augmentation()
        self._check_selection()

    def _check_augmentation(self) -> None:
        if self.roll is not None and not (_is_number(self.roll) and self.roll >= 0):
            raise UserError(f"finetuning.roll expects seconds, 0 for any sample, or null, found {self.roll!r}")
        if self.time_mask and self.time_mask_share:
            raise UserError("give finetuning.time_mask (frames) or finetuning.time_mask_share (of a clip), not both")
        if self.label_smoothing and self.loss != "ce":
            raise UserError(f"finetuning.label_smoothing is for finetuning.loss=ce, found loss={self.loss}")
        for name, what in AT_MOST_ONE.items():
            if getattr(self, name) > 1:
                raise UserError(f"finetuning.{name} is {what}, at most 1; found {getattr(self, name)}")
        if self.mixup and self.loss == "task":
            raise UserError(
                "finetuning.mixup makes soft labels, which the task's own loss cannot read; use "
                "finetuning.loss=ce (one label) or finetuning.loss=bce (any number)"
            )

    def _check_selection(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise UserError(f"finetuning.steps expects at least 1, or null to count epochs, found {self.steps}")
        if self.crop_seconds is not None and self.crop_seconds <= 0:
            raise UserError(f"finetuning.crop_seconds expects more than 0, or null, found {self.crop_seconds}")
        if self.select == "average" and self.average_from is None:
            raise UserError("finetuning.select=average needs finetuning.average_from, the first epoch to be averaged")
        if self.select != "average" and self.average_from is not None:
            raise UserError(
                f"finetuning.average_from={self.average_from} averages weights that finetuning.select={self.select} "
                "does not use; set finetuning.select=average or finetuning.average_from=null"
            )
        if self.average_from is not None and self.steps is None and not 1 <= self.average_from <= self.epochs:
            raise UserError(f"finetuning.average_from expects an epoch in 1..{self.epochs}, found {self.average_from}")

    @property
    def selects(self) -> bool:
        """Whether dev chooses anything."""
        return self.select == "dev" or len(self.lrs) > 1

    @property
    def augments(self) -> bool:
        """Whether spectrograms are augmented."""
        return bool(self.frequency_mask or self.time_mask or self.time_mask_share or self.time_warp or self.noise)


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)


def read_settings(values: Mapping[str, Any]) -> FinetuneSettings:
    """Return checked settings.

    Raises:
        UserError: unknown, missing or wrong values.
    """
    known = [field.name for field in fields(FinetuneSettings)]
    for name in values:
        if name not in known:
            raise UserError(f"fine-tuning has no setting {name!r} (known: {', '.join(known)}){nearest(name, known)}")
    missing = [name for name in known if name not in values]
    if missing:
        raise UserError(f"fine-tuning needs the setting {missing[0]!r}")
    return FinetuneSettings(**values)


@dataclass(frozen=True)
class Extent:
    """How long a training is.

    Attributes:
        total: optimizer steps.
        epoch: optimizer steps of an epoch.
        evaluate: optimizer steps between evaluations on dev.
    """

    total: int
    epoch: int
    evaluate: int
