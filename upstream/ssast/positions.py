"""Learned positions of a patch grid, adapted to grids of another size.

`official` follows the authors' code (https://github.com/YuanGongND/ssast): it looks at the number of columns only.
Fewer columns than in the table take as many from its middle; more are interpolated (bilinear). The same then for
rows. So with a smaller stride a column stands for another stretch of time than the one its position was trained for.
Their code crops rows to the width of the columns and interpolates over 8 rows whatever the grid has; here both are
the number of rows.

`aligned` places every patch where its centre lies in the table, in frames and mel bins, and interpolates there: 5 s
take the middle 5 s of the table at any stride. What reaches beyond the table takes its outermost positions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from speechssl.nn.positions import sinusoids

MODES = ("official", "aligned")
INITIAL = ("normal", "sinusoidal")
AMPLITUDE = 0.5  # of sinusoidal positions: about the size of an embedded patch


def official_positions(table: Tensor, rows: int, columns: int) -> Tensor:
    """Return (rows, columns, D) positions for a table (R, K, D)."""
    R, K, _ = table.shape
    if (rows, columns) == (R, K):
        return table
    if columns < K:
        start = K // 2 - columns // 2
        table = table[:, start : start + columns]
    else:
        table = _resize(table, R, columns)
    if rows < R:
        start = R // 2 - rows // 2
        return table[start : start + rows]
    return _resize(table, rows, columns)


def _resize(table: Tensor, rows: int, columns: int) -> Tensor:
    if table.shape[:2] == (rows, columns):
        return table
    image = table.float().permute(2, 0, 1)[None]
    return F.interpolate(image, size=(rows, columns), mode="bilinear", align_corners=False)[0].permute(1, 2, 0)


def sinusoidal_positions(rows: int, columns: int, width: int) -> Tensor:
    """Return (rows, columns, D) positions: half of the channels tell the row, half the column."""
    half = width // 2
    table = torch.zeros(rows, columns, width)
    table[..., :half] = sinusoids(rows, half)[:, None]
    table[..., half:] = sinusoids(columns, width - half)[None]
    return AMPLITUDE * table


def aligned_positions(table: Tensor, rows: int, columns: int, steps: tuple[float, float]) -> Tensor:
    """Return (rows, columns, D) positions for a table (R, K, D).

    Args:
        table: of the pretraining grid.
        rows, columns: of the new grid.
        steps: how many patches of the pretraining grid lie between two neighbours of the new one, over frequency and
            over time (1.0 where nothing overlaps).
    """
    K = table.shape[1]
    # Over frequency both grids start at mel bin 0; over time the clip takes the middle of the table, as above.
    over_rows = torch.arange(rows, device=table.device) * steps[0]
    span = int((columns - 1) * steps[1]) + 1
    over_columns = max(0, K // 2 - span // 2) + torch.arange(columns, device=table.device) * steps[1]
    return _sample(_sample(table, over_rows, 0), over_columns, 1)


def _sample(table: Tensor, places: Tensor, dim: int) -> Tensor:
    """Interpolate linearly along a dimension at fractional places, constant beyond both ends."""
    places = places.clamp(0, table.shape[dim] - 1)
    before = places.floor().long()
    after = (before + 1).clamp(max=table.shape[dim] - 1)
    shape = [1, 1, 1]
    shape[dim] = -1
    share = (places - before).to(table.dtype).view(shape)
    return table.index_select(dim, before) * (1 - share) + table.index_select(dim, after) * share
