"""BEATs' objective: tell the labels of hidden patches from the few that are seen.

Chen et al., 2023, https://arxiv.org/abs/2212.09058: a quarter of the patches goes through the encoder; a label
predictor, a small Transformer, gets its outputs at their places and zeros everywhere else, and predicts a tokenizer's
label of every hidden patch. The training code was never published; where the paper is silent, ESPnet's OpenBEATs
(https://arxiv.org/abs/2507.14129) is one choice of several:

- `positions`: "grid" (ours) convolves over the clip with zeros where patches are hidden, and measures distances in it,
  so that the encoder meets the same distances later; "compact" (OpenBEATs) treats the patches that are left as
  neighbours.
- `filler`: "zero" (paper), or "learned" (OpenBEATs): a mask embedding, with a linear map of the encoder's outputs.
- `predictor_convolution`: convolutional positions in the predictor too. Nobody publishes them. Without them nothing but
  the relative bias, close to zero at first, tells one hidden patch from another, and short trainings learn little.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.errors import UserError, nearest
from speechssl.interfaces import Batch, BatchStream, Labels, PretrainTask, Tokenizer
from speechssl.metrics.codebook import count_codes, perplexity
from speechssl.upstream.beats.encoder import Encoder, Stack
from speechssl.upstream.beats.hide import Split, split_tokens
from speechssl.upstream.beats.masks import HOP, PATCH
from speechssl.upstream.beats.model import Beats
from speechssl.upstream.beats.pictures import mean_patches, to_cells
from speechssl.upstream.beats.random_projection import RandomProjection
from speechssl.upstream.beats.targets import StoredTargets, Targets, TokenizedTargets

POSITIONS = ("grid", "compact")
FILLERS = ("zero", "learned")
MASK = 0  # stream of random numbers
PICTURES = 4  # utterances per snapshot


class Clips(NamedTuple):
    """A batch as the objective sees it."""

    patches: Tensor  # (B, N, 256)
    valid: Tensor  # (B, N) bool
    codes: Tensor  # (B, N) int64, -1 on padding
    split: Split


class BeatsPretraining(PretrainTask):
    """Masking, encoder, label predictor and cross entropy.

    Args:
        upstream: the encoder.
        num_codes: V, if neither tokenizer nor labels are given.
        mask_ratio: share of the patches that is hidden (published: 0.75).
        predictor_layers: depth of the label predictor, which is as wide as the encoder (OpenBEATs: 3).
        positions, filler, predictor_convolution: see above.
        label_smoothing: share of the target that is spread over all labels (OpenBEATs: 0.1).
        tokenizer: labels are computed as they are needed; None without `labels` is a random projection.
        labels: stored ones; crops then start at whole patches.
        lineage: what is known of the labels.

    Raises:
        UserError: unknown names, or both a tokenizer and labels.
    """

    upstream: Beats

    def __init__(
        self,
        upstream: Beats,
        num_codes: int = 1024,
        mask_ratio: float = 0.75,
        predictor_layers: int = 3,
        positions: str = "grid",
        filler: str = "zero",
        predictor_convolution: bool = False,
        label_smoothing: float = 0.0,
        tokenizer: Tokenizer | None = None,
        labels: Labels | None = None,
        lineage: dict[str, Any] | None = None,
    ):
        super().__init__()
        for name, given, known in (("positions", positions, POSITIONS), ("filler", filler, FILLERS)):
            if given not in known:
                raise UserError(f"unknown {name} {given!r}; known: {', '.join(known)}{nearest(given, known)}")
        if not 0 < mask_ratio < 1:
            raise UserError(f"mask_ratio is the share of hidden patches, above 0 and below 1; found {mask_ratio}")
        if tokenizer is not None and labels is not None:
            raise UserError("labels come from a tokenizer or from storage, not from both")
        self.upstream, self.mask_ratio, self.positions = upstream, mask_ratio, positions
        self.label_smoothing, self.lineage = label_smoothing, lineage or {}
        self.targets = self._targets(tokenizer, labels, num_codes)
        self.crop_multiple = PATCH * HOP if labels is not None else 1
        self.predictor = _predictor(upstream, predictor_layers, predictor_convolution)
        self.predictor_norm = nn.LayerNorm(upstream.width)
        self.output = nn.Linear(upstream.width, self.targets.num_codes)
        self.bridge = nn.Linear(upstream.width, upstream.width) if filler == "learned" else nn.Identity()
        filling = torch.zeros(upstream.width)
        self.filling = nn.Parameter(filling.normal_(std=0.02)) if filler == "learned" else None
        for part in (self.output, self.bridge):
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=0.02)
                nn.init.zeros_(part.bias)

    def _targets(self, tokenizer: Tokenizer | None, labels: Labels | None, num_codes: int) -> Targets:
        if labels is not None:
            return StoredTargets(labels)
        if tokenizer is None:
            spectrogram = self.upstream.spectrogram
            mean, std = (None, None) if spectrogram.measured else (float(spectrogram.mean), float(spectrogram.std))
            tokenizer = RandomProjection(num_codes, mean=mean, std=std)
        return TokenizedTargets(tokenizer)

    def on_start(self, batches: BatchStream) -> None:
        """Check that labels and encoder belong to the same spectrograms."""
        self.targets.check_statistics(self.upstream.spectrogram)

    def facts(self) -> dict[str, Any]:
        spectrogram = self.upstream.spectrogram
        statistics = {"mean": float(spectrogram.mean), "std": float(spectrogram.std)}
        return {"statistics": statistics, **self.lineage}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss, the number of hidden patches it is a mean over, and how it goes.

        "accuracy" is that of hidden patches, "target_perplexity" how even their labels are in this batch, "targets" and
        "predicted" how many different labels there are and are predicted. In eval mode, "seen_accuracy" is that of the
        patches that are not hidden.
        """
        clips = self.clips(batch)
        states = self.predictor_states(clips)
        target = clips.codes.gather(1, clips.split.hidden).masked_fill(~clips.split.hidden_valid, -1)
        logits = self.logits(states, clips.split.hidden)
        count = clips.split.hidden_valid.sum()
        summed = F.cross_entropy(
            logits.flatten(0, 1),
            target.flatten(),
            ignore_index=-1,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        result = {"loss": summed / count.clamp(min=1), "weight": count.float()}
        with torch.no_grad():
            guess = logits.argmax(dim=-1)
            result["accuracy"] = _share(guess == target, clips.split.hidden_valid)
            histogram = count_codes(target, self.targets.num_codes)
            result["target_perplexity"] = perplexity(histogram).float()
            result["targets"] = (histogram > 0).sum().float()
            guessed = count_codes(guess.masked_fill(target < 0, -1), self.targets.num_codes)
            result["predicted"] = (guessed > 0).sum().float()
            if not self.training:
                seen = self.logits(states, clips.split.kept).argmax(dim=-1) == clips.codes.gather(1, clips.split.kept)
                result["seen_accuracy"] = _share(seen, clips.split.kept_valid)
        return result

    def clips(self, batch: Batch) -> Clips:
        """Return patches, labels and what is hidden."""
        cells, frames = self.upstream.spectrogram(batch.waveforms, batch.lengths)
        patches, counts = self.upstream.patches(cells), self.upstream.num_tokens(frames)
        size = patches.shape[1]
        valid = torch.arange(size, device=counts.device) < counts[:, None]
        codes = self.targets(batch, cells, frames)
        return Clips(patches, valid, codes, split_tokens(batch.seeds, counts, size, self.mask_ratio, MASK))

    def encode_kept(self, clips: Clips) -> Tensor:
        """Return the encoder's output (B, k, D) at the patches it sees."""
        index, valid = clips.split.kept, clips.split.kept_valid
        kept = clips.patches.gather(1, index[..., None].expand(-1, -1, clips.patches.shape[2]))
        grid = (index, clips.patches.shape[1]) if self.positions == "grid" else (None, None)
        return self.upstream.encoder(self.upstream.embed(kept), _keys(valid), *grid)[-1]

    def predictor_states(self, clips: Clips) -> Tensor:
        """Return the label predictor's output (B, N, D)."""
        (B, N), index, valid = clips.valid.shape, clips.split.kept, clips.split.kept_valid
        seen = self.bridge(self.encode_kept(clips))
        filling = seen.new_zeros(seen.shape[2]) if self.filling is None else self.filling.to(seen.dtype)
        place = index.masked_fill(~valid, N)[..., None].expand_as(seen)  # beyond the end: what is not real
        sequence = filling.expand(B, N + 1, -1).scatter(1, place, seen)[:, :N]
        return self.predictor_norm(self.predictor(sequence, _keys(clips.valid))[-1])

    def logits(self, states: Tensor, index: Tensor) -> Tensor:
        """Return (B, n, V) float32 of the predictor's states (B, N, D) at `index` (B, n)."""
        return self.output(states.gather(1, index[..., None].expand(-1, -1, states.shape[2]))).float()

    @torch.no_grad()
    def snapshot(self, batch: Batch) -> dict[str, Tensor]:
        """Return spectrograms of a few clips: as they are, what the encoder sees, labels, and predicted labels.

        A label is drawn as the mean of the batch's patches that have it.
        """
        training = self.training
        self.eval()
        clips = self.clips(batch)
        split, flat = clips.split, clips.patches
        hidden = split.hidden.masked_fill(~split.hidden_valid, flat.shape[1])
        mask = F.pad(torch.zeros_like(clips.valid), (0, 1)).scatter(1, hidden, True)[:, :-1]
        guess = self.logits(self.predictor_states(clips), split.hidden).argmax(dim=-1)
        codes = F.pad(clips.codes, (0, 1)).scatter(1, hidden, guess)[:, :-1]
        means = mean_patches(flat, clips.codes, self.targets.num_codes)
        panels = {
            "clean": flat,
            "seen": flat.masked_fill(mask[..., None], float(flat.min())),
            "labels": means[clips.codes.clamp(min=0)],
            "predicted": means[codes.clamp(min=0)],
        }
        self.train(training)
        arrays = {name: to_cells(panel[:PICTURES]) for name, panel in panels.items()}
        arrays["lengths"] = clips.valid[:PICTURES].sum(dim=1) // self.upstream.bands * PATCH
        arrays["frame_seconds"] = torch.tensor(HOP / self.upstream.sample_rate)
        arrays["hertz"] = self.upstream.spectrogram.fbank.centres_hz
        return arrays


def _predictor(upstream: Beats, layers: int, convolution: bool) -> Encoder | Stack:
    """Return a stack like the encoder's, of another depth."""
    stack = Stack(num_layers=layers, **upstream.stack_config)
    return Encoder(stack, upstream.width, **upstream.position_config) if convolution else stack


def _keys(valid: Tensor) -> Tensor | None:
    """Return the mask of attention keys; None where looking is free and shows that all are valid."""
    return None if valid.device.type == "cpu" and bool(valid.all()) else valid


def _share(right: Tensor, valid: Tensor) -> Tensor:
    """Return the share (scalar) of what is right among what is valid."""
    return (right & valid).sum() / valid.sum().clamp(min=1)
