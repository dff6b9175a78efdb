import math

import pytest
import torch

from speechssl.metrics.representation import representation


def test_isotropic_vectors_use_all_directions() -> None:
    found = representation(torch.randn(2000, 16, generator=torch.Generator().manual_seed(0)))
    assert found["rankme"] == pytest.approx(16, abs=0.3)
    assert found["std"] == pytest.approx(1.0, abs=0.02)
    assert found["cosine"] == pytest.approx(0.0, abs=0.01)


def test_a_common_offset_hides_the_rank_until_it_is_taken_off() -> None:
    vectors = torch.randn(500, 16, generator=torch.Generator().manual_seed(0)) + 10
    found = representation(vectors)
    assert found["rankme"] < 8 < 15 < found["rankme_centred"]
    assert found["cosine"] > 0.95
    assert found["std"] < 0.2


def test_values_by_hand() -> None:
    found = representation(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
    assert found["rankme"] == pytest.approx(1.7548, abs=1e-4)
    assert found["cosine"] == 0.0
    assert found["uniformity"] == pytest.approx(-4.0)
    assert found["std"] == pytest.approx(math.sqrt(2) / 2)
    assert representation(torch.ones(5, 3))["uniformity"] == pytest.approx(0.0)
