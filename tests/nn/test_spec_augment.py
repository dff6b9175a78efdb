import pytest
import torch

from speechssl.nn.spec_augment import SpecAugment, random_spans, warp_time


def test_evaluation_changes_nothing() -> None:
    features = torch.randn(2, 50, 80)
    assert torch.equal(SpecAugment().eval()(features, torch.tensor([50, 20])), features)


def test_masks_are_zero_in_whole_rows_and_columns() -> None:
    torch.manual_seed(0)
    features = torch.ones(4, 300, 200)
    changed = SpecAugment(warp=0)(features, torch.full((4,), 300))
    for row in changed:
        frames, channels = (row == 0).all(dim=1), (row == 0).all(dim=0)
        assert torch.equal(row == 0, frames[:, None] | channels[None])
        assert frames.sum() <= 2 * 39
        assert channels.sum() <= 4 * 49
    assert (changed == 0).any()


def test_spans_have_the_documented_distribution() -> None:
    torch.manual_seed(0)
    widths = random_spans(4000, 500, 1, 39).sum(dim=1)
    assert int(widths.min()) == 0
    assert int(widths.max()) == 39
    assert float(widths.float().mean()) == pytest.approx(19.5, abs=0.6)
    assert not random_spans(3, 20, 0, 5).any()
    assert random_spans(2, 5, 2, 49).shape == (2, 5)  # wider than the axis


def test_warp_moves_frames_and_keeps_the_length() -> None:
    torch.manual_seed(0)
    ramp = torch.arange(60.0)[:, None].expand(60, 3)
    warped = warp_time(ramp, 5)
    assert warped.shape == ramp.shape
    assert not torch.equal(warped, ramp)
    assert float((warped - ramp).abs().max()) < 7
    assert torch.equal(warp_time(ramp[:10], 5), ramp[:10])


def test_warp_does_not_mix_padding_in() -> None:
    torch.manual_seed(0)
    features = torch.ones(1, 40, 3)
    features[0, 25:] = 1000.0
    augment = SpecAugment(num_channel_masks=0, num_time_masks=0)
    changed = augment(features, torch.tensor([25]))
    torch.testing.assert_close(changed[0, :25], torch.ones(25, 3))
    assert changed[0, 25:].abs().max() == 0
