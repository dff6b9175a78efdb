"""Contract checks that any family must pass; they can be called from outside this repository as well.

Each check takes a built object and raises AssertionError with what is wrong.
"""

import torch
from torch import Tensor, nn

from speechssl.errors import UserError
from speechssl.interfaces import Batch, PretrainTask, Upstream

TOLERANCE = 1e-4  # absolute, on hidden states of order one: float32 kernels differ with the shape of a batch


def speech_like(lengths: list[int], seed: int = 0) -> list[Tensor]:
    """Return waveforms of the given numbers of samples: harmonics with a moving envelope over a little noise."""
    generator = torch.Generator().manual_seed(seed)
    waveforms = []
    for samples in lengths:
        time = torch.arange(samples) / 16000
        pitch = 90 + 120 * torch.rand(1, generator=generator)
        harmonics = sum(torch.sin(2 * torch.pi * pitch * k * time) / k for k in range(1, 12))
        envelope = 0.5 + 0.5 * torch.sin(2 * torch.pi * (2 + 3 * torch.rand(1, generator=generator)) * time)
        waveforms.append(0.05 * harmonics * envelope + 0.003 * torch.randn(samples, generator=generator))
    return waveforms


def give_statistics(upstream: Upstream) -> Upstream:
    """Give an upstream that wants corpus statistics those of some speech-like noise."""
    frontend = upstream.statistics_frontend()
    if frontend is not None:
        batch = nn.utils.rnn.pad_sequence(speech_like([16000, 16000], seed=1), batch_first=True)
        features, _ = frontend.unnormalized(batch, torch.tensor([16000, 16000]))
        flat = features.reshape(-1, features.shape[-1])
        upstream.set_statistics(flat.mean(0), flat.std(0))
    return upstream


def check_upstream(upstream: Upstream) -> None:
    """Check shapes, lengths, padding and order invariance, short input, and refusal of wrong input."""
    upstream = give_statistics(upstream).eval()
    waveforms = speech_like([16000, 9000, 12345])
    with torch.no_grad():
        together = upstream(waveforms)
        _check_shapes(upstream, together, waveforms)
        for i, waveform in enumerate(waveforms):
            alone = upstream([waveform])
            frames = int(together.lengths[i])
            assert int(alone.lengths[0]) == frames, "the number of frames depends on the batch"
            for layer, (a, b) in enumerate(zip(alone.hidden_states, together.hidden_states, strict=True)):
                error = float((a[0, :frames] - b[i, :frames]).abs().max())
                assert error <= TOLERANCE, f"hidden state {layer} of row {i} depends on padding: {error:.2e}"
        turned = upstream(waveforms[::-1])
        error = float((turned.hidden_states[-1].flip(0) - together.hidden_states[-1]).abs().max())
        assert error <= TOLERANCE, f"the order of the batch matters: {error:.2e}"
        short = upstream([torch.zeros(10)])
        assert short.lengths.tolist() == [short.hidden_states[0].shape[1]], "too short audio is not padded"
        assert all(bool(torch.isfinite(state).all()) for state in short.hidden_states), "silence is not finite"
    _check_refusals(upstream)


def _check_shapes(upstream: Upstream, features: tuple, waveforms: list[Tensor]) -> None:
    states, lengths = features
    assert len(states) == upstream.num_layers + 1, f"{len(states)} hidden states, expected num_layers + 1"
    shape = (len(waveforms), int(lengths.max()), upstream.hidden_size)
    assert all(tuple(s.shape) == shape for s in states), f"expected {shape}, found {[tuple(s.shape) for s in states]}"
    for waveform, frames in zip(waveforms, lengths.tolist(), strict=True):
        expected = len(waveform) / upstream.downsample_rate
        assert abs(frames - expected) <= 3, (
            f"{frames} frames for {len(waveform)} samples, expected about {expected:.0f}"
        )


def _check_refusals(upstream: Upstream) -> None:
    wrong = [
        lambda: upstream(torch.zeros(1, 2, 16000)),
        lambda: upstream(torch.zeros(1, 16000, dtype=torch.int16)),
        lambda: upstream(torch.zeros(1, 16000), torch.tensor([16001])),
        lambda: upstream(torch.zeros(2, 16000), torch.tensor([16000])),
        lambda: upstream([torch.zeros(16000)], sample_rate=8000),
        lambda: upstream([]),
    ]
    for number, call in enumerate(wrong):
        try:
            call()
        except UserError:
            continue
        raise AssertionError(f"wrong input number {number} was accepted")


def make_batch(lengths: list[int], seed: int = 0) -> Batch:
    """Return a batch of speech-like waveforms as the loader would make it."""
    waveforms = speech_like(lengths, seed)
    padded = nn.utils.rnn.pad_sequence(waveforms, batch_first=True)
    rms = torch.stack([w.square().mean().sqrt() for w in waveforms])
    seeds = torch.arange(len(lengths)) * 7919 + 1000003 * seed + 17
    return Batch(padded, torch.tensor(lengths), [f"utterance-{i}" for i in range(len(lengths))], seeds, rms=rms)


def check_pretrain_task(task: PretrainTask) -> None:
    """Check the loss, its determinism from the batch's seeds, its gradients and its independence of padding."""
    give_statistics(task.upstream)
    task.eval()
    batch = make_batch([16000, 9000, 12345, 8000])
    first, again = task(batch), task(batch)
    assert first["loss"].dim() == 0, "loss must be a scalar"
    assert bool(torch.isfinite(first["loss"])), "loss must be finite"
    assert torch.equal(first["loss"], again["loss"]), "the loss is not a function of the batch and its seeds"
    loose = [k for k, v in first.items() if k != "loss" and (v.requires_grad or v.dim() != 0)]
    assert not loose, f"logged values must be detached scalars: {loose}"
    padded = make_batch([16000, 9000, 12345, 8000])
    padded.waveforms = nn.functional.pad(padded.waveforms, (0, 4000))
    change = abs(float(task(padded)["loss"].detach()) - float(first["loss"].detach()))
    assert change <= 1e-4, f"extra padding changes the loss by {change:.2e}"
    task.train()
    task.zero_grad()
    task(batch)["loss"].backward()
    silent = [n for n, p in task.upstream.named_parameters() if p.requires_grad and p.grad is None]
    assert not silent, f"no gradient reaches {silent}"
    snapshot = task.snapshot(batch)
    assert all(isinstance(v, Tensor) for v in snapshot.values()), "a snapshot holds tensors only"


def largest_difference(first: Upstream, second: Upstream) -> float:
    """Return the largest difference of two upstreams' hidden states on valid frames of some audio."""
    waveforms = speech_like([16000, 11111])
    with torch.no_grad():
        a = give_statistics(first.eval())(waveforms)
        b = give_statistics(second.eval())(waveforms)
    pairs = zip(a.hidden_states, b.hidden_states, strict=True)
    differences = [(x - y)[row, :frames] for x, y in pairs for row, frames in enumerate(a.lengths.tolist())]
    return max(float(difference.abs().max()) for difference in differences)
