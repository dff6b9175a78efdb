"""Which patches SSAST hides: the distribution of the authors' sampler, and what no sampler may depend on."""

import os
import random
from pathlib import Path

import pytest
import torch

from speechssl.errors import UserError
from speechssl.upstream.ssast.masking import Hidden, MaskSampler

SEEDS = torch.arange(1000) * 7919 + 3
# Share of hidden patches per row of an 8 x 64 grid, low to high, measured on the authors' sampler.
PUBLISHED = {
    400: [0.416, 0.671, 0.815, 0.873, 0.889, 0.884, 0.883, 0.819],
    250: [0.197, 0.364, 0.497, 0.569, 0.596, 0.595, 0.590, 0.498],
    100: [0.072, 0.141, 0.205, 0.242, 0.258, 0.254, 0.243, 0.148],
}


def draw(kind: str, hidden: int = 400, seeds: torch.Tensor = SEEDS, columns: int = 64, rows: int = 8) -> Hidden:
    sampler = MaskSampler(kind, hidden / (rows * columns), 3, 5)
    return sampler(rows, torch.full((len(seeds),), columns), columns, seeds, 0)


def one_clip(generator: random.Random, hidden: int, patches: int = 512, columns: int = 64) -> list[int]:
    """Return the hidden patches of one clip, drawn square by square as the paper's code does."""
    side = 3 + generator.randrange(3)
    found: set[int] = set()
    while len(found) <= hidden:
        start = generator.randrange(patches)
        square = [start + columns * row + column for row in range(side) for column in range(side)]
        found |= {place for place in square if 0 < place < patches}
    return sorted(found)[:hidden]


@pytest.mark.parametrize("hidden", [400, 250, 100])
def test_official_shape_and_distribution(hidden: int) -> None:
    drawn = draw("official", hidden)
    assert drawn.valid.all()
    assert drawn.index.shape == (1000, hidden)
    assert (drawn.index.diff(dim=1) > 0).all()  # ascending, so all different
    assert drawn.mask.sum(1).eq(hidden).all()
    assert not drawn.mask[:, 0].any()
    assert not drawn.mask[:, 511].any()
    rows = drawn.mask.float().mean(0).view(8, 64).mean(1)
    torch.testing.assert_close(rows, torch.tensor(PUBLISHED[hidden]), atol=0.02, rtol=0)


@pytest.mark.parametrize("hidden", [400, 100])
def test_official_agrees_with_square_by_square_drawing(hidden: int) -> None:
    generator = random.Random(1)
    slow = torch.zeros(1000, 512)
    for clip in slow:
        clip[one_clip(generator, hidden)] = 1
    fast = draw("official", hidden).mask.float()
    assert (slow.mean(0) - fast.mean(0)).abs().max() < 0.08  # 512 patches, 1000 clips: 3.5 sigma is 0.078
    # Neighbours in the order of patches are hidden together: the same clusters, not only the same rates.
    together = [(m[:, 1:] * m[:, :-1]).mean() for m in (slow, fast)]
    torch.testing.assert_close(together[0], together[1], atol=0.01, rtol=0)


@pytest.mark.parametrize(("hidden", "seed"), [(400, 7), (250, 8), (100, 9)])
def test_the_slow_reference_is_the_authors_sampler(hidden: int, seed: int) -> None:
    folder = os.environ.get("SPEECHSSL_GOLDEN")
    if not folder:
        pytest.skip("SPEECHSSL_GOLDEN does not name the folder with the whole reference files")
    golden = torch.load(Path(folder) / "ssast_small.pt", weights_only=True)[f"sampler_patch_512_{hidden}"]
    generator = random.Random(seed)
    assert [one_clip(generator, hidden) for _ in range(len(golden))] == golden.tolist()


def test_uniform_clusters_hide_every_patch_equally_often() -> None:
    drawn = draw("uniform_clusters", seeds=torch.arange(4000) * 31 + 5)
    assert drawn.mask.sum(1).eq(400).all()
    rates = drawn.mask.float().mean(0).view(8, 64)
    assert rates.mean(1).sub(400 / 512).abs().max() < 0.01
    assert rates.sub(400 / 512).abs().max() < 0.035
    neighbours = (drawn.mask.view(-1, 8, 64)[:, :, 1:] == drawn.mask.view(-1, 8, 64)[:, :, :-1]).float().mean()
    alone = draw("patches").mask.view(-1, 8, 64)
    assert neighbours > (alone[:, :, 1:] == alone[:, :, :-1]).float().mean() + 0.1


def test_one_row_means_single_patches() -> None:
    for kind in ("official", "uniform_clusters", "patches"):
        drawn = draw(kind, rows=1, columns=512)
        assert drawn.mask.sum(1).eq(400).all()
        assert drawn.mask[:, 0].any()
        assert drawn.mask[:, 511].any()
        assert drawn.mask.float().mean(0).sub(400 / 512).abs().max() < 0.07


@pytest.mark.parametrize("kind", ["official", "uniform_clusters", "patches"])
@pytest.mark.parametrize("rows", [1, 8])
def test_a_clip_depends_on_its_own_seed_and_length_only(kind: str, rows: int) -> None:
    sampler = MaskSampler(kind, 0.75, 3, 5)
    columns = torch.tensor([64, 12, 3, 30, 0, 1])
    seeds = torch.arange(6) * 101 + 7
    drawn = sampler(rows, columns, 64, seeds, 0)
    grid = drawn.mask.view(6, rows, 64)
    for clip, own in enumerate(columns.tolist()):
        assert not grid[clip, :, own:].any()
        alone = sampler(rows, columns[clip : clip + 1], max(1, own), seeds[clip : clip + 1], 0)
        assert torch.equal(alone.mask.view(rows, -1)[:, :own], grid[clip, :, :own])
        cells = drawn.index[clip][drawn.valid[clip]]
        assert torch.equal(grid[clip].flatten().nonzero()[:, 0], cells)
    assert drawn.mask.sum(1).tolist()[:4] == [int(0.75 * rows * c) for c in (64, 12, 3, 30)]
    other = sampler(rows, columns, 64, seeds, 20)
    assert not torch.equal(other.mask, drawn.mask)


def test_almost_everything_can_be_hidden() -> None:
    sampler = MaskSampler("official", 62 / 64, 3, 5)
    drawn = sampler(4, torch.full((20,), 16), 16, SEEDS[:20], 0)
    assert drawn.mask.sum(1).eq(62).all()
    with pytest.raises(UserError, match="at most 62"):
        MaskSampler("official", 63 / 64, 3, 5)(4, torch.full((20,), 16), 16, SEEDS[:20], 0)


@pytest.mark.parametrize("sides", [(1, 1), (2, 8)])
@pytest.mark.parametrize("kind", ["official", "uniform_clusters"])
def test_cluster_sizes_are_configurable(kind: str, sides: tuple[int, int]) -> None:
    drawn = MaskSampler(kind, 0.5, *sides)(8, torch.full((50,), 32), 32, SEEDS[:50], 0)
    assert drawn.mask.sum(1).eq(128).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("offical", 0.5, 3, 5), "official"), (("official", 1.0, 3, 5), "below 1"), (("official", 0.5, 5, 3), "cluster")],
)
def test_wrong_settings(arguments: tuple, message: str) -> None:
    with pytest.raises(UserError, match=message):
        MaskSampler(*arguments)
