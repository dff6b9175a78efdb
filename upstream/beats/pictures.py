"""Labels made visible: every patch replaced by the mean of the patches that share its label."""

from torch import Tensor

from speechssl.upstream.beats.masks import BANDS, PATCH


def mean_patches(patches: Tensor, codes: Tensor, num_codes: int) -> Tensor:
    """Return (V, P) means of the patches (B, N, P) with each code (B, N); zeros for a code that does not occur."""
    flat, codes = patches.flatten(0, 1), codes.flatten()
    slots = codes.masked_fill(codes < 0, num_codes)
    sums = flat.new_zeros(num_codes + 1, flat.shape[1]).index_add_(0, slots, flat)
    counts = flat.new_zeros(num_codes + 1).index_add_(0, slots, flat.new_ones(len(flat)))
    return (sums / counts.clamp(min=1)[:, None])[:num_codes]


def to_cells(patches: Tensor) -> Tensor:
    """Return the spectrogram (B, 16 K, 128) of patches (B, 8 K, 256), inside a patch time slow and mel fast."""
    B, N, _ = patches.shape
    grid = patches.reshape(B, N // BANDS, BANDS, PATCH, PATCH)
    return grid.transpose(2, 3).reshape(B, N // BANDS * PATCH, BANDS * PATCH)
