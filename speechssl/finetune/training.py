"""One training of one model: its length, batches, learning rates, and how it is scored.

An epoch is the number of utterances over the batch size (times accumulated batches), rounded, in optimizer steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from speechssl.errors import UserError
from speechssl.finetune import audio, draws, stream
from speechssl.finetune.model import FinetunedModel, build_model
from speechssl.finetune.objective import Finetuning
from speechssl.finetune.settings import Extent, FinetuneSettings
from speechssl.interfaces import DownstreamTask, Examples, Upstream
from speechssl.optim.epochs import FinetuneSchedule
from speechssl.probe.outcome import Place
from speechssl.train.loop import Trainer

LOG_EVERY = 50  # steps, or an epoch where that is shorter


@dataclass(frozen=True)
class Training:
    """What the trainings of a result have in common.

    Attributes:
        task: gives head, loss and direction of the main metric.
        upstream: where every training starts; stays as it is.
        settings: of fine-tuning.
        device: "cpu" or "cuda".
        place: run directory, seed of head and batches, digest of all that the result depends on.
    """

    task: DownstreamTask
    upstream: Upstream
    settings: FinetuneSettings
    device: str
    place: Place

    def extent(self, utterances: int) -> Extent:
        """Return how long a training on so many utterances is."""
        settings = self.settings
        epoch = max(1, round(utterances / (settings.batch_size * settings.accumulate)))
        total = settings.epochs * epoch if settings.steps is None else settings.steps
        if settings.average_from is not None and settings.average_from * epoch > total:
            raise UserError(
                f"finetuning.average_from={settings.average_from} is never reached: {total} steps are "
                f"{total / epoch:.1f} epochs of {epoch} steps"
            )
        return Extent(total, epoch, settings.eval_every * (epoch if settings.steps is None else 1))

    def fit(
        self,
        examples: Examples,
        lr: float,
        name: str,
        score: Callable[[FinetunedModel], float] | None,
        stop: int | None = None,
    ) -> Finetuning:
        """Train, or continue, and return the trained model with all that was kept of it.

        Args:
            examples: to train on.
            lr: peak rate of the encoder.
            name: of the training's own run directory in that of the result.
            score: main metric of a model on dev; None looks at no dev.
            stop: optimizer steps after which to stop, with the learning rates of the whole training; None = all.
        """
        settings, extent, place = self.settings, self.extent(len(examples.cuts)), self.place
        model = build_model(self.upstream, self.task, layers=settings.layers, head=settings.head, seed=place.seed)
        tuning = Finetuning(model, self.task, settings, extent)
        on_evaluation = None if score is None else lambda step: tuning.evaluate(step, score)
        self.trainer(stop or extent.total, extent).fit(
            tuning,
            self.batches(examples),
            optimizer=partial(Finetuning.optimizer, lr=lr),
            schedule=self.schedule(extent),
            seed=place.seed,
            run_dir=None if place.folder is None else place.folder / name,
            settings={"settings": place.settings, "training": name},
            config=place.config | {"lr": lr, "utterances": len(examples.cuts)},
            on_evaluation=on_evaluation,
        )
        return tuning

    def schedule(self, extent: Extent) -> FinetuneSchedule:
        settings = self.settings
        return FinetuneSchedule(
            settings.schedule,
            total_steps=extent.total,
            steps_per_epoch=extent.epoch,
            warmup_steps=settings.warmup_steps,
            gamma=settings.gamma,
            floor=settings.lr_floor,
            **settings.milestones,
        )

    def trainer(self, steps: int, extent: Extent) -> Trainer:
        settings = self.settings
        return Trainer(
            max_steps=steps,
            save_every=settings.save_every,
            log_every=min(LOG_EVERY, extent.epoch),
            eval_every=extent.evaluate,
            accumulate=settings.accumulate,
            precision=settings.precision,
            accelerator=self.device,
            devices=1,
            clip_norm=settings.clip_norm,
            keep_checkpoints=1,
            max_unreadable=1.0,
            progress=True,
        )

    def batches(self, examples: Examples) -> stream.TrainBatches:
        """Return endless train batches, with class targets where the loss needs them."""
        settings = self.settings
        classes = draws.class_lists(examples.labels)
        if settings.balance is None:
            weights = self.task.sample_weights(examples)
        else:
            weights = draws.class_balance(classes) if settings.balance else None
        labelled = audio.LabelledAudio(
            examples,
            self.place.seed,
            classes=None if settings.loss == "task" else classes,
            num_classes=len(getattr(self.task, "classes", ())),
            crop_seconds=settings.crop_seconds,
            mixup=audio.Mixup(settings.mixup, settings.mixup_beta) if settings.mixup else None,
            roll_seconds=settings.roll,
        )
        order = draws.Draws(len(labelled), settings.batch_size, self.place.seed, weights)
        return stream.TrainBatches(labelled, order, settings.num_workers)
