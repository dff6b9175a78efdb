"""SSAST's objective: for every hidden patch, find it among the clip's hidden patches, and reconstruct it.

Gong et al., 2022, https://arxiv.org/abs/2110.09784: L = InfoNCE + 10 * MSE on the hidden patches. The authors' code
(https://github.com/YuanGongND/ssast) runs the encoder twice per step, with a mask of its own for each loss; `passes=2`
does the same. One pass that serves both is the default: half the cost.

Differs from that code: clips keep their own length, and a shorter one takes its positions from a random place of the
table, so that all of it is trained; of a longer one a random stretch is used instead of its beginning. `pad=true` fills
up to the full input with zeros, as there.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.errors import UserError, nearest
from speechssl.interfaces import Batch, PretrainTask
from speechssl.losses.contrastive import DIRECTIONS, clip_info_nce
from speechssl.losses.masked import masked_error, masked_mean
from speechssl.nn.padding import lengths_to_mask
from speechssl.nn.patches import from_patches, to_patches
from speechssl.nn.random import uniform
from speechssl.upstream.ssast.masking import Hidden, MaskSampler
from speechssl.upstream.ssast.model import HOP, Ssast

OBJECTIVES = ("joint", "discriminative", "generative")
PICTURES = 4  # utterances per snapshot
STRETCH, PLACE, MASK = 0, 1, 10  # streams of random numbers; the second pass draws its mask from 2 * MASK


class Grid(NamedTuple):
    """The patches of a batch."""

    cells: Tensor  # (B, T, F) normalised spectrogram
    patches: Tensor  # (B, R, K, P)
    columns: Tensor  # (B,) whole columns
    offset: Tensor  # (B,) column of the position table that the first one takes
    keys: Tensor | None  # (B, R * K) bool: real patches; None = all


class SsastPretraining(PretrainTask):
    """Masking, encoder, two small predictors and the joint loss.

    Args:
        upstream: the encoder; its patches must not overlap.
        objective: "joint", "discriminative" (InfoNCE only) or "generative" (reconstruction only).
        generative_weight: of the reconstruction in the joint loss.
        passes: 1 encodes once for both losses; 2 once for each, with two independent masks (as the authors' code).
        nce_direction: "code" or "paper", see `speechssl.losses.contrastive`.
        mask_ratio: share of a clip's patches that is hidden; published 400 of 512.
        sampler, cluster_min, cluster_max: see `MaskSampler`.
        pad: fill clips up to the full input with zeros (0.467 after normalisation), to be masked and predicted too.

    Raises:
        UserError: unknown names, overlapping patches.
    """

    upstream: Ssast

    def __init__(
        self,
        upstream: Ssast,
        objective: str = "joint",
        generative_weight: float = 10.0,
        passes: int = 1,
        nce_direction: str = "code",
        mask_ratio: float = 400 / 512,
        sampler: str = "official",
        cluster_min: int = 3,
        cluster_max: int = 5,
        pad: bool = False,
    ):
        super().__init__()
        _check(upstream, objective, passes, nce_direction)
        self.upstream, self.generative_weight = upstream, generative_weight
        self.passes, self.nce_direction, self.pad = passes, nce_direction, pad
        self.sampler = MaskSampler(sampler, mask_ratio, cluster_min, cluster_max)
        D, P = upstream.width, upstream.patch[0] * upstream.patch[1]
        self.mask_embedding = nn.Parameter(torch.empty(D).normal_(std=D**-0.5))
        self.discriminator = _predictor(D, P) if objective != "generative" else None
        self.generator = _predictor(D, P) if objective != "discriminative" else None

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss, the number of hidden patches it is a mean over, and what it is made of.

        "nce" is the InfoNCE loss (log n for a guess among n patches), "accuracy" how often the hidden patch is found,
        "mse" the squared error per cell and "mse_ratio" that error relative to the variance of the hidden cells: above
        1 it is worse than a constant.
        """
        grid = self.grid(batch)
        result: dict[str, Tensor] = {}
        hidden, outputs = self.predict_from(grid, batch.seeds, MASK)
        result["weight"] = hidden.valid.sum().float()
        losses = []
        if self.discriminator is not None:
            losses.append(self.discriminative(grid, hidden, outputs, result))
        if self.passes == 2 and len(losses) and self.generator is not None:
            hidden, outputs = self.predict_from(grid, batch.seeds, 2 * MASK)
        if self.generator is not None:
            weight = self.generative_weight if losses else 1.0
            losses.append(weight * self.generative(grid, hidden, outputs, result))
        return {"loss": torch.stack(losses).sum(), **result}

    def grid(self, batch: Batch) -> Grid:
        """Return the patches of a batch."""
        cells, frames = self.upstream.spectrogram(batch.waveforms, batch.lengths)
        return self.cut(cells, torch.zeros_like(frames) if batch.empty else frames, batch.seeds)

    def cut(self, cells: Tensor, frames: Tensor, seeds: Tensor) -> Grid:
        """Return the patches of spectrograms (B, T, F), a random stretch of those that are longer than the input."""
        upstream = self.upstream
        cells, frames = _stretch(cells, frames, upstream.input_frames, seeds)
        shortest = upstream.input_frames if self.pad else upstream.patch[1]
        cells = F.pad(cells, (0, 0, 0, max(0, shortest - cells.shape[1])))
        if self.pad:
            inside = lengths_to_mask(frames, cells.shape[1])[..., None]
            cells = cells.masked_fill(~inside, upstream.spectrogram.zero)
            frames = torch.where(frames > 0, cells.shape[1], 0)
        columns = upstream.num_columns(frames)
        patches = to_patches(cells, *upstream.patch)
        spare = (upstream.grid[1] - columns).clamp(min=0) + 1
        offset = (uniform(seeds, PLACE, 1)[:, 0] * spare).long()
        return Grid(cells, patches, columns, offset, self._keys(patches, columns))

    def _keys(self, patches: Tensor, columns: Tensor) -> Tensor | None:
        """Return the mask of real patches; None where looking is free and shows that all are."""
        rows, width = patches.shape[1:3]
        if self.pad or (columns.device.type == "cpu" and bool((columns == width).all())):
            return None
        keys = lengths_to_mask(columns.clamp(min=1), width)
        return keys[:, None].expand(-1, rows, -1).flatten(1)

    def predict_from(self, grid: Grid, seeds: Tensor, stream: int) -> tuple[Hidden, Tensor]:
        """Hide patches and return them with the encoder's outputs (B, n, D) at their places."""
        rows, width = grid.patches.shape[1:3]
        hidden = self.sampler(rows, grid.columns, width, seeds, stream)
        return hidden, self.outputs(grid, hidden)

    def outputs(self, grid: Grid, hidden: Hidden) -> Tensor:
        """Return the encoder's outputs (B, n, D) at hidden patches."""
        upstream = self.upstream
        tokens = F.linear(grid.patches, upstream.embedding.weight.flatten(1), upstream.embedding.bias).flatten(1, 2)
        tokens = torch.where(hidden.mask[..., None], self.mask_embedding.to(tokens.dtype), tokens)
        encoded = upstream.transform(tokens + self._positions(grid), grid.keys)[-1]
        place = hidden.index[..., None].expand(-1, -1, encoded.shape[2])
        return encoded[:, len(upstream.class_tokens) :].gather(1, place)

    def _positions(self, grid: Grid) -> Tensor:
        """Return positions (B, R * K, D): a stretch of the table for each clip."""
        width = grid.patches.shape[2]
        table = self.upstream.positions  # (R, columns, D)
        column = grid.offset[:, None] + torch.arange(width, device=grid.offset.device)
        column = column.clamp(max=table.shape[1] - 1)  # beyond a clip's own columns nobody looks
        return table[:, column].transpose(0, 1).flatten(1, 2)

    def discriminative(self, grid: Grid, hidden: Hidden, outputs: Tensor, log: dict[str, Tensor]) -> Tensor:
        """Return the InfoNCE loss of hidden patches, and log it."""
        predicted = self.discriminator(outputs)
        loss, log["accuracy"] = clip_info_nce(predicted, targets(grid, hidden), hidden.valid, self.nce_direction)
        log["nce"] = loss.detach()
        return loss

    def generative(self, grid: Grid, hidden: Hidden, outputs: Tensor, log: dict[str, Tensor]) -> Tensor:
        """Return the squared error of reconstructed hidden patches, and log it."""
        cells = targets(grid, hidden)
        selected = hidden.valid[..., None].expand_as(cells)
        loss, _ = masked_error("mse", self.generator(outputs), cells, selected)
        with torch.no_grad():
            variance = masked_mean((cells - masked_mean(cells, selected)).square(), selected)
            log["mse_ratio"] = loss / variance.clamp(min=1e-8)
        log["mse"] = loss.detach()
        return loss

    @torch.no_grad()
    def snapshot(self, batch: Batch) -> dict[str, Tensor]:
        """Return "clean", "masked" and (where there is a generator) "reconstructed" spectrograms of a few clips."""
        training = self.training
        self.eval()
        grid = self.grid(batch)
        hidden, outputs = self.predict_from(grid, batch.seeds, MASK)
        height, width = self.upstream.patch
        flat = grid.patches.flatten(1, 2)
        panels = {"clean": flat, "masked": flat.masked_fill(hidden.mask[..., None], flat.min())}
        if self.generator is not None:
            made = self.generator(outputs).float()
            index = torch.where(hidden.valid, hidden.index, flat.shape[1])[..., None].expand_as(made)
            panels["reconstructed"] = F.pad(flat, (0, 0, 0, 1)).scatter(1, index, made)[:, :-1]
        self.train(training)
        arrays = {
            name: from_patches(panel.view_as(grid.patches), height, width)[:PICTURES] for name, panel in panels.items()
        }
        arrays["lengths"] = (grid.columns * width)[:PICTURES]
        arrays["frame_seconds"] = torch.tensor(HOP / self.upstream.sample_rate)
        if self.upstream.num_mels % height == 0:
            arrays["hertz"] = self.upstream.spectrogram.fbank.centres_hz
        return arrays


def targets(grid: Grid, hidden: Hidden) -> Tensor:
    """Return the cells (B, n, P) of hidden patches, in float32 and without gradient."""
    flat = grid.patches.flatten(1, 2)
    return flat.gather(1, hidden.index[..., None].expand(-1, -1, flat.shape[2]))


def _stretch(cells: Tensor, frames: Tensor, longest: int, seeds: Tensor) -> tuple[Tensor, Tensor]:
    """Cut clips of more than `longest` frames to a random stretch of that many."""
    if cells.shape[1] <= longest:
        return cells, frames
    start = (uniform(seeds, STRETCH, 1)[:, 0] * ((frames - longest).clamp(min=0) + 1)).long()
    place = start[:, None] + torch.arange(longest, device=cells.device)
    place = place.clamp(max=cells.shape[1] - 1)[..., None].expand(-1, -1, cells.shape[2])
    return cells.gather(1, place), frames.clamp(max=longest)


def _predictor(width: int, cells: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, cells))


def _check(upstream: Ssast, objective: str, passes: int, direction: str) -> None:
    known = ((objective, OBJECTIVES, "objective"), (passes, (1, 2), "passes"), (direction, DIRECTIONS, "nce_direction"))
    for given, names, what in known:
        if given not in names:
            options = ", ".join(map(str, names))
            raise UserError(f"unknown {what} {given!r}; known: {options}{nearest(str(given), map(str, names))}")
    if upstream.stride != upstream.patch:
        raise UserError(
            f"pretraining needs patches that do not overlap: strides {upstream.stride} for patches {upstream.patch}; "
            "leave frequency_stride and time_stride out"
        )
    if upstream.grid != (upstream.rows, upstream.longest):
        raise UserError(
            f"pretraining needs positions for its own input: {upstream.rows} x {upstream.longest} patches, "
            f"found a table of {upstream.grid[0]} x {upstream.grid[1]}; leave position_grid out"
        )
