"""Speaker verification with SUPERB's x-vector head and AM-softmax (Yang et al., 2021, https://arxiv.org/abs/2105.01051).

Differs from the published runs: they report the smallest equal error rate of ten checkpoints on the test trials; here
dev trials select, test is read once, and the number selected on test stands beside it, marked. Utterances with
fewer frames than the head looks at are repeated from their beginning; s3prl fails on them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from speechssl.data.cuts import Corpus
from speechssl.downstream.asv.dataset import SPEAKER, TRIALS, Trials, column_trials, listed_trials
from speechssl.errors import UserError
from speechssl.interfaces import DownstreamTask, Examples, Metric
from speechssl.losses.am_softmax import am_softmax_loss
from speechssl.metrics.equal_error_rate import TrialErrors
from speechssl.nn.xvector import XVector

SAMPLE_RATE = 16000


class SpeakerVerification(DownstreamTask):
    """Equal error rate of trials; the head is trained to tell the speakers of the train split apart.

    Args:
        corpus: the prepared corpus.
        label: column of the manifest that holds the speaker.
        trials: {"dev": FILE, "test": FILE} of trial lists; of splits that are not named the column `trials` is read.
        min_seconds: train utterances have to be longer than this.
        crop_seconds: longest piece of an utterance in a train batch; null = whole utterances.
        width: of the layers over time, and of the embedding.
        pooled_size: channels whose mean and standard deviation over time are taken.
        scale: factor of the cosines.
        margin: what the right speaker's cosine has to be ahead by.
        weight_decay: of AdamW.
        test_selected: checkpoints whose best result on test is given beside the honest one.
        steps: optimizer steps of head training.
        batch_size: utterances per step.
        eval_every: steps between two evaluations on dev.
        lrs: learning rates of the grid; the best on dev is kept.
        clip_norm: largest gradient norm of a head; 0 does not clip.
    """

    name = "asv"
    monitor = "eer"
    mode = "min"
    superb: ClassVar[dict[str, str]] = {"eer": "min"}

    def __init__(
        self,
        corpus: Corpus,
        *,
        label: str = SPEAKER,
        trials: Mapping[str, str] | None = None,
        min_seconds: float = 2.0,
        crop_seconds: float | None = 8.0,
        width: int = 512,
        pooled_size: int = 1500,
        scale: float = 30.0,
        margin: float = 0.4,
        weight_decay: float = 0.01,
        test_selected: int = 10,
        steps: int = 200_000,
        batch_size: int = 50,
        eval_every: int = 20_000,
        lrs: Sequence[float] = (1e-4, 5e-5),
        clip_norm: float = 1000.0,
    ):
        self.corpus, self.label = corpus, label
        self.lists, self.min_seconds, self.crop_seconds = dict(trials or {}), min_seconds, crop_seconds
        self.width, self.pooled_size = width, pooled_size
        self.scale, self.margin = scale, margin
        self.weight_decay, self.test_selected = weight_decay, test_selected
        self.steps, self.batch_size, self.eval_every = steps, batch_size, eval_every
        self.lrs, self.clip_norm = tuple(lrs), clip_norm
        if set(self.lists) - {"dev", "test"}:
            raise UserError(f"task.trials expects lists for dev and test, found {', '.join(self.lists)}")
        self.classes = self.from_train("classes", self._speakers)
        self.index = {name: number for number, name in enumerate(self.classes)}

    def _speakers(self) -> list[str]:
        table = self.corpus.table("train")
        names = table.column(self.label)
        long_enough = self._long_enough(table)
        found = {str(name) for name, fits in zip(names, long_enough, strict=True) if name is not None and fits}
        if len(found) < 2:
            raise UserError(
                f"speaker verification needs at least two speakers (column {self.label!r}) with utterances of more "
                f"than {self.min_seconds:g} s in the train split of {self.corpus.name}, found {len(found)}; name the "
                "right column with label=COLUMN, or lower task.min_seconds"
            )
        return sorted(found)

    def _long_enough(self, table: Any) -> list[bool]:
        return [int(samples) > self.min_seconds * SAMPLE_RATE for samples in table.num_samples]

    def trials(self, split: str) -> Trials:
        """Return the trials of dev or test, by first utterance."""
        table = self.corpus.table(split)
        if split in self.lists:
            return listed_trials(self.lists[split], [*table.ids, *self.corpus.left_out])
        found = column_trials(table.ids, table.column(TRIALS))
        if not found:
            raise UserError(
                f"{split} of {self.corpus.name} has no trials (column {TRIALS!r}); "
                f"give a list of them with task.trials={{{split}: FILE}}"
            )
        return found

    def dataset(self, split: str) -> Examples:
        """Return train utterances with "class", or those of the trials of dev or test with "trials"."""
        table = self.corpus.table(split)
        if split == "train":
            names, fits = table.column(self.label), self._long_enough(table)
            kept = [i for i, name in enumerate(names) if name is not None and fits[i]]
            reference = [str(names[i]) for i in kept]
            return Examples(table.select(kept), {"class": [self.index[n] for n in reference], "reference": reference})
        trials = self.trials(split)
        heard = set(trials).union(other for pairs in trials.values() for other, _ in pairs)
        kept = [i for i, name in enumerate(table.ids) if name in heard]
        return Examples(table.select(kept), {"trials": [trials.get(table.ids[i]) for i in kept]})

    def check(self) -> None:
        """Refuse trials of utterances that are not there, of one kind only, or at odds with the speakers' names.

        Utterances that could not be read when the corpus was prepared are passed over.
        """
        for split in ("dev", "test"):
            table, trials = self.corpus.table(split), self.trials(split)
            speakers = dict(zip(table.ids, table.column(self.label), strict=True))
            flat = [(first, second, same) for first, pairs in trials.items() for second, same in pairs]
            absent = {name for trial in flat for name in trial[:2]} - speakers.keys()
            flat = [trial for trial in flat if absent.isdisjoint(trial[:2])]
            absent = sorted(absent - self.corpus.left_out)
            if absent:
                raise UserError(
                    f"trials in {split} of {self.corpus.name} name {len(absent)} utterances that are not in that "
                    f"split, such as {absent[0]}; prepare the corpus again"
                )
            kinds = {same for *_, same in flat}
            if len(kinds) < 2:
                raise UserError(
                    f"the {len(flat)} trials in {split} of {self.corpus.name} are all of "
                    f"{'one speaker' if kinds == {1} else 'different speakers'}; an equal error rate needs both kinds"
                )
            wrong = next((trial for trial in flat if _contradicts(speakers, *trial)), None)
            if wrong:
                raise UserError(
                    f"trials in {split} of {self.corpus.name} have {wrong[0]} and {wrong[1]} as "
                    f"{'the same speaker' if wrong[2] else 'different speakers'}, against the column {self.label!r}"
                )

    def chance(self) -> float:
        return 50.0  # one score for all trials

    def head(self, hidden_size: int, downsample_rate: int) -> nn.Module:
        return XVector(hidden_size, len(self.classes), self.width, self.pooled_size)

    def loss(self, outputs: Tensor, lengths: Tensor, labels: dict[str, Any]) -> dict[str, Tensor]:
        """Return the AM-softmax loss of cosines (B, C), and the share of utterances given to the right speaker."""
        target = torch.as_tensor(labels["class"], device=outputs.device)
        right = (outputs.detach().argmax(dim=-1) == target).float().mean()
        return {"loss": am_softmax_loss(outputs, target, self.scale, self.margin), "acc": right}

    def metric(self, **choices: Any) -> Metric:
        return TrialErrors()  # an equal error rate has a threshold of its own

    def tune(self, metric: Metric) -> dict[str, Any]:
        """Return the cosine above which dev trials are taken for one speaker, where both errors are as frequent.

        No number of the benchmark depends on it; it is for use.
        """
        threshold = metric.threshold()
        return {} if threshold is None else {"threshold": threshold}

    def predictions(
        self, outputs: Tensor, lengths: Tensor, frame_seconds: float, **choices: Any
    ) -> list[dict[str, Any]]:
        """Return the "embedding" of length 1; the cosine of two tells how alike the voices are."""
        return [{"embedding": [round(value, 6) for value in row]} for row in outputs.double().tolist()]


def _contradicts(speakers: Mapping[str, Any], first: str, second: str, same: int) -> bool:
    a, b = speakers[first], speakers[second]
    return a is not None and b is not None and (a == b) != bool(same)
