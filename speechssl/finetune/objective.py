"""What the training loop sees of fine-tuning: the loss, and in buffers and copies all that selection needs.

An interrupted run therefore continues exactly: best and averaged weights and the curve on dev travel in checkpoints.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from speechssl.finetune.model import FinetunedModel
from speechssl.finetune.settings import Extent, FinetuneSettings
from speechssl.interfaces import Batch, DownstreamTask, PretrainTask, Upstream
from speechssl.losses.soft_labels import soft_binary_cross_entropy, soft_cross_entropy
from speechssl.nn.spectrogram_augment import add_noise, mask_spectrogram, shift_in_time, warp_time
from speechssl.optim.groups import decay_groups, layer_factors, with_rates
from speechssl.probe.grid import improves

Score = Callable[[FinetunedModel], float]


class Finetuning(PretrainTask):
    """A model on its way, with one learning rate.

    Args:
        model: changed in place.
        task: gives loss and direction of the main metric.
        settings: of fine-tuning.
        extent: of the training.
    """

    def __init__(self, model: FinetunedModel, task: DownstreamTask, settings: FinetuneSettings, extent: Extent):
        super().__init__()
        self.model, self.task, self.settings, self.extent = model, task, settings, extent
        self.best = _copy(model) if settings.select == "dev" else None
        self.average = _copy(model) if settings.select == "average" else None
        evaluations = extent.total // extent.evaluate + 1
        self.register_buffer("steps_done", torch.zeros((), dtype=torch.long))
        self.register_buffer("averaged", torch.zeros((), dtype=torch.long))  # epochs
        self.register_buffer("best_value", torch.full((), torch.nan, dtype=torch.float64))
        self.register_buffer("best_step", torch.zeros((), dtype=torch.long))
        self.register_buffer("curve", torch.full((evaluations,), torch.nan, dtype=torch.float64))
        self.register_buffer("curve_steps", torch.zeros(evaluations, dtype=torch.long))

    @property
    def upstream(self) -> Upstream:
        return self.model.upstream

    def optimizer(self, lr: float) -> torch.optim.Optimizer:
        """Return Adam (decay added to all gradients) or AdamW (decay of matrices), the head with its own rate."""
        settings, upstream = self.settings, self.model.upstream
        factors = None if settings.layer_decay == 1 else layer_factors(upstream, settings.layer_decay)
        groups = with_rates(self._groups(upstream), lr, factors)
        groups += with_rates(self._groups(self.model.head), lr * settings.head_lr)
        cls = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
        return cls(groups, betas=tuple(settings.betas), weight_decay=settings.weight_decay, fused=True)

    def _groups(self, module: nn.Module) -> list[dict[str, Any]]:
        if self.settings.optimizer == "adamw":
            return decay_groups(module, self.settings.weight_decay)
        trainable = [p for p in module.parameters() if p.requires_grad]
        return [{"params": trainable}] if trainable else []

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean loss over a batch's utterances, and their number as its weight."""
        frozen = self.settings.freeze_epochs * self.extent.epoch
        if frozen:
            still = int(self.steps_done) < frozen
            self.model.upstream.train(self.training and not still).requires_grad_(not still)
        augment = (lambda x, frames: self.augment(x, frames, batch.seeds)) if self._augments() else None
        outputs, lengths = self.model(batch.waveforms, batch.lengths, augment)
        if self.settings.loss == "task":
            values = self.task.loss(outputs, lengths, batch.labels)
        else:
            values = {"loss": self._soft_loss(outputs, batch.labels["target"])}
        logged = {name: value.detach() for name, value in values.items() if name != "loss"}
        weight = torch.tensor(float(len(batch.ids)), device=outputs.device)
        return {"loss": values["loss"], "weight": weight, **logged}

    def _soft_loss(self, scores: Tensor, target: Tensor) -> Tensor:
        """Return the loss of (B, C) scores; labels are smoothed in training only."""
        if self.settings.loss == "bce":
            return soft_binary_cross_entropy(scores, target)
        return soft_cross_entropy(scores, target, self.settings.label_smoothing if self.training else 0.0)

    def _augments(self) -> bool:
        return self.training and self.settings.augments

    def augment(self, features: Tensor, frames: Tensor, seeds: Tensor) -> Tensor:
        """Return normalised spectrograms (B, T, F), warped, masked, and with noise and a shift in time, as wanted."""
        settings, fill = self.settings, self.model.upstream.mask_value
        if settings.time_warp:
            features = warp_time(features, frames, seeds, farthest=settings.time_warp)
        share = settings.time_mask_share
        times = (share * frames).long() if share else settings.time_mask
        widest = {"widest_bins": settings.frequency_mask, "widest_frames": times}
        features = mask_spectrogram(features, frames, seeds, **widest, fill=fill)
        if settings.noise:
            features = shift_in_time(add_noise(features, frames, seeds), frames, seeds)
        return features

    def gradient_groups(self) -> list[list[nn.Parameter]]:
        """Return all of the model as one group, whatever is frozen at the moment."""
        return [list(self.model.parameters())]

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Average the weights at the end of an epoch."""
        self.steps_done.fill_(step)
        epoch, rest = divmod(step, self.extent.epoch)
        if self.average is None or rest or epoch < self.settings.average_from:
            return
        self.averaged += 1
        for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(value, 1.0 / float(self.averaged))
        for mean, value in zip(self.average.buffers(), self.model.buffers(), strict=True):
            mean.copy_(value)

    @torch.no_grad()
    def evaluate(self, step: int, score: Score) -> None:
        """Score what would be chosen now; with `select=dev` keep what is strictly better than all before.

        Args:
            step: optimizer steps done; an evaluation of the same step again (after resuming) changes nothing.
            score: main metric of a model on dev.
        """
        if step in self.curve_steps.tolist():
            return
        row = int((self.curve_steps > 0).sum())
        current = self.average if self.average is not None and int(self.averaged) else self.model
        value = score(current)
        self.curve_steps[row], self.curve[row] = step, value
        if self.best is None:
            self.best_value.fill_(value)
            self.best_step.fill_(step)
        elif improves(value, float(self.best_value), self.task.mode):
            self.best_value.fill_(value)
            self.best_step.fill_(step)
            self.best.load_state_dict(self.model.state_dict())

    def chosen(self) -> FinetunedModel:
        """Return the model to be tested: the best, averaged or last one."""
        if self.best is not None:
            return self.best
        return self.average if self.average is not None and int(self.averaged) else self.model

    def dev_curve(self) -> list[list[float]]:
        """Return [[step, main metric on dev], ...]."""
        done = int((self.curve_steps > 0).sum())
        return [list(pair) for pair in zip(self.curve_steps[:done].tolist(), self.curve[:done].tolist(), strict=True)]


def _copy(model: FinetunedModel) -> FinetunedModel:
    return copy.deepcopy(model).requires_grad_(False)
