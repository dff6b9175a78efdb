"""Patches of a spectrogram: their order, and folding the frequency axis away."""

import pytest
import torch
import torch.nn.functional as F

from speechssl.nn.patches import count, fold_rows, from_patches, to_patches


@pytest.mark.parametrize(("height", "width"), [(16, 16), (128, 2), (8, 4)])
def test_patches_equal_unfold(height: int, width: int) -> None:
    cells = torch.randn(2, 50, 128, generator=torch.Generator().manual_seed(0))
    unfolded = F.unfold(cells.transpose(1, 2)[:, None], (height, width), stride=(height, width)).transpose(1, 2)
    patches = to_patches(cells, height, width)
    assert patches.shape == (2, 128 // height, 50 // width, height * width)
    assert torch.equal(patches.flatten(1, 2), unfolded)
    whole = 50 // width * width
    assert torch.equal(from_patches(patches, height, width), cells[:, :whole])


def test_a_patch_that_no_longer_fits_is_left_out() -> None:
    assert to_patches(torch.zeros(1, 15, 128), 16, 16).shape == (1, 8, 0, 256)
    assert [count(n, 16, 10) for n in (15, 16, 25, 26, 512)] == [0, 1, 1, 2, 50]
    assert count(torch.tensor([0, 15, 16, 26]), 16, 10).tolist() == [0, 0, 1, 2]


def test_fold_rows() -> None:
    grid = torch.arange(2 * 3 * 4).view(1, 3, 4, 2).float().expand(2, -1, -1, -1)
    columns = torch.tensor([4, 2])
    mean, lengths = fold_rows(grid, columns, "mean")
    assert torch.equal(mean, grid.mean(1))
    assert lengths.tolist() == [4, 2]
    joined, _ = fold_rows(grid, columns, "concat")
    assert torch.equal(joined[0, 1], torch.cat([grid[0, row, 1] for row in range(3)]))
    tokens, lengths = fold_rows(grid, columns, "none")
    assert lengths.tolist() == [12, 6]
    assert torch.equal(tokens[0], grid[0].flatten(0, 1))
    assert torch.equal(tokens[1, :6], grid[1, :, :2].flatten(0, 1))  # the short clip's own tokens come first
