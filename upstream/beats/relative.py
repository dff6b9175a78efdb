"""Relative position bias: a learned number per head for every distance between two patches, in buckets.

The buckets of T5 (Raffel et al., 2020, https://arxiv.org/abs/1910.10683): near distances have one each, far ones share
them on a logarithmic scale, in both directions. All layers of a stack share the table, so it is looked up once per
forward, for the 2 n - 1 distances there are.
"""

import math

import torch
from torch import Tensor, nn

from speechssl.errors import UserError

KEPT = 2**25  # numbers (128 MiB) up to which the bias between all patches is kept


def bucket(distance: Tensor, num_buckets: int, max_distance: int) -> Tensor:
    """Return the bucket of each distance (key index - query index), in the float32 arithmetic of the original."""
    half = num_buckets // 2
    exact = half // 2
    far = distance.abs()
    scale = torch.log(far.clamp(min=1).float() / exact) / math.log(max_distance / exact) * (half - exact)
    shared = (exact + scale.long()).clamp(max=half - 1)
    return torch.where(far < exact, far, shared) + half * (distance > 0)


class RelativeBias(nn.Module):
    """The table of a stack.

    Args:
        num_heads: H.
        num_buckets: half of them for keys after the query, half for the others.
        max_distance: in patches; from here on all share a bucket.
    """

    def __init__(self, num_heads: int, num_buckets: int = 320, max_distance: int = 800):
        super().__init__()
        if num_buckets < 4 or num_buckets % 4 or max_distance <= num_buckets // 4:
            raise UserError(
                "expected num_buckets divisible by 4 and max_distance above a quarter of them, "
                f"found num_buckets={num_buckets} and max_distance={max_distance}"
            )
        self.max_distance = max_distance
        self.table = nn.Parameter(torch.empty(num_buckets, num_heads))
        distances = torch.arange(-max_distance, max_distance + 1)
        self.register_buffer("buckets", bucket(distances, num_buckets, max_distance), persistent=False)

    def forward(self, size: int, places: Tensor | None = None) -> "Bias":
        """Return the bias among `size` patches in a row, or among those at `places` (B, n) of such a row."""
        distances = torch.arange(1 - size, size, device=self.table.device)
        distances = distances.clamp(-self.max_distance, self.max_distance) + self.max_distance
        return Bias(self.table[self.buckets[distances]].T.float(), places)


class Bias:
    """The bias of one forward.

    Attributes:
        offsets: (H, 2 N - 1), of the distances 1 - N ... N - 1.
        places: (B, n) indices in 0 ... N - 1 of the patches, or None where all N are there.
    """

    def __init__(self, offsets: Tensor, places: Tensor | None = None):
        self.offsets, self.places = offsets.contiguous(), places
        B, n = (1, self.size) if places is None else places.shape
        # Made here for all layers where it is small; that of long recordings is made block by block. An exported
        # program has one form for all lengths.
        small = torch.compiler.is_exporting() or B * len(offsets) * n * n <= KEPT
        self._whole = self._make(slice(None), slice(None), slice(0, n)) if small else None

    @property
    def size(self) -> int:
        """N."""
        return (self.offsets.shape[1] + 1) // 2

    def block(self, clips: slice, heads: slice, rows: slice) -> Tensor:
        """Return the bias of some queries: (1, heads, m, n), or (clips, heads, m, n) with places."""
        if self._whole is None:
            return self._make(clips, heads, rows)
        return self._whole[slice(None) if self.places is None else clips, heads, rows]

    def _make(self, clips: slice, heads: slice, rows: slice) -> Tensor:
        N, offsets = self.size, self.offsets[heads]
        if self.places is None and torch.compiler.is_exporting():  # windows of a length known at run time only
            index = torch.arange(N, device=offsets.device)
            return offsets[:, index - index[:, None] + (N - 1)][None]
        if self.places is None:  # the row of query i is the window of N offsets that starts at N - 1 - i
            return offsets[:, N - rows.stop : 2 * N - 1 - rows.start].unfold(1, N, 1).flip(1)[None]
        places = self.places[clips]
        index = places[:, None, :] - places[:, rows, None] + (N - 1)
        return offsets.T[index].permute(0, 3, 1, 2)
