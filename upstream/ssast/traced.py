"""Pieces and positions as tensors: what `pieces` and `positions` do with Python numbers, for exported programs.

A program for batches and lengths that are not known yet cannot make lists of them. Here numbers of columns stay
tensors; the two sizes that shapes need, how many pieces an utterance has at most and how wide these are, are read once.
Piece p of c columns in n pieces covers columns c * p // n to c * (p + 1) // n - 1, as in `pieces.cut`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from speechssl.upstream.ssast.positions import aligned_positions, official_positions


class Layout(NamedTuple):
    """How a batch is cut; P pieces per utterance, of which those beyond its own number are empty."""

    starts: Tensor  # (B, P) first column
    counts: Tensor  # (B, P) columns
    numbers: Tensor  # (B,) pieces
    columns: Tensor  # (B,) columns
    width: int  # W, of the widest piece


def layout(columns: Tensor, longest: int) -> Layout:
    """Cut (B,) utterances of so many columns (at least 1) into pieces of at most `longest`."""
    numbers = (columns + longest - 1) // longest
    most, width = numbers.max().item(), ((columns + numbers - 1) // numbers).max().item()
    torch._check(most >= 1)
    torch._check(width >= 1)
    piece = torch.arange(most, device=columns.device)
    exists = piece < numbers[:, None]
    starts = columns[:, None] * piece // numbers[:, None]
    ends = columns[:, None] * (piece + 1) // numbers[:, None]
    return Layout(starts.where(exists, 0), (ends - starts).where(exists, 0), numbers, columns, width)


def gather(grid: Tensor, cuts: Layout) -> Tensor:
    """Return the pieces (B * P, R, W, D) of a grid (B, R, K, D); what lies beyond a piece is arbitrary."""
    place = cuts.starts[..., None] + torch.arange(cuts.width, device=grid.device)
    row = torch.arange(grid.shape[0], device=grid.device)[:, None, None]
    pieces = grid.transpose(1, 2)[row, place.clamp(max=grid.shape[2] - 1)]  # (B, P, W, R, D)
    return pieces.flatten(0, 1).transpose(1, 2)


def keys(cuts: Layout, rows: int) -> Tensor:
    """Return (B * P, rows * W) bool, True on the patches of a piece."""
    valid = torch.arange(cuts.width, device=cuts.counts.device) < cuts.counts.flatten()[:, None]
    return valid[:, None].expand(-1, rows, -1).flatten(1)


def join(parts: Tensor, cuts: Layout, columns: int) -> Tensor:
    """Put pieces (B * P, R, W, D) back into a grid (B, R, columns, D), zeros where there was nothing."""
    B, most = cuts.starts.shape
    column = torch.arange(columns, device=parts.device)
    total, number = cuts.columns[:, None], cuts.numbers[:, None]
    piece = torch.minimum(((column + 1) * number - 1) // total, number - 1)  # (B, columns)
    offset = column - cuts.starts.gather(1, piece)
    row = torch.arange(B, device=parts.device)[:, None] * most + piece
    grid = parts.transpose(1, 2)[row, offset.clamp(max=cuts.width - 1)]  # (B, columns, R, D)
    return grid.masked_fill((column >= total)[..., None, None], 0.0).transpose(1, 2)


def average(values: Tensor, cuts: Layout) -> Tensor:
    """Return means (B, ...) over each utterance's pieces of values (B * P, ...), weighted by their columns."""
    weights = cuts.counts.to(values.dtype)
    total = (values.unflatten(0, cuts.counts.shape) * weights[(..., *[None] * (values.dim() - 1))]).sum(1)
    return total / cuts.columns.to(values.dtype)[(..., *[None] * (values.dim() - 1))]


def positions(table: Tensor, cuts: Layout, rows: int, mode: str, steps: tuple[float, float]) -> Tensor:
    """Return (B * P, rows, W, D): the positions of every piece's own number of columns.

    Args:
        table: (R, K, D) of the pretraining grid.
        cuts: of this batch.
        rows: of the new grid.
        mode, steps: see `speechssl.upstream.ssast.positions`.
    """
    size, counts = table.shape[1], cuts.counts.flatten()[:, None].clamp(min=1)
    column = torch.arange(cuts.width, device=table.device)
    if mode == "official":
        table = official_positions(table, rows, size)
        resized = ((column + 0.5) * (size / counts) - 0.5).clamp(min=0)
        places = torch.where(counts < size, size // 2 - counts // 2 + column, resized)
    else:
        table = aligned_positions(table, rows, size, (steps[0], 1.0))
        span = ((counts - 1) * steps[1]).long() + 1
        places = (size // 2 - span // 2).clamp(min=0) + column * steps[1]
    places = places.clamp(max=size - 1)
    before = places.floor().long()
    share = (places - before).to(table.dtype)[..., None]
    swapped = table.transpose(0, 1)  # (K, rows, D)
    first, second = swapped[before], swapped[(before + 1).clamp(max=size - 1)]  # (B * P, W, rows, D)
    return torch.lerp(first, second, share[..., None]).transpose(1, 2)
