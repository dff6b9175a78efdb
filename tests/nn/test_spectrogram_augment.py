import pytest
import torch
from torch import Tensor

from speechssl.nn.spectrogram_augment import add_noise, mask_spectrogram, shift_in_time, warp_time

SEEDS = torch.arange(400)
FILL = 0.467


def example(rows: int = 400, frames: int = 30, valid: int = 20) -> tuple[Tensor, Tensor]:
    features = torch.randn(rows, frames, 12, generator=torch.Generator().manual_seed(0))
    return features, torch.full((rows,), valid)


def test_masks_are_one_span_each_within_valid_frames() -> None:
    features, frames = example()
    for bins, times in ((6, 0), (0, 9), (6, 9)):
        masked = mask_spectrogram(features, frames, SEEDS, widest_bins=bins, widest_frames=times, fill=FILL)
        changed = masked != features
        assert torch.equal(masked[changed], torch.full((int(changed.sum()),), FILL))
        assert not changed[:, 20:].any()
        if bins and times:
            continue
        line = changed[:, 0] if bins else changed[:, :20, 0]
        assert torch.equal(changed[:, :20].any(dim=1 if bins else 2), line)
        widths = line.sum(dim=1)
        assert set(widths.tolist()) == set(range(bins or times))
        assert float(widths.float().mean()) == pytest.approx(((bins or times) - 1) / 2, abs=0.4)
        starts = line.float().diff(dim=1, prepend=torch.zeros(400, 1)).eq(1).sum(dim=1)
        assert int(starts.max()) == 1
        assert line.any(dim=0).all()  # every place is masked sometimes


def test_masks_of_zero_width_change_nothing() -> None:
    features, frames = example()
    assert torch.equal(mask_spectrogram(features, frames, SEEDS, widest_bins=0, widest_frames=0, fill=FILL), features)


def test_widths_can_be_a_number_per_clip() -> None:
    features, frames = example()
    widest = torch.arange(400) % 8
    masked = mask_spectrogram(features, frames, SEEDS, widest_bins=0, widest_frames=widest, fill=FILL)
    widths = (masked != features)[..., 0].sum(dim=1)
    assert not widths[widest < 2].any()
    assert [int(widths[widest == number].max()) for number in range(2, 8)] == list(range(1, 7))


def test_short_clips_are_never_masked_whole() -> None:
    features, frames = example(valid=4)
    masked = mask_spectrogram(features, frames, SEEDS, widest_bins=0, widest_frames=1000, fill=FILL)
    assert int((masked != features)[..., 0].sum(dim=1).max()) == 3


def test_noise_lies_between_zero_and_the_level_of_the_clip() -> None:
    features, frames = example()
    noise = add_noise(features, frames, SEEDS) - features
    assert not noise[:, 20:].any()
    assert float(noise.min()) >= 0.0
    levels = noise[:, :20].amax(dim=(1, 2))
    assert float(levels.max()) < 0.1
    assert float(levels.mean()) == pytest.approx(0.05, abs=0.005)
    loud = noise[levels > 0.05, :20]
    shares = loud / loud.amax(dim=(1, 2), keepdim=True)
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.01)


def test_shifts_rotate_valid_frames_by_up_to_ten() -> None:
    frames = torch.full((400,), 25)
    features = torch.arange(30.0).expand(400, 30)[..., None].expand(400, 30, 3)
    shifted = shift_in_time(features, frames, SEEDS)[..., 0]
    assert torch.equal(shifted[:, 25:], features[:, 25:, 0])
    shifts = (-shifted[:, 0]).remainder(25).long()
    found = torch.where(shifts > 12, shifts - 25, shifts)
    assert set(found.tolist()) == set(range(-10, 10))
    for row, shift in zip(shifted[:20], found[:20].tolist(), strict=True):
        assert torch.equal(row[:25], torch.arange(25.0).roll(shift))


def reference_warp(T: int, origin: int, target: int) -> Tensor:
    """Return (T, T) weights of a warp, from a loop: frame i of the output is read where the middle of frame i was."""
    weights = torch.zeros(T, T)
    for i in range(T):
        if i + 0.5 < target:
            source = (i + 0.5) * origin / target - 0.5
        else:
            source = origin + (i + 0.5 - target) * (T - origin) / (T - target) - 0.5
        source = min(max(source, 0.0), T - 1.0)
        low = int(source)
        weights[i, low] += 1.0 - (source - low)
        weights[i, min(low + 1, T - 1)] += source - low
    return weights


def test_warps_equal_a_loop_over_frames() -> None:
    features, frames = example()
    warped = warp_time(features, frames, SEEDS, farthest=3)
    assert torch.equal(warped[:, 20:], features[:, 20:])
    pairs = [(origin, target) for origin in range(3, 17) for target in range(origin - 2, origin + 4)]
    expected = torch.stack([torch.einsum("ts,bsf->btf", reference_warp(20, *pair), features[:, :20]) for pair in pairs])
    errors, found = (expected - warped[:, :20]).abs().amax(dim=(2, 3)).min(dim=0)
    assert float(errors.max()) < 1e-4
    counts = torch.bincount(found, minlength=len(pairs)).view(14, 6)
    moved = counts[:, [0, 1, 3, 4, 5]]  # where nothing moves all origins look alike
    assert (moved.sum(dim=1) > 5).all()
    assert (moved.sum(dim=0) > 40).all()
    assert 40 < int(counts[:, 2].sum()) < 100


def test_clips_too_short_to_warp_stay() -> None:
    features, frames = example(rows=20, valid=6)
    assert torch.equal(warp_time(features, frames, SEEDS[:20], farthest=3), features)
    assert not torch.equal(warp_time(features, frames + 1, SEEDS[:20], farthest=3), features)


def test_rows_depend_on_their_own_seed_only() -> None:
    features, frames = example(rows=4)
    frames = torch.tensor([20, 7, 30, 12])

    def augment(rows: Tensor, valid: Tensor, seeds: Tensor) -> Tensor:
        rows = mask_spectrogram(rows, valid, seeds, widest_bins=6, widest_frames=6, fill=FILL)
        rows = warp_time(rows, valid, seeds, farthest=3)
        return shift_in_time(add_noise(rows, valid, seeds), valid, seeds)

    together = augment(features, frames, SEEDS[:4])
    for row in range(4):
        n = int(frames[row])
        alone = augment(features[row : row + 1, :n], frames[row : row + 1], SEEDS[row : row + 1])
        torch.testing.assert_close(together[row, :n], alone[0])
        assert torch.equal(together[row, n:], features[row, n:])
