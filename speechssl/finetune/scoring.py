"""What a fine-tuned model says of a split."""

import torch

from speechssl.errors import UserError
from speechssl.finetune.audio import LabelledAudio
from speechssl.finetune.model import FinetunedModel
from speechssl.finetune.stream import ScoringBatches
from speechssl.interfaces import DownstreamTask, Examples, Metric
from speechssl.train.evaluation import evaluating
from speechssl.train.ranks import start_fabric


class Scoring:
    """A labelled split that models are scored on, whole utterances without augmentation.

    Args:
        task: gives the metric.
        examples: the split.
        device: "cpu" or "cuda".
        precision: as in training.
        max_seconds: padded audio per batch.
        num_workers: processes that read audio.
    """

    def __init__(
        self,
        task: DownstreamTask,
        examples: Examples,
        *,
        device: str,
        precision: str,
        max_seconds: float,
        num_workers: int,
    ):
        self.task, self.examples = task, examples
        self.batches = ScoringBatches(LabelledAudio(examples, seed=0), max_seconds, num_workers)
        self.fabric = start_fabric(device, 1, precision)
        self.unreadable: set[str] = set()

    @torch.no_grad()
    def metric(self, model: FinetunedModel) -> Metric:
        """Return the task's metric, filled with what a model says; the model's modes are given back."""
        metric, scored = self.task.metric(), 0
        with evaluating(model.to(self.fabric.device)):
            for batch in self.batches.once():
                self.unreadable |= {name for name, _ in batch.unreadable}
                if batch.empty:
                    continue
                moved = batch.to(self.fabric.device)
                with self.fabric.autocast():
                    outputs, lengths = model(moved.waveforms, moved.lengths)
                metric.update(outputs.float(), lengths, batch.labels, batch.ids)
                scored += len(batch.ids)
        if not scored:
            raise UserError(f"none of the {len(self.examples.cuts)} utterances to be scored is readable")
        return metric

    def readable(self) -> Examples:
        """Return the examples without those that could not be read (after `metric`)."""
        cuts = self.examples.cuts
        kept = [i for i, name in enumerate(cuts.ids) if name not in self.unreadable]
        labels = {name: [values[i] for i in kept] for name, values in self.examples.labels.items()}
        return Examples(cuts.select(kept), labels)

    def main(self, model: FinetunedModel) -> float:
        """Return the main metric."""
        return self.metric(model).compute()[self.task.monitor]
