import itertools

import pytest
import torch

from speechssl.losses.ctc import ctc_loss, ctc_objective


def collapse(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != 0)


def test_equals_the_sum_over_all_paths() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    targets, lengths = [torch.tensor([1, 2]), torch.tensor([2])], torch.tensor([4, 3])
    expected = 0.0
    for row, target, frames in zip(logits.float().softmax(-1), targets, lengths.tolist(), strict=True):
        wanted = tuple(target.tolist())
        paths = [p for p in itertools.product(range(3), repeat=frames) if collapse(p) == wanted]
        total = sum(torch.stack([row[t, s] for t, s in enumerate(path)]).prod() for path in paths)
        expected -= float(total.log()) / len(target) / 2
    assert float(ctc_loss(logits, lengths, targets)) == pytest.approx(expected, rel=1e-5)


def test_too_long_targets_count_nothing() -> None:
    logits = torch.zeros(1, 2, 5, requires_grad=True)
    loss = ctc_loss(logits, torch.tensor([2]), [torch.tensor([1, 2, 3])])
    loss.backward()
    assert loss.item() == 0.0
    assert not logits.grad.any()


def test_padding_frames_do_not_matter() -> None:
    logits = torch.randn(1, 6, 5, generator=torch.Generator().manual_seed(0))
    target = [torch.tensor([1, 2])]
    loss = ctc_loss(logits[:, :4], torch.tensor([4]), target)
    torch.testing.assert_close(ctc_loss(logits, torch.tensor([4]), target), loss)


def test_objective_tells_the_share_of_targets_without_a_path() -> None:
    """Three symbols of which two neighbours are equal need four frames: one has to be a blank."""
    logits, targets = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0)), [torch.tensor([1, 2, 2])] * 2
    found = ctc_objective(logits, torch.tensor([4, 3]), targets)
    assert float(found["too_short"]) == 0.5
    assert float(found["loss"]) == float(ctc_loss(logits, torch.tensor([4, 3]), targets))
    assert float(ctc_loss(logits[1:], torch.tensor([3]), targets[1:])) == 0.0
