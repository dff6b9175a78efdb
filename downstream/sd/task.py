"""Diarization with SUPERB's LSTM head (Yang et al., 2021, https://arxiv.org/abs/2105.01051).

Differs from the published runs: threshold and median filter are chosen on dev, not as the best of ten pairs on test,
which stands beside it, marked; recordings are scored whole, not in chunks that each begin with an empty memory; frames
are counted, not segments of a file that rounds them to 10 ms; and labels lie at the features' own frames for any rate.
"""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from speechssl.data.cuts import Corpus
from speechssl.downstream.sd.dataset import ACTIVITY, SAMPLE_RATE, frame_activity, is_activity, speakers_of
from speechssl.downstream.sd.head import LstmHead
from speechssl.errors import UserError
from speechssl.interfaces import DownstreamTask, Examples, Metric
from speechssl.losses.permutation import permutation_invariant_bce
from speechssl.metrics.diarization import DiarizationErrors, count_errors, found_speech, padded_rows, scored_segments
from speechssl.nn.padding import lengths_to_mask

HOP = 160  # samples of the frames, 10 ms, on which answers without listening are counted
RECORDINGS = 64  # counted at a time
MOST_SPEAKERS = 6  # whose 720 orders are still quick to try
TOLERANCE = 0.1  # seconds that speech may end after its recording: rounded times


class Diarization(DownstreamTask):
    """Diarization error rate of recordings of a few speakers each.

    Args:
        corpus: the prepared corpus.
        label: column of the manifest with [speaker, start, end] of all speech, in seconds.
        lstm_size: width of the LSTM.
        num_layers: LSTM layers.
        frame_ms: neighbouring frames are joined up to this many milliseconds; null joins none.
        chunk_seconds: longer train recordings become several of at most this length; null leaves them whole.
        steps: optimizer steps of head training.
        batch_size: recordings per step.
        eval_every: steps between two evaluations on dev.
        lrs: learning rates of the grid; the best on dev is kept.
        clip_norm: largest gradient norm of a head; 0 does not clip.
    """

    name = "sd"
    monitor = "der"
    mode = "min"
    selector = ("frame_acc", "max")
    finetunable = False  # fine-tuning makes no labels of frames
    superb: ClassVar[dict[str, str]] = {"der": "min"}

    def __init__(
        self,
        corpus: Corpus,
        *,
        label: str = ACTIVITY,
        lstm_size: int = 512,
        num_layers: int = 1,
        frame_ms: float | None = None,
        chunk_seconds: float | None = 40.0,
        steps: int = 30_000,
        batch_size: int = 32,
        eval_every: int = 500,
        lrs: Sequence[float] = (1e-3, 1e-4, 1e-5),
        clip_norm: float = 1.0,
    ):
        self.corpus, self.label = corpus, label
        self.sizes = {"lstm_size": lstm_size, "num_layers": num_layers}
        self.frame_ms, self.chunk_seconds = frame_ms, chunk_seconds
        self.steps, self.batch_size, self.eval_every = steps, batch_size, eval_every
        self.lrs, self.clip_norm = tuple(lrs), clip_norm
        self.num_speakers = self.from_train("num_speakers", self._most_speakers)
        if self.num_speakers > MOST_SPEAKERS:
            raise UserError(
                f"diarization expects at most {MOST_SPEAKERS} speakers in a recording, found {self.num_speakers} in "
                f"train of {corpus.name}; cut recordings into shorter ones, or leave some out"
            )

    def _most_speakers(self) -> int:
        """Return how many speakers a train recording has at most."""
        return max(len(speakers_of(activity)) for activity in self.dataset("train").labels["activity"])

    def dataset(self, split: str) -> Examples:
        """Return the recordings of a split that say who speaks when."""
        table = self.corpus.table(split)
        activity = table.column(self.label)
        kept = [i for i, spoken in enumerate(activity) if spoken is not None]
        strange = [activity[i] for i in kept if not is_activity(activity[i])]
        if strange:
            raise UserError(
                f"diarization expects lists of [speaker, start, end] in seconds in the column {self.label!r}, found "
                f"{strange[0]!r} in {split} of {self.corpus.name}; name the right column with label=COLUMN"
            )
        if not any(activity[i] for i in kept):
            raise UserError(
                f"diarization found no speech in {split} of {self.corpus.name} (column {self.label!r}); expected lists "
                "of [speaker, start, end] in seconds; name the right column with label=COLUMN"
            )
        return Examples(table.select(kept), {"activity": [activity[i] for i in kept]})

    def check(self) -> None:
        """Refuse times outside a recording, and dev or test recordings of more speakers than training ever had."""
        for split in self.splits:
            examples = self.dataset(split)
            ids, seconds = examples.cuts.ids, examples.cuts.num_samples / SAMPLE_RATE
            for name, total, activity in zip(ids, seconds, examples.labels["activity"], strict=True):
                wrong = [one for one in activity if not 0 <= one[1] <= one[2] <= total + TOLERANCE]
                if wrong:
                    raise UserError(
                        f"{name} in {split} of {self.corpus.name} is {total:.2f} s long, its speech {wrong[0]} is not "
                        "inside; expected [speaker, start, end] in seconds from its beginning; prepare it again"
                    )
                if len(speakers_of(activity)) > self.num_speakers:
                    raise UserError(
                        f"{name} in {split} of {self.corpus.name} has {len(speakers_of(activity))} speakers, train has "
                        f"at most {self.num_speakers}; leave such recordings out"
                    )

    def chance(self) -> float:
        """Return the rate of one constant answer, some number of voices all the time, that is best on train."""
        train, test = self._constant_rates("train"), self._constant_rates("test")
        return test[train.index(min(train))]

    def _constant_rates(self, split: str) -> list[float]:
        """Return error rates in percent with 0, 1, ... voices that never stop."""
        total = torch.zeros(self.num_speakers + 1, 4, dtype=torch.float64)
        for rows in self._frames(split):
            truth = padded_rows(rows, max(map(len, rows))) > 0.5
            valid = lengths_to_mask(torch.tensor([len(row) for row in rows]), truth.shape[1])
            voices = torch.ones(self.num_speakers + 1, self.num_speakers).tril(-1).bool()
            answers = voices[:, None, None].expand(-1, *truth.shape)
            total += count_errors(answers, truth, valid).double().sum(dim=1)
        return (100.0 * total[:, :3].sum(dim=-1) / total[:, 3].clamp(min=1.0)).tolist()

    def _frames(self, split: str) -> Iterator[list[Tensor]]:
        """Yield (T, K) zeros and ones of a few recordings at a time."""
        examples = self.dataset(split)
        counts = (examples.cuts.num_samples // HOP).tolist()
        for first in range(0, len(counts), RECORDINGS):
            part = slice(first, first + RECORDINGS)
            pairs = zip(examples.labels["activity"][part], counts[part], strict=True)
            yield [frame_activity(activity, self.num_speakers, 0, count, HOP) for activity, count in pairs]

    def frame_targets(
        self, labels: dict[str, list], starts: Sequence[int], counts: Sequence[int], downsample_rate: int
    ) -> dict[str, list]:
        """Add "targets", (T, K) for each window, and "seconds" of a frame."""
        windows = zip(labels["activity"], starts, counts, strict=True)
        targets = [frame_activity(a, self.num_speakers, start, n, downsample_rate) for a, start, n in windows]
        return labels | {"targets": targets, "seconds": [downsample_rate / SAMPLE_RATE] * len(targets)}

    def head(self, hidden_size: int, downsample_rate: int) -> nn.Module:
        stack = 1 if self.frame_ms is None else max(1, int(self.frame_ms * 16 // downsample_rate))  # 16 samples a ms
        return LstmHead(hidden_size, self.num_speakers, **self.sizes, stack=stack)

    def loss(self, outputs: Tensor, lengths: Tensor, labels: dict[str, Any]) -> dict[str, Tensor]:
        """Return the cross entropy of scores (B, T, K) under the best order of speakers of each recording."""
        targets = padded_rows(labels["targets"], outputs.shape[1]).to(outputs.device)
        valid = lengths_to_mask(lengths, outputs.shape[1])
        return {"loss": permutation_invariant_bce(outputs, targets, valid)}

    def metric(self, **choices: Any) -> Metric:
        """Return an empty metric; `choices` are "threshold" and "median"."""
        return DiarizationErrors(**choices)

    def predictions(
        self,
        outputs: Tensor,
        lengths: Tensor,
        frame_seconds: float,
        *,
        threshold: float = 0.5,
        median: int = 1,
        **choices: Any,
    ) -> list[dict[str, Any]]:
        """Return "segments" in the order of time; labels "0", "1", ... are voices of one recording, not persons."""
        probabilities = outputs.float().sigmoid()
        valid = lengths_to_mask(lengths, outputs.shape[1])
        speech = found_speech(probabilities, valid, threshold, median)
        rows = zip(speech.cpu(), probabilities.cpu(), lengths.tolist(), strict=True)
        return [{"segments": scored_segments(found[:n], values[:n], frame_seconds)} for found, values, n in rows]

    def tune(self, metric: Metric) -> dict[str, Any]:
        """Return the threshold and the median filter with the lowest error rate on dev."""
        rates = metric.rates()
        threshold, median = min(rates, key=rates.__getitem__)
        return {"threshold": threshold, "median": median}
