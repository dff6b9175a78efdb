"""Codebook usage against hand-computed cases."""

import math

import pytest
import torch

from speechssl.metrics.codebook import CodebookUsage, count_codes, entropy, perplexity


def test_padding_is_not_counted() -> None:
    assert count_codes(torch.tensor([[0, 2, 2, -1], [3, -1, -1, -1]]), 5).tolist() == [1, 0, 2, 1, 0]
    assert count_codes(torch.tensor([-1, -1]), 3).tolist() == [0, 0, 0]


def test_entropy_and_perplexity() -> None:
    assert float(perplexity(torch.ones(64))) == pytest.approx(64)
    assert float(perplexity(torch.tensor([7, 0, 0]))) == pytest.approx(1)
    assert float(entropy(torch.tensor([1, 1, 2]))) == pytest.approx(1.5 * math.log(2))
    assert float(entropy(torch.zeros(4))) == 0


def test_a_corpus_in_parts() -> None:
    usage = CodebookUsage(8)
    usage.update(torch.tensor([[0, 1, -1], [2, 2, -1]]))
    usage.update(torch.tensor([1, 0, 2, 2]))
    found = usage.compute()
    assert found["labels"] == 8
    assert found["used"] == 3
    assert found["dead"] == pytest.approx(5 / 8)
    assert found["entropy_bits"] == pytest.approx(1.5)
    assert found["perplexity"] == pytest.approx(2**1.5)
    assert found["top"] == pytest.approx(0.5)
    assert all(type(value) in (int, float) for value in found.values())


def test_no_labels_at_all() -> None:
    found = CodebookUsage(4).compute()
    assert (found["labels"], found["used"], found["dead"], found["perplexity"], found["top"]) == (0, 0, 1, 1, 0)
