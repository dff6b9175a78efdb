"""Masked label prediction: what is hidden, what the loss depends on, and that it learns."""

import math

import pytest
import torch
from torch import Tensor, nn

from speechssl import configs, registry, testing
from speechssl.errors import UserError
from speechssl.interfaces import Batch
from speechssl.upstream.beats.hide import split_tokens
from speechssl.upstream.beats.pictures import mean_patches, to_cells
from speechssl.upstream.beats.pretrain import BeatsPretraining, Clips
from speechssl.upstream.beats.random_projection import RandomProjection

STILL = {"dropout": 0.0, "attention_dropout": 0.0}


def make_task(upstream: dict | None = None, **options: object) -> BeatsPretraining:
    config = configs.load("upstream", "beats/debug")[1] | STILL | (upstream or {})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return BeatsPretraining(
            registry.build_upstream("beats", config), **{"num_codes": 32, "predictor_layers": 1} | options
        ).eval()


def changed(clips: Clips, codes: Tensor) -> Clips:
    return clips._replace(codes=codes)


class Fixed(nn.Module):
    """Labels that a test gives."""

    def __init__(self, codes: Tensor, num_codes: int):
        super().__init__()
        self.codes, self.num_codes = codes, num_codes

    def forward(self, *_: object) -> Tensor:
        return self.codes


# --- what is hidden


def test_a_quarter_is_kept_in_order_and_padding_never() -> None:
    counts = torch.tensor([496, 64, 8, 24])
    seeds = torch.arange(4) + 10
    split = split_tokens(seeds, counts, 496, 0.75, 0)
    assert split.kept_valid.sum(1).tolist() == [124, 16, 2, 6]
    assert split.hidden_valid.sum(1).tolist() == [372, 48, 6, 18]
    for row, count in enumerate(counts.tolist()):
        kept, hidden = split.kept[row][split.kept_valid[row]], split.hidden[row][split.hidden_valid[row]]
        assert kept.diff().gt(0).all()
        assert hidden.diff().gt(0).all()
        assert sorted(kept.tolist() + hidden.tolist()) == list(range(count)), "the two are complements"


def test_what_is_kept_depends_on_the_clip_alone() -> None:
    counts, seeds = torch.tensor([80, 120, 24]), torch.tensor([5, 6, 7])
    together = split_tokens(seeds, counts, 120, 0.75, 0)
    for row in range(3):
        alone = split_tokens(seeds[row : row + 1], counts[row : row + 1], int(counts[row]), 0.75, 0)
        assert together.kept[row][together.kept_valid[row]].tolist() == alone.kept[0].tolist()


def test_every_patch_is_kept_equally_often() -> None:
    draws = 4000
    split = split_tokens(torch.arange(draws), torch.full((draws,), 40), 48, 0.75, 0)
    share = torch.bincount(split.kept[split.kept_valid], minlength=48).float() / draws
    assert share[40:].eq(0).all()
    assert (share[:40] - 0.25).abs().max() < 5 * math.sqrt(0.25 * 0.75 / draws)


def test_at_least_one_patch_is_seen() -> None:
    split = split_tokens(torch.arange(2), torch.tensor([8, 8]), 8, 0.99, 0)
    assert split.kept_valid.sum(1).tolist() == [1, 1]


# --- the loss


def test_initial_loss_is_that_of_a_guess() -> None:
    task = make_task(num_codes=1024)
    loss = task(testing.make_batch([32000, 16000]))["loss"].detach()
    assert abs(float(loss) - math.log(1024)) < 0.1


def test_loss_is_the_mean_over_hidden_patches() -> None:
    task = make_task()
    batch = testing.make_batch([32000, 16000, 9000])
    clips = task.clips(batch)
    logits = task.logits(task.predictor_states(clips), torch.arange(clips.valid.shape[1]).expand(3, -1))
    losses = []
    for row in range(3):
        for place in clips.split.hidden[row][clips.split.hidden_valid[row]].tolist():
            losses.append(-logits[row, place].log_softmax(0)[clips.codes[row, place]])
    found = {name: value.detach() for name, value in task(batch).items()}
    assert float(found["loss"]) == pytest.approx(float(torch.stack(losses).mean().detach()), abs=1e-5)
    assert int(found["weight"]) == len(losses)


def test_labels_of_seen_and_padded_patches_do_not_matter() -> None:
    task = make_task()
    batch = testing.make_batch([32000, 9000])
    clips = task.clips(batch)
    hidden = torch.zeros_like(clips.valid)
    for row in range(2):
        hidden[row, clips.split.hidden[row][clips.split.hidden_valid[row]]] = True
    task.targets = Fixed(clips.codes, 32)
    first = task(batch)["loss"]
    others = torch.where(hidden, clips.codes, (clips.codes + 5) % 32)
    task.targets = Fixed(others, 32)
    assert torch.equal(task(batch)["loss"], first)
    one = clips.codes.clone()
    one[0, int(clips.split.hidden[0, 0])] = (one[0, int(clips.split.hidden[0, 0])] + 1) % 32
    task.targets = Fixed(one, 32)
    assert not torch.equal(task(batch)["loss"], first)


def test_the_encoder_does_not_see_what_is_hidden() -> None:
    task = make_task()
    clips = task.clips(testing.make_batch([32000, 9000]))
    index = clips.split.hidden[..., None].expand(-1, -1, 256)
    other = clips.patches.scatter(1, index, torch.randn(index.shape)).masked_fill(~clips.valid[..., None], 3.0)
    kept = clips.split.kept[..., None].expand(-1, -1, 256)
    other = other.scatter(1, kept, clips.patches.gather(1, kept))
    assert torch.equal(task.encode_kept(clips), task.encode_kept(clips._replace(patches=other)))


@pytest.mark.parametrize("positions", ["grid", "compact"])
def test_with_everything_kept_the_encoder_is_that_of_fine_tuning(positions: str) -> None:
    task = make_task(positions=positions)
    batch = testing.make_batch([32000, 32000])
    clips = task.clips(batch)
    size = clips.valid.shape[1]
    everything = torch.arange(size).expand(2, -1)
    split = clips.split._replace(kept=everything, kept_valid=torch.ones(2, size, dtype=torch.bool))
    cells, frames = task.upstream.spectrogram(batch.waveforms, batch.lengths)
    whole = task.upstream.token_states(cells, frames)[0][-1]
    assert torch.allclose(task.encode_kept(clips._replace(split=split)), whole, atol=1e-5)


def test_positions_make_a_difference() -> None:
    batch = testing.make_batch([32000])
    grid, compact = (make_task(positions=positions) for positions in ("grid", "compact"))
    with torch.no_grad():
        for task in (grid, compact):
            task.upstream.encoder.stack.bias.table.normal_(generator=torch.Generator().manual_seed(1))
    assert not torch.allclose(grid.encode_kept(grid.clips(batch)), compact.encode_kept(compact.clips(batch)), atol=1e-3)


@pytest.mark.parametrize(
    "options",
    [{}, {"filler": "learned"}, {"predictor_convolution": True}, {"label_smoothing": 0.1, "positions": "compact"}],
    ids=str,
)
def test_the_contract_holds_for_every_option(options: dict) -> None:
    testing.check_pretrain_task(make_task(**options))


def test_a_clip_counts_the_same_alone_and_in_a_batch() -> None:
    task = make_task(predictor_convolution=True)
    batch = testing.make_batch([32000, 9000, 16000])
    whole = task(batch)
    total, weight = 0.0, 0.0
    for row in range(3):
        length = int(batch.lengths[row])
        alone = Batch(batch.waveforms[row : row + 1, :length], batch.lengths[row : row + 1], ["x"], batch.seeds[[row]])
        found = task(alone)
        total, weight = total + float(found["loss"].detach() * found["weight"]), weight + float(found["weight"])
    assert float(whole["weight"]) == weight
    assert float(whole["loss"].detach()) == pytest.approx(total / weight, abs=1e-5)


def test_it_learns_to_tell_two_sounds_apart() -> None:
    """Labels that a clip's sound decides are told from the patches that are seen: below their entropy."""
    torch.manual_seed(0)
    task = make_task(num_codes=8, predictor_convolution=True).train()
    samples = 6400
    time = torch.arange(samples) / 16000
    low, high = 0.3 * torch.sin(2 * math.pi * 200 * time), 0.3 * torch.sin(2 * math.pi * 3000 * time)
    noise = torch.randn(8, samples, generator=torch.Generator().manual_seed(1)) * 0.01
    waveforms = torch.stack([low, high] * 4) + noise
    size = task.clips(Batch(waveforms, torch.full((8,), samples), ["x"] * 8, torch.arange(8))).valid.shape[1]
    task.targets = Fixed(torch.tensor([2, 5] * 4)[:, None].expand(-1, size), 8)
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
    for step in range(100):
        batch = Batch(waveforms, torch.full((8,), samples), ["x"] * 8, torch.arange(8) + 100 * step)
        loss = task(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.7 * math.log(2)


# --- logs, pictures, wrong input


def test_what_is_logged() -> None:
    task = make_task()
    batch = testing.make_batch([32000, 16000])
    found = task(batch)
    assert set(found) >= {"accuracy", "target_perplexity", "targets", "predicted", "seen_accuracy"}
    assert "seen_accuracy" not in task.train()(batch)
    clips = task.clips(batch)
    hidden = clips.codes.gather(1, clips.split.hidden)[clips.split.hidden_valid]
    assert int(found["targets"]) == len(hidden.unique())
    share = torch.bincount(hidden).double() / len(hidden)
    assert float(found["target_perplexity"]) == pytest.approx(
        float(torch.exp(torch.special.entr(share).sum())), rel=1e-4
    )


def test_pictures_show_labels_as_their_mean_patches() -> None:
    patches = torch.arange(6.0).view(1, 3, 2)
    means = mean_patches(patches, torch.tensor([[1, 1, -1]]), 3)
    assert means.tolist() == [[0.0, 0.0], [1.0, 2.0], [0.0, 0.0]]
    task = make_task()
    cells = torch.randn(2, 48, 128)
    assert torch.equal(to_cells(task.upstream.patches(cells)), cells)
    arrays = task.snapshot(testing.make_batch([16000, 9000]))
    assert arrays["clean"].shape == arrays["seen"].shape == arrays["labels"].shape == arrays["predicted"].shape
    assert arrays["lengths"].tolist() == [96, 48]


def test_statistics_have_to_agree() -> None:
    task = make_task(tokenizer=RandomProjection(32, mean=1.0, std=2.0))
    with pytest.raises(UserError, match=r"mean and std \(1.0, 2.0\)"):
        task.on_start(None)
    measured = make_task({"mean": None, "std": None})
    testing.give_statistics(measured.upstream)
    measured.on_start(None)  # the tokenizer reads what the encoder reads
    assert measured.facts()["statistics"]["mean"] == float(measured.upstream.spectrogram.mean)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"positions": "grd"}, "nearest: 'grid'"),
        ({"filler": "ones"}, "unknown filler 'ones'; known: zero, learned"),
        ({"mask_ratio": 1.0}, "above 0 and below 1; found 1.0"),
    ],
)
def test_wrong_settings_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_task(**options)
