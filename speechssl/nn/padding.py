"""Lengths and masks of padded batches. Padding is always at the end."""

import torch
from torch import Tensor


def lengths_to_mask(lengths: Tensor, size: int) -> Tensor:
    """Return (B, size) bool from (B,) lengths: True on valid positions."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def key_mask(lengths: Tensor, size: int, *, look: bool) -> Tensor | None:
    """Return the (B, size) bool mask of attention keys, or None when every position is known to be valid.

    A row of length 0 keeps its first position as a key: softmax over no key at all would be NaN.

    Args:
        lengths: (B,) valid positions.
        size: T.
        look: read the lengths to find out whether anything is padded. Without a mask attention takes its
            fastest kernels, but on a GPU looking waits for the device, which a training step should not do.
    """
    if look and not torch.compiler.is_compiling() and bool((lengths >= size).all()):
        return None
    return lengths_to_mask(lengths.clamp(min=1), size)
