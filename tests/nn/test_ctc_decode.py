import itertools

import torch

from speechssl.nn.ctc_decode import greedy


def test_collapse() -> None:
    """`a a _ a b b _` is `a a b`."""
    outputs = torch.nn.functional.one_hot(torch.tensor([[1, 1, 0, 1, 2, 2, 0]]), 3).float()
    assert list(greedy(outputs, torch.tensor([7]))) == [[1, 1, 2]]
    assert list(greedy(outputs, torch.tensor([7]), blank=1)) == [[0, 2, 0]]
    assert list(greedy(outputs, torch.tensor([0]))) == [[]]


def test_equals_a_loop_and_ignores_padding() -> None:
    outputs = torch.randn(6, 40, 4, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([40, 1, 13, 39, 27, 5])
    expected = []
    for row, frames in zip(outputs.argmax(-1).tolist(), lengths.tolist(), strict=True):
        expected.append([symbol for symbol, _ in itertools.groupby(row[:frames]) if symbol != 0])
    assert list(greedy(outputs, lengths)) == expected
