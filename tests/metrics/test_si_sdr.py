import pytest
import torch

from speechssl.metrics.si_sdr import best_si_sdr, si_sdr

REFERENCE = torch.tensor([1.0, 2.0, -3.0, 0.0])
ESTIMATE = torch.tensor([1.1, 1.8, -3.2, 0.3])


def test_hand_computed_and_blind_to_scale_and_offset() -> None:
    assert float(si_sdr(ESTIMATE, REFERENCE)) == pytest.approx(19.2507, abs=1e-3)
    assert float(si_sdr(7 * ESTIMATE + 3, 0.1 * REFERENCE - 1)) == pytest.approx(19.2507, abs=1e-3)


def test_the_better_assignment_counts() -> None:
    generator = torch.Generator().manual_seed(0)
    references = torch.randn(3, 2, 100, generator=generator)
    estimates = references + 0.1 * torch.randn(3, 2, 100, generator=generator)
    straight = si_sdr(estimates, references).mean(dim=1)
    torch.testing.assert_close(best_si_sdr(estimates, references), straight)
    torch.testing.assert_close(best_si_sdr(estimates.flip(1), references), straight)


def test_silence_is_finite() -> None:
    silence = torch.zeros(4)
    assert all(bool(si_sdr(a, b).isfinite()) for a in (silence, ESTIMATE) for b in (silence, REFERENCE, ESTIMATE))
