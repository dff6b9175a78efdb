"""Spectrograms as grids of patches.

A grid has R rows over frequency (row 0 is the lowest) and K columns over time. Inside a patch the P = height * width
cells are flattened frequency first: element = row in patch * width + frame in patch.
"""

import torch
from torch import Tensor


def count(cells: int | Tensor, size: int, stride: int) -> int | Tensor:
    """Return how many patches of `size` cells fit at `stride`, at least 0; works for (B,) tensors too."""
    fitting = (cells - size) // stride + 1
    return fitting.clamp(min=0) if isinstance(fitting, Tensor) else max(0, fitting)


def to_patches(spectrogram: Tensor, height: int, width: int) -> Tensor:
    """Cut (B, T, F) into patches that do not overlap; returns (B, R, K, height * width).

    Bins and frames beyond the last whole patch are left out.
    """
    B, T, F = spectrogram.shape
    R, K = F // height, T // width
    cut = spectrogram[:, : K * width, : R * height].reshape(B, K, width, R, height)
    return cut.permute(0, 3, 1, 4, 2).reshape(B, R, K, height * width)


def from_patches(patches: Tensor, height: int, width: int) -> Tensor:
    """Return the spectrogram (B, K * width, R * height) of patches (B, R, K, height * width)."""
    B, R, K, _ = patches.shape
    cells = patches.reshape(B, R, K, height, width).permute(0, 2, 4, 1, 3)
    return cells.reshape(B, K * width, R * height)


def fold_rows(grid: Tensor, columns: Tensor, pooling: str) -> tuple[Tensor, Tensor]:
    """Fold the frequency axis of hidden states away.

    Args:
        grid: (B, R, K, D).
        columns: (B,) valid columns.
        pooling: "mean" over rows, (B, K, D); "concat", (B, K, R * D), the lowest row first; "none" keeps every token,
            frequency slow and time fast, (B, R * K, D), each utterance's valid tokens at the front.

    Returns:
        The states, and (B,) valid positions.
    """
    B, R, K, D = grid.shape
    if pooling == "mean":
        return grid.mean(dim=1), columns
    if pooling == "concat":
        return grid.transpose(1, 2).reshape(B, K, R * D), columns
    place = torch.arange(R * K, device=grid.device).expand(B, -1)
    valid = columns.clamp(min=1)[:, None]
    index = (place // valid).clamp(max=R - 1) * K + place % valid  # positions beyond the valid ones are arbitrary
    return grid.flatten(1, 2).gather(1, index[..., None].expand(-1, -1, D)), columns * R
