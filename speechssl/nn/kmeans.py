"""Nearest codes, and k-means with which a codebook begins: on the unit sphere (cosine), and in plain space.

The cosine form is the initialisation of BEiT v2's quantiser (Peng et al., 2022, https://arxiv.org/abs/2208.06366),
which BEATs uses as well: a fixed number of Lloyd iterations from distinct samples, means normalised, a mean without
samples left as it is. There it runs on whatever the first batch holds, drawn from the global generator.

In plain space codes begin with k-means++ (Arthur and Vassilvitskii, 2007) on a subset, and so does anew a mean that
nobody chooses. Silent patches are many and nearly equal: seeds drawn uniformly would be silent more often than not.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from speechssl.errors import UserError

ROWS = 8192  # vectors compared at a time: 32 MB of float32 scores with 1024 codes
SEEDING = 16  # samples per code that k-means++ looks at


def exact_dtype(device: torch.device) -> torch.dtype:
    """Return the precision to compare vectors in: float32, on CUDA float64, for there float32 may mean TF32."""
    return torch.float64 if device.type == "cuda" else torch.float32


def nearest(vectors: Tensor, codebook: Tensor, *, unit: bool) -> Tensor:
    """Return the number (...) of the closest code for vectors (..., d); of equally close ones, the lowest.

    Computed outside autocast, in `exact_dtype`.

    Args:
        vectors: (..., d).
        codebook: (V, d).
        unit: all codes have the same norm, so that the closest is the one with the largest dot product.
    """
    exact = exact_dtype(vectors.device)
    with torch.no_grad(), torch.autocast(vectors.device.type, enabled=False):
        codes = codebook.to(exact)
        half = None if unit else codes.square().sum(dim=1) / 2  # ||x - c||^2 / 2 = ||x||^2 / 2 - (x c - ||c||^2 / 2)
        parts = [_closest(rows.to(exact), codes, half) for rows in vectors.flatten(0, -2).split(ROWS)]
        return torch.cat(parts).view(vectors.shape[:-1])


def _closest(rows: Tensor, codes: Tensor, half: Tensor | None) -> Tensor:
    scores = rows @ codes.T
    return (scores if half is None else scores - half).argmax(dim=1)


def sums_by_code(vectors: Tensor, codes: Tensor, num_codes: int, selected: Tensor | None = None) -> tuple[Tensor, ...]:
    """Return sums (V, d) of the vectors (M, d) with each code (M,), and their counts (V,).

    Args:
        selected: (M,) bool; the other vectors count nowhere.
    """
    weights = torch.ones_like(codes, dtype=vectors.dtype) if selected is None else selected.to(vectors.dtype)
    counts = vectors.new_zeros(num_codes).index_add_(0, codes, weights)
    chosen = vectors if selected is None else vectors * weights[:, None]
    return vectors.new_zeros(num_codes, vectors.shape[1]).index_add_(0, codes, chosen), counts


@torch.no_grad()
def cosine_kmeans(
    vectors: Tensor,
    num_codes: int,
    generator: torch.Generator | None = None,
    *,
    iterations: int = 10,
    initial: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return unit means (V, d) and the number of vectors (V,) that chose each in the last iteration.

    Args:
        vectors: (M, d); only their directions count.
        num_codes: V.
        generator: of the vectors to begin with (on the CPU), distinct where there are enough.
        iterations: of assigning and averaging.
        initial: (V, d) unit means to begin with instead.
    """
    vectors = F.normalize(_checked(vectors), dim=-1)
    means = vectors[_some(len(vectors), num_codes, generator)] if initial is None else initial.to(vectors)
    counts = vectors.new_zeros(num_codes)
    for _ in range(iterations):
        sums, counts = sums_by_code(vectors, nearest(vectors, means, unit=True), num_codes)
        means = torch.where(counts[:, None] > 0, F.normalize(sums, dim=-1), means)
    return means, counts.long()


@torch.no_grad()
def euclidean_kmeans(
    vectors: Tensor, num_codes: int, generator: torch.Generator | None = None, *, iterations: int = 20
) -> tuple[Tensor, Tensor]:
    """Return means (V, d) and the number of vectors (V,) that chose each in the last iteration.

    Args:
        vectors: (M, d).
        num_codes: V.
        generator: of the samples to begin with (on the CPU).
        iterations: of assigning and averaging.
    """
    vectors = _checked(vectors)
    samples = vectors[_some(len(vectors), min(len(vectors), SEEDING * num_codes), generator)]
    means = _spread(samples, num_codes, generator)
    counts = vectors.new_zeros(num_codes)
    for _ in range(iterations):
        sums, counts = sums_by_code(vectors, nearest(vectors, means, unit=False), num_codes)
        means = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], means)
        means = _reseeded(samples, means, counts, generator)
    return means, counts.long()


def _checked(vectors: Tensor) -> Tensor:
    if vectors.dim() != 2 or len(vectors) == 0 or not bool(torch.isfinite(vectors).all()):
        raise UserError(f"k-means expects finite vectors (M, d) with M > 0, found shape {tuple(vectors.shape)}")
    return vectors.float()


def _some(total: int, wanted: int, generator: torch.Generator | None) -> Tensor:
    """Return `wanted` of `total` indices: distinct ones as long as there are enough, then again from the start."""
    order = torch.randperm(total, generator=generator)
    return order[torch.arange(wanted) % total] if wanted > total else order[:wanted]


def _spread(samples: Tensor, number: int, generator: torch.Generator | None, distance: Tensor | None = None) -> Tensor:
    """Draw samples (number, d), each with a probability that grows with its squared distance to the codes before.

    Args:
        samples: (M, d).
        number: of draws.
        generator: on the CPU.
        distance: (M,) squared, to the codes there are already; None where there are none.
    """
    draws = torch.rand(number, generator=generator, dtype=torch.float64).to(samples.device)
    squares, chosen = samples.square().sum(dim=1), []
    for draw in draws:
        total = (torch.ones_like(squares) if distance is None else distance).double().cumsum(0)
        index = torch.searchsorted(total, draw * total[-1], right=True).clamp(max=len(samples) - 1)
        chosen.append(index)
        last = samples[index]
        to_last = (squares - 2 * (samples @ last) + last.square().sum()).clamp(min=0)
        to_last[index] = 0  # rounding must not let a sample be drawn twice
        distance = to_last if distance is None else torch.minimum(distance, to_last)
    return samples[torch.stack(chosen)]


def _reseeded(samples: Tensor, means: Tensor, counts: Tensor, generator: torch.Generator | None) -> Tensor:
    """Give means that no vector chose another beginning among the samples."""
    empty = (counts == 0).nonzero()[:, 0]
    if len(empty) == 0:
        return means
    distance = (samples - means[nearest(samples, means, unit=False)]).square().sum(dim=1)
    return means.index_copy(0, empty, _spread(samples, len(empty), generator, distance))
