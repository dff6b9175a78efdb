"""Masks of padded batches."""

import torch

from speechssl.nn.padding import key_mask, lengths_to_mask


def test_lengths_to_mask() -> None:
    mask = lengths_to_mask(torch.tensor([0, 2, 3]), 3)
    assert mask.tolist() == [[False, False, False], [True, True, False], [True, True, True]]


def test_key_mask_is_left_out_only_when_nothing_is_padded() -> None:
    assert key_mask(torch.tensor([3, 3]), 3, look=True) is None
    assert key_mask(torch.tensor([3, 3]), 3, look=False).all()
    assert key_mask(torch.tensor([3, 2]), 3, look=True).tolist() == [[True] * 3, [True, True, False]]


def test_a_row_without_valid_positions_keeps_one_key() -> None:
    assert key_mask(torch.tensor([3, 0]), 3, look=True).sum(1).tolist() == [3, 1]
