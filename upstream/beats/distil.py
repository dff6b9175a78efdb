"""Training of BEATs' tokenizer: what a teacher says of each patch must be told from the code of the patch alone.

Chen et al., 2022, https://arxiv.org/abs/2212.09058: an encoder and a codebook turn patches into codes, and a small
Transformer, the estimator, reads the codes and estimates the teacher's output. The teacher is the model of the previous
iteration, or that model fine-tuned. Loss: 1 - cos(estimate, teacher) + beta * commitment; the codebook itself follows
by moving averages. The authors' training code is not public; where the paper is silent this follows BEiT v2
(https://arxiv.org/abs/2208.06366) and OpenBEATs (https://arxiv.org/abs/2507.14129). `beta` multiplies a mean over the
numbers of a vector (1 in BEiT v2, 10 in OpenBEATs); the paper's formula sums over them, which is a `beta` of 256.

Differs from them: padding counts nowhere, the codebook begins with k-means over many batches instead of the first, and
codes that are never used can be given new places.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from speechssl.errors import UserError, nearest
from speechssl.interfaces import Batch, BatchStream, PretrainTask
from speechssl.metrics.codebook import count_codes, perplexity
from speechssl.nn import frozen, kmeans, quantizer
from speechssl.upstream.beats.distilled import DistilledTokenizer
from speechssl.upstream.beats.estimator import Estimator
from speechssl.upstream.beats.model import Beats
from speechssl.upstream.beats.targets import check_same

TARGETS = ("hidden", "patch_logits", "pooled_logits")
OFFERS = 20  # stream of random numbers


class TokenizerDistillation(PretrainTask):
    """Student tokenizer, estimator, and the loss against a frozen teacher.

    Args:
        tokenizer: the student; it is what gets exported.
        teacher: the model whose output is to be estimated. It is put into eval mode, is not part of the state dict,
            and follows the task to its device.
        target: "hidden", the teacher's last hidden state of each patch; "patch_logits", its classifier's output for
            each patch; "pooled_logits", the mean of those over the clip, against the mean of the estimates.
        beta: weight of the commitment, the mean squared difference of unit vectors and their codes.
        estimator_layers, estimator_head: see `Estimator`.
        decay: of the codebook's moving averages.
        dead_code_reset_steps: steps without use after which a code is given a vector of the batch; 0 never.
        initial_vectors: of patches that k-means finds the first codes among, if the corpus has that many.
        lineage: what is known of the teacher.

    Raises:
        UserError: unknown names, a teacher without the classifier that the target needs, other statistics than its.
    """

    def __init__(
        self,
        tokenizer: DistilledTokenizer,
        teacher: Beats,
        target: str = "hidden",
        beta: float = 1.0,
        estimator_layers: int = 3,
        estimator_head: str = "layernorm",
        decay: float = 0.99,
        dead_code_reset_steps: int = 0,
        initial_vectors: int = 32768,
        lineage: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.lineage = lineage or {}
        if target not in TARGETS:
            raise UserError(f"unknown target {target!r}; known: {', '.join(TARGETS)}{nearest(target, TARGETS)}")
        if target != "hidden" and teacher.classifier is None:
            raise UserError(f"target={target} needs a fine-tuned teacher with a classifier, this one has none")
        self.student, self.target, self.beta, self.initial_vectors = tokenizer, target, beta, initial_vectors
        self._teacher, self._agreed = frozen.Frozen(teacher), False
        tokenizer.quantizer.decay = decay
        size = teacher.width if target == "hidden" else teacher.classifier.out_features
        self.estimator = Estimator(tokenizer, size, estimator_layers, estimator_head)
        self.dead_codes = quantizer.DeadCodes(tokenizer.num_codes, tokenizer.code_size, dead_code_reset_steps)
        if tokenizer.spectrogram.known:
            self.check_statistics()

    @property
    def tokenizer(self) -> DistilledTokenizer:
        """What gets exported."""
        return self.student

    @property
    def upstream(self) -> Beats:
        """The encoder inside the tokenizer."""
        return self.student.upstream

    @property
    def teacher(self) -> Beats:
        """The frozen model."""
        return self._teacher.module

    def check_statistics(self) -> None:
        """Raise UserError where student and teacher would normalise the same audio differently."""
        check_same(self.teacher.spectrogram, self.student.spectrogram, "the teacher")
        self._agreed = True

    def on_start(self, batches: BatchStream) -> None:
        """Fill the codebook by k-means over the untrained student's vectors. Seeded by the first utterance's seed."""
        self.check_statistics()
        training = self.training
        self.eval()
        vectors, seed = self._gather_vectors(batches)
        self.train(training)
        generator = torch.Generator().manual_seed(seed)
        codebook, counts = kmeans.cosine_kmeans(vectors, self.student.num_codes, generator)
        self.student.quantizer.initialise(codebook, counts)

    @torch.no_grad()
    def _gather_vectors(self, batches: BatchStream) -> tuple[Tensor, int]:
        """Return vectors (M, d) of valid patches, from as many shuffled batches as it takes or one pass, and a seed."""
        device, seen, found, total = self.student.quantizer.codebook.device, set(), [], 0
        stream, seed = batches.iterate(0), None
        for batch in stream:
            if seen.issuperset(batch.ids):
                break  # the second pass
            seen.update(batch.ids)
            if batch.empty or int(batch.lengths.max()) < self.student.min_samples:
                continue
            moved = batch.to(device)
            vectors, valid = self.student.vectors(*self.student.spectrogram(moved.waveforms, moved.lengths))
            seed = int(batch.seeds[0]) if seed is None else seed
            found.append(vectors[valid])
            total += len(found[-1])
            if total >= self.initial_vectors:
                break
        if hasattr(stream, "close"):
            stream.close()  # ends worker processes
        if total == 0:
            raise UserError("no audio is long enough for a patch of 16 frames (0.175 s); train on longer audio")
        return torch.cat(found)[: self.initial_vectors], seed

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss, the number of valid patches it is a mean over, and what it is made of.

        "distance" is 1 - cos, "used" the share of codes and "perplexity" the effective number of codes in the batch,
        "dead" the share of codes that were hardly used in recent steps.
        """
        if not self._agreed:
            self.check_statistics()
        cells, frames = self.student.spectrogram(batch.waveforms, batch.lengths)
        frames = torch.zeros_like(frames) if batch.empty else frames
        vectors, valid = self.student.vectors(cells, frames)
        quantized = self.student.quantizer(vectors, valid)
        if self.training and self.dead_codes.patience:
            self.dead_codes.offer(quantized.unit, valid, batch.seeds, OFFERS)
        estimate = self.estimator(quantized.vectors, valid)
        distance = self.distance(estimate, self.targets(cells, frames), valid)
        counts = count_codes(quantized.codes.masked_fill(~valid, -1), self.student.num_codes)
        return {
            "loss": distance + self.beta * quantized.commitment,
            "weight": valid.sum().float(),
            "distance": distance.detach(),
            "commitment": quantized.commitment.detach(),
            "used": (counts > 0).float().mean(),
            "perplexity": perplexity(counts).float(),
            "dead": self.student.quantizer.dead(),
        }

    @torch.no_grad()
    def targets(self, cells: Tensor, frames: Tensor) -> Tensor:
        """Return what the teacher says (B, N, size) of spectrograms (B, T, 128) with (B,) valid frames."""
        hidden = self.teacher.token_states(cells, frames)[0][-1]
        return (hidden if self.target == "hidden" else self.teacher.patch_logits(hidden)).float()

    def distance(self, estimate: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Return the mean (scalar) of 1 - cos over valid patches of (B, N, size); of means over a clip where pooled.

        A pooled clip weighs as much as it has patches.
        """
        weight = valid.float()
        if self.target == "pooled_logits":
            estimate, target = _clip_mean(estimate, weight), _clip_mean(target, weight)
            weight = weight.sum(dim=1)
        distance = 1 - F.cosine_similarity(estimate, target, dim=-1)
        return (distance * weight).sum() / weight.sum().clamp(min=1)

    def after_step(self, step: int) -> None:
        """Move the codebook."""
        counts = self.student.quantizer.update()
        if self.dead_codes.patience:
            self.dead_codes.replace(self.student.quantizer, counts)

    def facts(self) -> dict[str, Any]:
        """Return what the lineage tells of the training."""
        spectrogram = self.student.spectrogram
        known = {"statistics": {"mean": float(spectrogram.mean), "std": float(spectrogram.std)}, **self.lineage}
        if self.teacher.classifier is not None:
            known["labels_seen"] = True  # whatever else is known, a classifier is trained with labels
        return known


def _clip_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Return (B, size) means of (B, N, size) with (B, N) weights."""
    return torch.einsum("bns,bn->bs", values, weight) / weight.sum(dim=1, keepdim=True).clamp(min=1)
