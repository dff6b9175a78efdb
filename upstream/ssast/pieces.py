"""Long recordings in pieces: the grid of patches is cut along time, so that no patch is lost or shifted at a cut."""

from typing import NamedTuple

import torch
from torch import Tensor


class Piece(NamedTuple):
    """Columns `start` to `start + count - 1` of one utterance of a batch."""

    row: int
    start: int
    count: int


def cut(columns: list[int], longest: int) -> list[Piece]:
    """Cut utterances of so many columns into nearly equal pieces of at most `longest` columns each.

    An utterance's pieces depend on its own length only. One without any column still is one piece, of count 0.
    """
    pieces = []
    for row, total in enumerate(columns):
        number = max(1, -(-total // longest))
        ends = [total * (i + 1) // number for i in range(number)]
        starts = [0, *ends[:-1]]
        pieces += [Piece(row, start, end - start) for start, end in zip(starts, ends, strict=True)]
    return pieces


def gather(grid: Tensor, pieces: list[Piece]) -> Tensor:
    """Return the pieces (S, R, W, D) of a grid (B, R, K, D), zero-padded to the widest."""
    width = max(1, *(piece.count for piece in pieces))
    if len(pieces) == grid.shape[0] and width <= grid.shape[2]:  # whole utterances
        return grid[:, :, :width]
    out = grid.new_zeros(len(pieces), grid.shape[1], width, grid.shape[3])
    for i, piece in enumerate(pieces):
        out[i, :, : piece.count] = grid[piece.row, :, piece.start : piece.start + piece.count]
    return out


def join(parts: Tensor, pieces: list[Piece], columns: int) -> Tensor:
    """Put pieces (S, R, W, D) back into a grid (B, R, columns, D), zeros where there was nothing."""
    rows = pieces[-1].row + 1
    if len(pieces) == rows and parts.shape[2] == columns and all(piece.count == columns for piece in pieces):
        return parts
    out = parts.new_zeros(rows, parts.shape[1], columns, parts.shape[3])
    for i, piece in enumerate(pieces):
        out[piece.row, :, piece.start : piece.start + piece.count] = parts[i, :, : piece.count]
    return out


def average(values: Tensor, pieces: list[Piece]) -> Tensor:
    """Return means (B, ...) over each utterance's pieces of values (S, ...), weighted by their columns."""
    rows = torch.tensor([piece.row for piece in pieces], device=values.device)
    weights = torch.tensor([max(1, piece.count) for piece in pieces], device=values.device, dtype=values.dtype)
    shape = (-1, *([1] * (values.dim() - 1)))
    total = values.new_zeros(pieces[-1].row + 1, *values.shape[1:])
    total.index_add_(0, rows, values * weights.view(shape))
    norm = weights.new_zeros(len(total)).index_add_(0, rows, weights)
    return total / norm.view(shape)
