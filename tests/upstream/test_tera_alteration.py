"""The alterations: a slow twin that agrees exactly, the published distributions, and what they depend on."""

from math import comb

import pytest
import torch

from speechssl.errors import UserError
from speechssl.nn.random import bits, normal, uniform
from speechssl.upstream.tera import alteration as module
from speechssl.upstream.tera.alteration import Alteration, Altered

TIME = {"mask_frequency": 0, "noise_proportion": 0}
FREQUENCY = {"mask_proportion": 0, "noise_proportion": 0}
NOISE = {"mask_proportion": 0, "mask_frequency": 0}


def features(lengths: list[int], channels: int = 80, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    B, T = len(lengths), max(lengths)
    counts = torch.tensor(lengths)
    values = torch.randn(B, T, channels, generator=generator) + 10  # nothing is zero by chance
    values *= (torch.arange(T) < counts[:, None])[:, :, None]
    return values, counts, torch.randint(0, 2**62, (B,), generator=generator)


def draw(count: int, length: int, channels: int = 4, **settings) -> tuple[torch.Tensor, Altered]:
    values, counts, seeds = features([length] * count, channels)
    return values, Alteration(**settings)(values, counts, seeds)


def slow_spans(
    settings: Alteration, numbers: torch.Tensor, keys: list[list[int]], length: int
) -> list[tuple[int, int, int]]:
    """Return (start, source, width) of each span of one utterance, in the order they are drawn."""
    low, high = settings.mask_consecutive_min, settings.mask_consecutive_max
    width = low + int(numbers[module.SPAN_WIDTH] * (high - low + 1))
    last = max(length - width - 1, 0)
    candidates = list(range(last + 1))
    if not settings.mask_allow_overlap:
        offset = int(numbers[module.BUCKET_OFFSET] * (min(width, last) + 1))
        candidates = list(range(offset, last + 1, round(width * settings.mask_bucket_ratio)))
    count = min(round(length * settings.mask_proportion / width), len(candidates))
    chosen = sorted(candidates, key=lambda start: keys[start][0])[:count]
    sources = sorted(candidates, key=lambda start: keys[start][1])[:count]
    return [(start, source, width) for start, source in zip(chosen, sources, strict=True)]


def slow_twin(settings: Alteration, values: torch.Tensor, lengths: torch.Tensor, seeds: torch.Tensor) -> Altered:
    """Do what the published procedure says, one utterance and span at a time, with the same numbers."""
    B, T, F = values.shape
    altered, label = values.clone(), torch.zeros(B, T, F, dtype=torch.bool)
    time = torch.zeros(B, T, dtype=torch.bool)
    share = settings.mask_frequency
    for b, length in enumerate(lengths.tolist()):
        numbers = uniform(seeds[b : b + 1], module.SCALARS, 6)[0]
        keys = bits(seeds[b : b + 1], module.STARTS, 2 * T)[0].view(T, 2).tolist()
        clean, x = values[b, :length], altered[b, :length]
        for start, source, width in slow_spans(settings, numbers, keys, length):
            for step in range(min(width, length - start)):
                time[b, start + step] = True
                if numbers[module.POLICY] < 0.8:
                    x[start + step] = 0
                elif numbers[module.POLICY] < 0.9:
                    x[start + step] = clean[min(source + step, length - 1)]
        label[b, time[b]] = True
        block = int(numbers[module.BLOCK_WIDTH] * (int(share if share >= 1 else F * share) + 1))
        channel = int(numbers[module.BLOCK_START] * (F - block))
        x[:, channel : channel + block] = 0
        label[b, :length, channel : channel + block] = True
        if settings.mask_proportion == 0 and share == 0:
            label[b, :length] = True
        decides = uniform(seeds[:1], module.SCALARS, 6)[0] if settings.noise_per == "batch" else numbers
        if decides[module.IS_NOISY] < settings.noise_proportion:
            noise = normal(seeds[b : b + 1], module.NOISE, T * F).view(T, F)
            x += settings.noise_std * noise[:length]
    return Altered(altered, label, time)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mask_allow_overlap": False},
        {"mask_consecutive_min": 3, "mask_consecutive_max": 11, "mask_proportion": 0.4},
        {
            "mask_consecutive_min": 2,
            "mask_consecutive_max": 9,
            "mask_allow_overlap": False,
            "mask_bucket_ratio": 1.2,
        },
        {"mask_proportion": 0.9, "mask_frequency": 8},
        {"mask_proportion": 1.0, "mask_allow_overlap": False},
        {"noise_proportion": 0.5, "noise_per": "utterance"},
        {"noise_proportion": 1.0},
        TIME,
        FREQUENCY,
        NOISE,
    ],
)
def test_slow_twin_agrees_exactly(settings: dict) -> None:
    alteration = Alteration(**settings)
    for seed in range(3):
        lengths = torch.randint(1, 150, (40,), generator=torch.Generator().manual_seed(seed)).tolist()
        values, counts, seeds = features([*lengths, 0, 1, 2, 23, 24, 150], seed=seed)
        fast, slow = alteration(values, counts, seeds), slow_twin(alteration, values, counts, seeds)
        assert torch.equal(fast.time, slow.time)
        assert torch.equal(fast.label, slow.label)
        torch.testing.assert_close(
            fast.features, slow.features, rtol=0, atol=1e-6 if alteration.noise_proportion else 0
        )


@pytest.mark.parametrize("settings", [{}, {"noise_proportion": 1.0}, {"mask_allow_overlap": False}])
def test_neither_padding_nor_batch_mates_change_an_utterance(settings: dict) -> None:
    values, lengths, seeds = features([90, 60, 33])
    alteration = Alteration(**settings)
    together = alteration(values, lengths, seeds)
    for b, length in enumerate(lengths.tolist()):
        alone = alteration(values[b : b + 1, :length], lengths[b : b + 1], seeds[b : b + 1])
        if settings or b == 0:  # whether there is noise is decided for the batch
            torch.testing.assert_close(together.features[b, :length], alone.features[0], rtol=0, atol=1e-6)
        assert torch.equal(together.label[b, :length], alone.label[0])
        assert torch.equal(together.time[b, :length], alone.time[0])
    assert not together.label[1, 60:].any()
    assert (together.features[1, 60:] == 0).all()


def test_same_seed_same_masks_other_seed_other_masks() -> None:
    values, lengths, seeds = features([80, 80])
    alteration = Alteration()
    first = alteration(values, lengths, seeds)
    assert all(torch.equal(a, b) for a, b in zip(first, alteration(values, lengths, seeds), strict=True))
    assert not torch.equal(first.label, alteration(values, lengths, seeds + 1).label)
    torch.manual_seed(99)
    assert torch.equal(first.features, alteration(values, lengths, seeds).features)


def test_the_clean_features_are_left_alone() -> None:
    values, lengths, seeds = features([80] * 20)
    before = values.clone()
    Alteration(noise_proportion=1.0)(values, lengths, seeds)
    assert torch.equal(values, before)


def expected_coverage(length: int, width: int = 7, share: float = 0.15) -> list[float]:
    """Return the probability of each frame to lie in a span, from counting draws without replacement."""
    spans, candidates = round(length * share / width), max(length - width - 1, 0) + 1
    covering = [sum(max(t - width + 1, 0) <= s <= t for s in range(candidates)) for t in range(length)]
    return [1 - comb(candidates - c, spans) / comb(candidates, spans) for c in covering]


@pytest.mark.parametrize(
    ("length", "mean", "interior", "first", "spans"),
    [
        (23, 0, 0, 0, 0),
        (24, 0.2917, 0.4118, 0.0588, 1),
        (50, 0.14, 0.1628, 0.0233, 1),
        (300, 0.133, 0.1361, 0.0205, 6),
        (1500, 0.1403, 0.141, 0.0214, 32),
    ],
)
def test_time_spans_follow_the_published_distribution(
    length: int, mean: float, interior: float, first: float, spans: int
) -> None:
    expected = expected_coverage(length)
    assert sum(expected) / length == pytest.approx(mean, abs=1e-4)
    assert expected[length // 2] == pytest.approx(interior, abs=1e-4)
    assert expected[0] == pytest.approx(first, abs=1e-4)
    draws = 3000
    _, altered = draw(draws, length, channels=1, **TIME)
    found = altered.time.float().mean(0)
    assert found.mean().item() == pytest.approx(mean, abs=0.003)
    error = (torch.tensor(expected) * (1 - torch.tensor(expected)) / draws).sqrt()
    assert ((found - torch.tensor(expected)).abs() <= 4.5 * error + 1e-9).all()
    assert not altered.time[:, -1].any()  # the last frame is never reached, as published
    runs, most = run_lengths(altered.time)
    assert all(run >= 7 for run in runs)
    assert altered.time.sum(1).max() <= 7 * spans
    assert most == spans  # in some utterance no span touches another


def run_lengths(time: torch.Tensor) -> tuple[list[int], int]:
    """Return the lengths of all masked runs, and the largest number of whole spans in one utterance."""
    runs, most = [], 0
    for row in time.tolist():
        text = "".join("x" if masked else " " for masked in row).split()
        runs += [len(run) for run in text]
        most = max(most, sum(row) // 7)
    return runs, most


def test_spans_that_may_not_overlap_are_disjoint() -> None:
    _, altered = draw(500, 300, channels=1, **TIME, mask_allow_overlap=False)
    assert (altered.time.sum(1) == 42).all()
    assert set(run_lengths(altered.time)[0]) == {7}


def test_spans_never_leave_a_short_utterance() -> None:
    values, lengths, seeds = features([1, 2, 3, 5, 30] * 40, channels=2)
    altered = Alteration(mask_proportion=1.0, **TIME)(values, lengths, seeds)
    beyond = torch.arange(30) >= lengths[:, None]
    assert not (altered.time & beyond).any()
    assert not altered.label[beyond].any()
    assert (altered.features[beyond] == 0).all()


def test_what_happens_to_spans_is_drawn_once_per_utterance() -> None:
    draws = 3000
    values, altered = draw(draws, 100, channels=2, **TIME)
    zeroed = torch.stack([(x[m] == 0).all() for x, m in zip(altered.features, altered.time, strict=True)])
    unchanged = torch.stack(
        [torch.equal(x, y) * torch.ones(()) for x, y in zip(altered.features, values, strict=True)]
    ).bool()
    replaced = ~zeroed & ~unchanged
    for share, found in ((0.8, zeroed), (0.1, replaced), (0.1, unchanged)):
        assert found.float().mean().item() == pytest.approx(share, abs=3 * (share * (1 - share) / draws) ** 0.5 + 0.005)
    assert (altered.label == altered.time[:, :, None]).all()
    assert torch.equal(altered.features[~altered.time], values[~altered.time])
    for row in replaced.nonzero()[:50, 0].tolist():
        originals = {tuple(frame) for frame in values[row].tolist()}
        assert all(tuple(frame) in originals for frame in altered.features[row].tolist())


def test_frequency_blocks_follow_the_published_distribution() -> None:
    draws = 6000
    values, counts, seeds = features([3] * (draws - 1) + [5], channels=80)
    altered = Alteration(**FREQUENCY)(values, counts, seeds)
    assert torch.equal(altered.label[:, 0], altered.label[:, 2])
    assert not altered.label[:-1, 3:].any()
    block = altered.label[:, 0]
    assert torch.equal(altered.features == 0, altered.label | (values == 0))
    widths = block.sum(1)
    counts = torch.bincount(widths, minlength=17).float()
    assert len(counts) == 17
    assert ((counts - draws / 17) ** 2 / (draws / 17)).sum() < 16 + 4 * 32**0.5
    edges = block.long().diff(dim=1).abs().sum(1) + block[:, 0].long() + block[:, -1].long()
    assert ((edges == 2) | (widths == 0)).all()
    profile = block.float().mean(0)
    for channels, expected in (
        (slice(0, 1), 0.0132),
        (slice(1, 2), 0.0257),
        (slice(16, 64), 0.1163),
        (slice(78, 79), 0.0132),
    ):
        assert profile[channels].mean().item() == pytest.approx(expected, abs=4 * (expected / draws) ** 0.5)
    assert profile[79] == 0  # the last channel is never reached, as published
    assert block.float().mean().item() == pytest.approx(0.1, abs=0.004)


def test_the_share_of_labelled_elements() -> None:
    _, altered = draw(1000, 300, channels=80, noise_proportion=0)
    assert altered.label.float().mean().item() == pytest.approx(0.22, abs=0.006)


def test_noise_on_all_or_none_of_a_batch() -> None:
    values, lengths, _ = features([30] * 4, channels=8)
    alteration = Alteration(**NOISE)
    noisy = []
    for seed in range(2000):
        altered = alteration(values, lengths, torch.arange(4) + 4 * seed).features
        changed = (altered != values).any(2).any(1)
        assert changed.all() or not changed.any()
        noisy.append(bool(changed[0]))
    assert sum(noisy) / 2000 == pytest.approx(0.15, abs=0.025)


def test_noise_per_utterance() -> None:
    values, altered = draw(3000, 10, **NOISE, noise_per="utterance")
    changed = (altered.features != values).any(2).any(1)
    assert changed.float().mean().item() == pytest.approx(0.15, abs=0.02)


def test_noise_has_standard_deviation_and_leaves_the_label() -> None:
    values, counts, seeds = features([300] * 20)
    quiet = Alteration(noise_proportion=0)(values, counts, seeds)
    noisy = Alteration(noise_proportion=1)(values, counts, seeds)
    assert torch.equal(quiet.label, noisy.label)
    residual = noisy.features - quiet.features
    assert residual.std().item() == pytest.approx(0.2, abs=0.002)
    assert residual.mean().item() == pytest.approx(0, abs=0.002)
    assert (residual[quiet.features == 0] != 0).float().mean() > 0.99  # what was hidden is noisy as well


def test_noise_alone_reconstructs_every_valid_frame_and_no_padding() -> None:
    values, counts, seeds = features([9, 4])
    altered = Alteration(**NOISE)(values, counts, seeds)
    assert altered.label[0].all()
    assert altered.label[1, :4].all()
    assert not altered.label[1, 4:].any()


def test_an_utterance_in_which_nothing_is_hidden_stays_in_the_batch() -> None:
    values, counts, seeds = features([10] * 300)
    altered = Alteration(**FREQUENCY)(values, counts, seeds)
    empty = ~altered.label.flatten(1).any(1)
    assert 5 <= empty.sum() <= 40
    assert torch.equal(altered.features[empty], values[empty])


@pytest.mark.parametrize(
    "settings",
    [
        {"mask_proportion": 1.5},
        {"noise_proportion": -0.1},
        {"mask_consecutive_min": 0},
        {"mask_consecutive_min": 8},
        {"mask_bucket_ratio": 0.9},
        {"mask_frequency": -1},
        {"noise_per": "frame"},
    ],
)
def test_impossible_settings(settings: dict) -> None:
    with pytest.raises(UserError):
        Alteration(**settings)


def test_a_block_as_wide_as_all_channels_is_refused() -> None:
    values, counts, seeds = features([10], channels=8)
    with pytest.raises(UserError, match="would hide all 8 channels"):
        Alteration(mask_frequency=8)(values, counts, seeds)
