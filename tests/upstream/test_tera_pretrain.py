"""TERA's objective: what the loss may and may not depend on, its metrics, and that it learns."""

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from speechssl import configs, registry, testing
from speechssl.errors import UserError
from speechssl.interfaces import Batch
from speechssl.optim.groups import decay_groups
from speechssl.upstream.tera import Tera, TeraPretraining


def debug_task(**options) -> TeraPretraining:
    torch.manual_seed(0)
    upstream = registry.build_upstream("tera", configs.load("upstream", "tera/debug")[1])
    return TeraPretraining(upstream, **options)


def test_loudness_comes_from_the_whole_utterance() -> None:
    task = debug_task(noise_proportion=0)
    batch = testing.make_batch([16000, 12000])
    crop = Batch(batch.waveforms[:, :8000], torch.tensor([8000, 8000]), batch.ids, batch.seeds, rms=batch.rms)
    quiet = Batch(crop.waveforms * 0.1, crop.lengths, batch.ids, batch.seeds, rms=batch.rms * 0.1)
    torch.testing.assert_close(task(quiet)["loss"], task(crop)["loss"], rtol=1e-4, atol=1e-5)
    task.upstream.frontend.normalization = "none"
    whole, _ = task.upstream.features(batch.waveforms, batch.lengths)
    part, _ = task.upstream.features(crop.waveforms, crop.lengths, crop.rms)
    torch.testing.assert_close(part[:, :48], whole[:, :48], rtol=1e-4, atol=1e-4)


def test_duplicating_the_batch_leaves_the_loss() -> None:
    task = debug_task().eval()
    batch = testing.make_batch([16000, 9000])
    twice = Batch(
        batch.waveforms.repeat(2, 1),
        batch.lengths.repeat(2),
        batch.ids * 2,
        batch.seeds.repeat(2),
        rms=batch.rms.repeat(2),
    )
    one, two = task(batch), task(twice)
    torch.testing.assert_close(one["loss"], two["loss"])
    assert two["weight"] == 2 * one["weight"]


def test_weighted_micro_batches_equal_one_batch() -> None:
    task = debug_task(noise_proportion=0).eval()
    batch = testing.make_batch([16000, 9000, 12000, 8000])
    whole = task(batch)
    parts = []
    for rows in (slice(0, 1), slice(1, 4)):
        parts.append(
            task(
                Batch(
                    batch.waveforms[rows],
                    batch.lengths[rows],
                    batch.ids[rows],
                    batch.seeds[rows],
                    rms=batch.rms[rows],
                )
            )
        )
    total = sum(part["weight"] for part in parts)
    mean = sum(part["loss"] * part["weight"] for part in parts) / total
    assert total == whole["weight"]
    torch.testing.assert_close(mean, whole["loss"], rtol=0, atol=1e-5)


def test_an_empty_batch_weighs_nothing() -> None:
    task = debug_task()
    batch = testing.make_batch([16000, 9000])
    batch.empty = True
    result = task(batch)
    result["loss"].backward()
    assert result["loss"] == 0
    assert result["weight"] == 0
    assert all(p.grad is None or (p.grad == 0).all() for p in task.parameters())


def test_zero_ratio_is_one_for_a_model_that_predicts_zeros() -> None:
    task = debug_task()
    torch.nn.init.zeros_(task.head.output.weight)
    result = task(testing.make_batch([16000, 9000]))
    assert result["zero_ratio"].item() == pytest.approx(1.0, abs=1e-5)
    assert result["l1_time"] > 0.1
    assert "zero_ratio" not in debug_task(mask_proportion=0)(testing.make_batch([16000]))


def test_snapshot() -> None:
    task = debug_task(noise_proportion=0).train()
    snapshot = task.snapshot(testing.make_batch([16000, 9000, 8000, 8000, 8000]))
    assert task.training
    assert {name: tuple(array.shape) for name, array in snapshot.items()} == {
        "clean": (4, 101, 80),
        "altered": (4, 101, 80),
        "reconstructed": (4, 101, 80),
        "lengths": (4,),
        "hertz": (80,),
    }
    changed = (snapshot["clean"] != snapshot["altered"]).float().mean()
    assert 0.02 < changed < 0.6


def test_a_step_on_an_accelerator_never_waits_for_it() -> None:
    """Fake tensors refuse every read of a value and every shape that depends on one."""
    with FakeTensorMode(), torch.device("cuda"):
        sizes = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}
        upstream = Tera(**sizes, frontend="features")
        for settings in ({}, {"mask_allow_overlap": False, "noise_per": "utterance"}, {"mask_proportion": 0}):
            task = TeraPretraining(upstream, **settings).train()
            clean, lengths, seeds = (
                torch.randn(3, 200, 80),
                torch.tensor([200, 90, 7]),
                torch.tensor([1, 2, 3]),
            )
            altered = task.alteration(clean, lengths, seeds)
            assert task.score(task.reconstruct(altered.features, lengths), clean, altered)["loss"].is_cuda
        with pytest.raises(DataDependentOutputException):  # what a read would have raised
            upstream.transform(clean, lengths, look=True)


def test_wrong_objectives() -> None:
    with pytest.raises(UserError, match="unknown TERA loss 'huber'"):
        debug_task(loss="huber")


def harmonic_sounds(count: int, samples: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    time = torch.arange(samples) / 16000
    pitch = 100 + 200 * torch.rand(count, 1, generator=generator)
    pulse = 1 + 3 * torch.rand(count, 1, generator=generator)
    tones = sum(torch.sin(2 * torch.pi * pitch * k * time) / k for k in range(1, 25))
    return 0.1 * tones * (1.2 + torch.sin(2 * torch.pi * pulse * time))


def test_halves_the_error_of_predicting_zeros_on_harmonic_sounds() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_layers": 2, "num_heads": 2, "intermediate_size": 128}
    task = TeraPretraining(
        Tera(**sizes, dropout=0.0, attention_dropout=0.0, initializer_range=0.09), noise_proportion=0
    )
    waveforms, lengths = harmonic_sounds(64, 8000), torch.full((64,), 8000)
    optimizer = torch.optim.AdamW(decay_groups(task, 0.01), lr=2e-3, fused=True)
    ratios = []
    for step in range(200):
        rows = torch.arange(16 * step, 16 * step + 16) % 64
        result = task(Batch(waveforms[rows], lengths[rows], [""] * 16, rows + 64 * step))
        optimizer.zero_grad()
        result["loss"].backward()
        optimizer.step()
        ratios.append(result["zero_ratio"].item())
    assert sum(ratios[:5]) / 5 > 0.9
    assert sum(ratios[-20:]) / 20 < 0.5
