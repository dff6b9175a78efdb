import pytest
import torch
from torch import Tensor

from speechssl.nn.spectrogram_augment import add_noise, mask_spectrogram, shift_in_time

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


def test_rows_depend_on_their_own_seed_only() -> None:
    features, frames = example(rows=4)
    frames = torch.tensor([20, 7, 30, 12])

    def augment(rows: Tensor, valid: Tensor, seeds: Tensor) -> Tensor:
        rows = mask_spectrogram(rows, valid, seeds, widest_bins=6, widest_frames=6, fill=FILL)
        return shift_in_time(add_noise(rows, valid, seeds), valid, seeds)

    together = augment(features, frames, SEEDS[:4])
    for row in range(4):
        n = int(frames[row])
        alone = augment(features[row : row + 1, :n], frames[row : row + 1], SEEDS[row : row + 1])
        torch.testing.assert_close(together[row, :n], alone[0])
        assert torch.equal(together[row, n:], features[row, n:])
