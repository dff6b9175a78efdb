"""The three alterations of TERA: time spans, one frequency block, magnitude noise.

Liu, Li and Lee, 2021, https://arxiv.org/abs/2007.06028, with the distribution of the authors' code (s3prl):
the last frame and the last channel are never chosen, and noise does not count as something to reconstruct.
Where we differ: utterances in which nothing was hidden stay in the batch with weight zero, spans never leave
the utterance, and padding is never part of the label.

Everything is computed for the whole batch on its device, without waiting for it. Every draw depends on the
seed of its own utterance only (speechssl.nn.random), so neither padding nor batch mates change what happens
to it. The one exception is whether a batch gets noise: its first utterance decides.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from speechssl.errors import UserError
from speechssl.nn.padding import lengths_to_mask
from speechssl.nn.random import bits, normal, uniform

SCALARS, STARTS, NOISE = range(3)  # random streams
# Columns of the SCALARS stream, one number per utterance each.
SPAN_WIDTH, BUCKET_OFFSET, POLICY, BLOCK_WIDTH, BLOCK_START, IS_NOISY = range(6)
ZERO_SHARE, REPLACE_SHARE = (
    0.8,
    0.1,
)  # of the utterances, what happens to time spans; the rest stays unchanged
UNREACHABLE = torch.iinfo(torch.int64).max


class Altered(NamedTuple):
    """Features as the encoder sees them, and what it is to reconstruct."""

    features: Tensor  # (B, T, F)
    label: Tensor  # (B, T, F) bool, the elements that count in the loss
    time: Tensor  # (B, T) bool, the frames inside time spans


@dataclass(frozen=True)
class Alteration:
    """Settings of the alterations; calling it alters a batch.

    Args:
        mask_proportion: share of the frames that time spans cover, overlaps counted twice; 0 is off.
        mask_consecutive_min, mask_consecutive_max: frames per span, uniform between both, once per utterance.
        mask_allow_overlap: spans may overlap; otherwise they start on a grid of `mask_bucket_ratio` span
            widths.
        mask_frequency: widest frequency block, as a share of the channels below 1, or a number of channels; 0
            is off.
        noise_proportion: probability of added noise; 0 is off.
        noise_std: its standard deviation, in units of the (normalised) features.
        noise_per: "batch" (all utterances or none, as published) or "utterance".
    """

    mask_proportion: float = 0.15
    mask_consecutive_min: int = 7
    mask_consecutive_max: int = 7
    mask_allow_overlap: bool = True
    mask_bucket_ratio: float = 1.5
    mask_frequency: float = 0.2
    noise_proportion: float = 0.15
    noise_std: float = 0.2
    noise_per: str = "batch"

    def __post_init__(self) -> None:
        for name in ("mask_proportion", "noise_proportion"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} is a share in 0..1, found {getattr(self, name)}")
        if not 1 <= self.mask_consecutive_min <= self.mask_consecutive_max:
            raise UserError(
                "span widths need 1 <= mask_consecutive_min <= mask_consecutive_max, found "
                f"{self.mask_consecutive_min} and {self.mask_consecutive_max}"
            )
        if self.mask_bucket_ratio < 1:
            raise UserError(f"mask_bucket_ratio below 1 makes spans overlap, found {self.mask_bucket_ratio}")
        if self.mask_frequency < 0 or self.noise_std < 0:
            raise UserError("mask_frequency and noise_std must not be negative")
        if self.noise_per not in ("batch", "utterance"):
            raise UserError(f"noise_per is 'batch' or 'utterance', found {self.noise_per!r}")

    def __call__(self, features: Tensor, lengths: Tensor, seeds: Tensor) -> Altered:
        """Alter a copy of the features.

        Args:
            features: (B, T, F), zero beyond each length.
            lengths: (B,) valid frames.
            seeds: (B,) int64, one per utterance.
        """
        B, T, F = features.shape
        scalars = uniform(seeds, SCALARS, 6)
        valid = lengths_to_mask(lengths, T)
        time, source = self._time_spans(scalars, lengths, seeds, T)
        block = self._frequency_block(scalars, F)
        if self.mask_proportion == 0 and self.mask_frequency == 0:
            label = valid[:, :, None].expand(B, T, F)
        else:
            label = time[:, :, None] | (block[:, None, :] & valid[:, :, None])
        policy = scalars[:, POLICY, None]
        replaced = time & (policy >= ZERO_SHARE) & (policy < ZERO_SHARE + REPLACE_SHARE)
        frames = torch.where(replaced, source, torch.arange(T, device=features.device))
        frames = frames + torch.arange(B, device=features.device)[:, None] * T
        altered = features.flatten(0, 1).index_select(0, frames.flatten()).view(B, T, F)
        zeroed = time & (policy < ZERO_SHARE)
        altered = altered.masked_fill_(zeroed[:, :, None] | block[:, None, :], 0.0)
        return Altered(self._add_noise(altered, scalars, valid, seeds), label, time)

    def _time_spans(self, scalars: Tensor, lengths: Tensor, seeds: Tensor, T: int) -> tuple[Tensor, Tensor]:
        """Return the frames inside spans (B, T) bool, and the frame (B, T) that would replace each of them.

        Distinct span starts are the candidates with the smallest random keys; of spans that overlap, the last
        drawn decides where a replacement comes from. The second set of keys draws the starts of the replacing
        spans.
        """
        positions = torch.arange(T, device=seeds.device)
        most = min(T, round(T * self.mask_proportion / self.mask_consecutive_min))
        if most == 0:
            return torch.zeros(len(seeds), T, dtype=torch.bool, device=seeds.device), positions.expand(len(seeds), T)
        choices = self.mask_consecutive_max - self.mask_consecutive_min + 1
        width = self.mask_consecutive_min + (scalars[:, SPAN_WIDTH] * choices).long()
        candidates = self._candidates(scalars, lengths, width, positions)
        count = (lengths.double() * self.mask_proportion / width).round().long()
        count = torch.minimum(count, candidates.sum(1))
        keys = bits(seeds, STARTS, 2 * T).view(-1, T, 2)
        keys = keys.masked_fill(~candidates[:, :, None], UNREACHABLE)
        starts = keys.topk(most, dim=1, largest=False).indices  # (B, most, 2), in the order of the keys

        rank = torch.arange(most, device=seeds.device)
        offset = torch.arange(self.mask_consecutive_max, device=seeds.device)
        covered = starts[:, :, :1] + offset  # (B, most, widest)
        inside = (rank < count[:, None])[:, :, None] & (offset < width[:, None, None])
        covered = torch.where(inside & (covered < lengths[:, None, None]), covered, T)
        last = torch.full((len(seeds), T + 1), -1, device=seeds.device)
        last.scatter_reduce_(1, covered.flatten(1), rank.repeat_interleave(len(offset)).expand(len(seeds), -1), "amax")
        last = last[:, :T]  # (B, T) rank of the last span that covers a frame; -1 is none
        span = last.clamp(min=0)[:, :, None].expand(-1, -1, 2)
        target, source = starts.gather(1, span).unbind(2)
        return last >= 0, (positions - target + source).clamp(min=0).minimum((lengths - 1).clamp(min=0)[:, None])

    def _candidates(self, scalars: Tensor, lengths: Tensor, width: Tensor, positions: Tensor) -> Tensor:
        """Return (B, T) bool, where a span may start; one frame at the end is never reached, as published."""
        latest = (lengths - width - 1).clamp(min=0)
        reachable = (positions <= latest[:, None]) & (positions < lengths[:, None])
        if self.mask_allow_overlap:
            return reachable
        bucket = (width * self.mask_bucket_ratio).round().long()[:, None]
        first = (scalars[:, BUCKET_OFFSET] * (torch.minimum(width, latest) + 1)).long()[:, None]
        return reachable & (positions >= first) & ((positions - first) % bucket == 0)

    def _frequency_block(self, scalars: Tensor, F: int) -> Tensor:
        """Return (B, F) bool, the channels to hide; in one of (widest + 1) utterances there is none."""
        widest = int(self.mask_frequency if self.mask_frequency >= 1 else F * self.mask_frequency)
        if widest >= F:
            raise UserError(f"mask_frequency {self.mask_frequency} would hide all {F} channels; give a smaller one")
        width = (scalars[:, BLOCK_WIDTH, None] * (widest + 1)).long()
        start = (scalars[:, BLOCK_START, None] * (F - width)).long()
        channels = torch.arange(F, device=scalars.device)
        return (channels >= start) & (channels < start + width)

    def _add_noise(self, features: Tensor, scalars: Tensor, valid: Tensor, seeds: Tensor) -> Tensor:
        """Add noise to all valid frames, hidden ones included, of the utterances that draw it."""
        if self.noise_proportion == 0:
            return features
        noisy = scalars[:, IS_NOISY] < self.noise_proportion
        if self.noise_per == "batch":
            noisy = noisy[:1].expand(len(seeds))
        if features.device.type == "cpu" and not bool(noisy.any()):
            return features  # looking is free on the CPU, and six of seven batches need no numbers
        B, T, F = features.shape
        noise = normal(seeds, NOISE, T * F).view(B, T, F)
        return features + noise * (self.noise_std * (valid & noisy[:, None]))[:, :, None]
