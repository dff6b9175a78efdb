"""Counter-based random numbers: reproducible by row, stable prefixes, right distributions."""

import pytest
import torch

from speechssl.nn.random import bits, normal, uniform


def seeds(count: int, start: int = 0) -> torch.Tensor:
    return torch.arange(start, start + count)


def test_bits_are_those_of_a_plain_splitmix() -> None:
    mask = (1 << 64) - 1

    def mix(x: int) -> int:
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    def number(seed: int, stream: int, index: int) -> int:
        key = mix((mix(seed & mask) + stream) & mask)
        return mix((key + (index + 1) * 0x9E3779B97F4A7C15) & mask) & (mask >> 1)

    given = [0, 1, -5, 2**62 + 12345]
    drawn = bits(torch.tensor(given), 3, 5).tolist()
    assert drawn == [[number(seed, 3, i) for i in range(5)] for seed in given]


@pytest.mark.parametrize("draw", [bits, uniform, normal])
def test_a_row_depends_on_its_own_seed_only(draw) -> None:
    together = draw(torch.tensor([7, 11, 13]), 2, 50)
    alone = draw(torch.tensor([11]), 2, 50)
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-6)
    torch.testing.assert_close(draw(torch.tensor([11]), 2, 20), alone[:, :20], rtol=0, atol=1e-6)
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(draw(torch.tensor([11]), 3, 50), alone)


def test_uniform_distribution() -> None:
    drawn = uniform(seeds(200), 0, 1000)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = torch.histc(drawn, 50, 0, 1)
    expected = drawn.numel() / 50
    assert ((counts - expected) ** 2 / expected).sum() < 49 + 4 * 9.9  # chi-square, 4 sigma
    assert drawn.mean(1).std() == pytest.approx((1 / 12 / 1000) ** 0.5, rel=0.15)  # rows are independent
    assert drawn.mean(0).std() == pytest.approx((1 / 12 / 200) ** 0.5, rel=0.1)  # so are neighbouring seeds


def test_normal_distribution() -> None:
    drawn = normal(seeds(100), 1, 2000)
    assert drawn.mean() == pytest.approx(0, abs=0.01)
    assert drawn.std() == pytest.approx(1, abs=0.01)
    assert (drawn.abs() > 1.96).float().mean() == pytest.approx(0.05, abs=0.003)
    assert drawn.isfinite().all()
