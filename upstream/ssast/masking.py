"""Which patches are hidden: clusters as the authors draw them, unbiased clusters, or single patches.

Gong et al., 2022 (https://arxiv.org/abs/2110.09784) mask squares of C x C patches, C uniform in 3..5 per clip.
`official` has the distribution of the authors' code (https://github.com/YuanGongND/ssast), which differs from uniform
squares: a square starts at a patch and reaches towards higher frequencies and later times, runs over from the end of
one row into the start of the next, patch 0 is never taken, and of the surplus the last patches are given back. So low
rows are masked about half as often as the others. `uniform_clusters` lets squares start outside the grid, does not
run over, and gives back patches of the last square at random: every patch is masked about equally often. `patches`
hides single ones; the frame variant, whose grid has one row, always does.

All of it is vectorised over the batch and derives from each utterance's seed alone.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from speechssl.errors import UserError, nearest
from speechssl.nn.random import uniform

SAMPLERS = ("official", "uniform_clusters", "patches")
SPARE = 2.5  # times the draws of squares that are needed on average


class Hidden(NamedTuple):
    """Hidden patches, as indices row * K + column into the padded grid."""

    index: Tensor  # (B, n) int64, ascending among the valid ones, 0 where not valid
    valid: Tensor  # (B, n) bool: clips with fewer columns hide fewer patches
    mask: Tensor  # (B, R * K) bool


class MaskSampler:
    """Draws the hidden patches of a batch.

    Args:
        kind: "official", "uniform_clusters" or "patches".
        ratio: share of a clip's patches that is hidden (published: 400 / 512), rounded down.
        cluster_min, cluster_max: sides C of the squares, in patches; one C per clip.
    """

    def __init__(self, kind: str, ratio: float, cluster_min: int, cluster_max: int) -> None:
        if kind not in SAMPLERS:
            raise UserError(f"unknown mask sampler {kind!r}; known: {', '.join(SAMPLERS)}{nearest(kind, SAMPLERS)}")
        if not 0 < ratio < 1:
            raise UserError(f"mask_ratio is the share of hidden patches, above 0 and below 1; found {ratio}")
        if not 1 <= cluster_min <= cluster_max:
            raise UserError(f"expected 1 <= cluster_min <= cluster_max patches, found {cluster_min} and {cluster_max}")
        self.kind, self.ratio = kind, ratio
        self.cluster_min, self.cluster_max = cluster_min, cluster_max

    def __call__(self, rows: int, columns: Tensor, width: int, seeds: Tensor, stream: int) -> Hidden:
        """Draw for clips of `rows` x (B,) `columns` patches in a grid padded to `width` columns.

        Raises:
            UserError: a share so high that clusters cannot cover it (patch 0 is out of their reach).
        """
        kind = "patches" if rows == 1 else self.kind
        largest = int(self.ratio * rows * width)
        if kind == "official" and largest > rows * width - 2 and width:
            raise UserError(
                f"clusters cannot hide {largest} of {rows * width} patches (at most {rows * width - 2}): "
                "lower mask_ratio, or use sampler=patches"
            )
        total = rows * columns  # (B,) patches
        wanted = (self.ratio * total).long()
        if kind == "official":
            wanted = torch.minimum(wanted, (total - 2).clamp(min=0))
            chosen = self._official(rows, columns, width, wanted, seeds, stream)
        elif kind == "uniform_clusters":
            chosen = self._uniform_clusters(rows, columns, width, wanted, seeds, stream)
        else:
            outside = torch.arange(rows * width, device=seeds.device) >= total[:, None]
            chosen = smallest(uniform(seeds, stream, rows * width).masked_fill(outside, 2.0), wanted)
        return _padded(chosen, columns, rows, width, largest)

    def _squares(self, seeds: Tensor, stream: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return sides C (B, 1, 1, 1), steps 0..C_max - 1, and which steps (B, 1, C_max, C_max) lie in the square."""
        span = self.cluster_max - self.cluster_min + 1
        side = self.cluster_min + (uniform(seeds, stream, 1) * span).long()[..., None, None]
        step = torch.arange(self.cluster_max, device=seeds.device)
        return side, step, (step[:, None] < side) & (step < side)

    def _official(self, rows: int, columns: Tensor, width: int, wanted: Tensor, seeds: Tensor, stream: int) -> Tensor:
        total = (rows * columns)[:, None]
        _, step, inside = self._squares(seeds, stream)
        offset = columns[:, None, None, None] * step[:, None] + step

        def draw(count: int) -> tuple[Tensor, Tensor]:
            starts = (uniform(seeds, stream + 1, count) * total).long()
            cell = starts[:, :, None, None] + offset
            return cell, inside & (cell > 0) & (cell < total[..., None, None])

        # The original stops at the draw that brings the set above `wanted` patches.
        first, stop = self._cover(draw, rows * width, wanted, wanted)
        place = torch.arange(rows * width, device=seeds.device)
        taken = (first <= stop) & (place > 0) & (place < total)
        return taken & (taken.cumsum(1) <= wanted[:, None])

    def _uniform_clusters(
        self, rows: int, columns: Tensor, width: int, wanted: Tensor, seeds: Tensor, stream: int
    ) -> Tensor:
        side, step, inside = self._squares(seeds, stream)
        limit = columns[:, None, None, None]

        def draw(count: int) -> tuple[Tensor, Tensor]:
            places = uniform(seeds, stream + 1, 2 * count).view(len(seeds), count, 2, 1, 1)
            row = (places[:, :, 0] * (rows + side - 1)).long() - (side - 1) + step[:, None]
            column = (places[:, :, 1] * (limit + side - 1)).long() - (side - 1) + step
            counts = inside & (row >= 0) & (row < rows) & (column >= 0) & (column < limit)
            return row * limit + column, counts

        first, _ = self._cover(draw, rows * width, wanted, (wanted - 1).clamp(min=0))
        outside = torch.arange(rows * width, device=seeds.device) >= (rows * columns)[:, None]
        order = first + uniform(seeds, stream + 2, rows * width).double()  # at random within a square
        return smallest(order.masked_fill(outside, torch.inf), wanted)

    def _cover(
        self, draw: Callable[[int], tuple[Tensor, Tensor]], size: int, wanted: Tensor, rank: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Draw squares until enough patches are covered.

        Args:
            draw: gives patches (B, count, C, C) of that many squares, and which of them are real.
            size: patches of the padded grid.
            wanted: (B,) patches to hide; clips that hide none need no squares.
            rank: (B,) how many patches are covered before the draw that is looked for.

        Returns:
            (B, size) the draw that covers each patch first (the number of draws where none does), and (B, 1) the draw
            that covers patch number `rank`.
        """
        left = max(1, size - int(self.ratio * size) - 1) / size
        count = math.ceil(SPARE * size / self.cluster_min**2 * max(1.0, -math.log(left))) + 16
        if wanted.device.type != "cpu":
            count *= 2  # there nobody looks whether they were enough: it would make the host wait
        while True:
            first = _first_cover(*draw(count), size)
            stop = first.sort(dim=1).values.gather(1, rank[:, None])
            if wanted.device.type != "cpu" or bool(((stop[:, 0] < count) | (wanted == 0)).all()):
                return first, stop
            count *= 2  # the draws made so far stay the same


def _first_cover(cell: Tensor, counts: Tensor, size: int) -> Tensor:
    """Return (B, size) the number of the first draw that covers each patch; the number of draws where none does.

    Args:
        cell: (B, draws, C, C) patches.
        counts: of the same shape, which of them are real.
        size: patches of the padded grid.
    """
    B, draws = cell.shape[:2]
    number = torch.arange(draws, device=cell.device).view(1, -1, 1, 1).expand_as(cell).reshape(B, -1)
    place = torch.where(counts, cell, size).reshape(B, -1)
    first = torch.full((B, size + 1), draws, dtype=torch.int64, device=cell.device)
    return first.scatter_reduce(1, place, number, "amin")[:, :size]


def smallest(keys: Tensor, wanted: Tensor) -> Tensor:
    """Return (B, N) bool: the (B,) `wanted` smallest keys of each row."""
    rank = keys.argsort(dim=1, stable=True).argsort(dim=1)
    return rank < wanted[:, None]


def _padded(chosen: Tensor, columns: Tensor, rows: int, width: int, largest: int) -> Hidden:
    """Move patches counted in each clip's own grid (row * columns + column) to the padded grid."""
    place = torch.arange(rows * width, device=chosen.device).expand(len(columns), -1)
    own = columns.clamp(min=1)[:, None]
    target = (place // own).clamp(max=max(rows - 1, 0)) * width + place % own
    mask = chosen.new_zeros(len(columns), rows * width + 1)  # the last one takes what is not chosen
    mask = mask.scatter(1, torch.where(chosen, target, rows * width), True)[:, :-1]
    index = mask.to(torch.int8).sort(dim=1, descending=True, stable=True).indices[:, :largest]
    valid = mask.gather(1, index)
    return Hidden(torch.where(valid, index, 0), valid, mask)
