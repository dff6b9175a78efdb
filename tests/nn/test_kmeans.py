"""K-means: equal to the reference step by step, deterministic, and at its best where the answer is known."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans

from speechssl.errors import UserError
from speechssl.nn import kmeans
from speechssl.nn.kmeans import cosine_kmeans, euclidean_kmeans, nearest, sums_by_code

GOLDEN = Path(__file__).parents[1] / "fixtures" / "beats_tokenizer.pt"


def blobs(centres: int, each: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tight clusters of vectors (centres * each, 8), shuffled, and the number of each one's cluster."""
    generator = torch.Generator().manual_seed(seed)
    middle = 5 * torch.randn(centres, 8, generator=generator)
    labels = torch.arange(centres).repeat_interleave(each)[torch.randperm(centres * each, generator=generator)]
    return middle[labels] + 0.05 * torch.randn(len(labels), 8, generator=generator), labels


def test_cosine_form_equals_the_original() -> None:
    golden = torch.load(GOLDEN, weights_only=True)["kmeans_cosine"]
    means, counts = cosine_kmeans(golden["samples"], 64, initial=golden["initial_means"], iterations=golden["iters"])
    torch.testing.assert_close(means, golden["means"], atol=1e-6, rtol=0)
    assert torch.equal(counts, golden["bins"])


def test_cosine_form_equals_a_loop() -> None:
    generator = torch.Generator().manual_seed(1)
    vectors = F.normalize(torch.randn(60, 5, generator=generator), dim=1)
    initial = vectors[:7]
    expected = initial.clone()
    for _ in range(3):
        codes = [max(range(7), key=lambda k, x=x: (float(x @ expected[k]), -k)) for x in vectors]
        for k in range(7):
            mine = [x for x, code in zip(vectors, codes, strict=True) if code == k]
            if mine:
                total = torch.stack(mine).sum(0)
                expected[k] = total / total.norm()
    means, counts = cosine_kmeans(7.0 * vectors, 7, iterations=3, initial=initial)
    torch.testing.assert_close(means, expected)
    assert counts.tolist() == [codes.count(k) for k in range(7)]


def test_a_mean_that_nobody_chooses_stays() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.8, -0.1]])
    means, counts = cosine_kmeans(vectors, 2, initial=torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    assert counts.tolist() == [3, 0]
    assert means[1].tolist() == [-1.0, 0.0]


@pytest.mark.parametrize("form", [cosine_kmeans, euclidean_kmeans])
def test_same_generator_same_means_and_the_global_one_untouched(form) -> None:
    vectors, _ = blobs(20, 10)
    state = torch.get_rng_state()
    first, again, other = (form(vectors, 16, torch.Generator().manual_seed(seed))[0] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_euclidean_form_finds_the_clusters() -> None:
    """One code in each of 40 clusters, for every seed: random starts alone would miss some."""
    vectors, labels = blobs(40, 25)
    for seed in range(5):
        means, counts = euclidean_kmeans(vectors, 40, torch.Generator().manual_seed(seed))
        codes = nearest(vectors, means, unit=False)
        assert counts.tolist() == [25] * 40
        assert len({(int(a), int(b)) for a, b in zip(codes, labels, strict=True)}) == 40


def test_means_without_vectors_move_to_where_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels = blobs(12, 10)
    spread, calls = kmeans._spread, []

    def first_all_equal(samples: torch.Tensor, number: int, *others: object) -> torch.Tensor:
        calls.append(number)
        return samples[:1].repeat(number, 1) if len(calls) == 1 else spread(samples, number, *others)

    monkeypatch.setattr(kmeans, "_spread", first_all_equal)
    means, _ = euclidean_kmeans(vectors, 12, torch.Generator().manual_seed(0))
    codes = nearest(vectors, means, unit=False)
    assert calls[:2] == [12, 11]
    assert len({(int(a), int(b)) for a, b in zip(codes, labels, strict=True)}) == 12


def test_euclidean_form_is_as_good_as_scikit_learn() -> None:
    vectors = torch.randn(2000, 8, generator=torch.Generator().manual_seed(0))
    means, _ = euclidean_kmeans(vectors, 32, torch.Generator().manual_seed(0), iterations=30)
    inertia = float((vectors - means[nearest(vectors, means, unit=False)]).square().sum())
    reference = KMeans(32, n_init=3, max_iter=30, random_state=0).fit(vectors.numpy()).inertia_
    assert inertia < 1.02 * reference


def test_many_equal_vectors_waste_no_codes() -> None:
    """Silent patches are all the same; of 64 codes they need one."""
    generator = torch.Generator().manual_seed(2)
    vectors = torch.cat([torch.zeros(5000, 8), torch.randn(500, 8, generator=generator)])
    vectors = vectors[torch.randperm(len(vectors), generator=generator)]
    means, counts = euclidean_kmeans(vectors, 64, torch.Generator().manual_seed(0))
    assert int((nearest(vectors, means, unit=False).bincount(minlength=64) > 0).sum()) == 64
    assert int(counts.max()) >= 5000
    assert int((means.norm(dim=1) < 0.1).sum()) == 1


@pytest.mark.parametrize("form", [cosine_kmeans, euclidean_kmeans])
def test_fewer_vectors_than_codes(form) -> None:
    vectors = torch.eye(4)[:3]
    means, counts = form(vectors, 8, torch.Generator().manual_seed(0))
    assert means.shape == (8, 4)
    assert bool(torch.isfinite(means).all())
    assert int(counts.sum()) == 3
    assert all(any(torch.allclose(x, m) for m in means) for x in vectors)


def test_nearest_by_hand_in_chunks_and_with_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    codebook = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    vectors = torch.tensor([[[0.9, 0.0], [1.1, 0.0]], [[0.0, 1.5], [1.0, -3.0]]])
    expected = [[0, 1], [2, 0]]  # the second of the equal codes is never chosen
    assert nearest(vectors, codebook, unit=False).tolist() == expected
    monkeypatch.setattr("speechssl.nn.kmeans.ROWS", 3)
    assert nearest(vectors, codebook, unit=False).tolist() == expected
    vectors = torch.randn(100, 6, generator=torch.Generator().manual_seed(0))
    codes = F.normalize(torch.randn(30, 6, generator=torch.Generator().manual_seed(1)), dim=1)
    distances = torch.cdist(F.normalize(vectors, dim=1), codes)
    assert torch.equal(nearest(vectors, codes, unit=True), distances.argmin(dim=1))


def test_autocast_changes_nothing() -> None:
    vectors = torch.randn(500, 64, generator=torch.Generator().manual_seed(0))
    codes = torch.randn(100, 64, generator=torch.Generator().manual_seed(1))
    expected = nearest(vectors, codes, unit=False)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nearest(vectors, codes, unit=False), expected)
        assert not torch.equal((vectors @ codes.T - codes.square().sum(1) / 2).argmax(1), expected)


def test_sums_leave_out_what_is_not_selected() -> None:
    vectors, codes = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), torch.tensor([2, 0, 2])
    sums, counts = sums_by_code(vectors, codes, 3, torch.tensor([True, False, True]))
    assert sums.tolist() == [[0, 0], [0, 0], [6, 8]]
    assert counts.tolist() == [0, 0, 2]


def test_wrong_vectors() -> None:
    for wrong in (torch.zeros(0, 3), torch.zeros(3), torch.full((4, 3), torch.nan)):
        with pytest.raises(UserError, match="finite vectors"):
            cosine_kmeans(wrong, 2)
