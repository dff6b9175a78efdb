"""Times of CTC symbols: the symbols are those of greedy decoding, the frames those of their runs."""

import pytest
import torch

from speechssl.nn.ctc_decode import greedy
from speechssl.nn.ctc_times import confidence, segment, timed


def outputs_of(paths: list[list[int]], probability: float = 0.9) -> torch.Tensor:
    """Scores (B, T, 4) whose best path is the one given."""
    values = torch.full((len(paths), len(paths[0]), 4), (1.0 - probability) / 3)
    values.scatter_(2, torch.tensor(paths)[..., None], probability)
    return values.log()


def test_runs_by_hand() -> None:
    """Frames of 20 ms: blank, 1 1, 2, blank, 2, and padding that goes on with the last symbol."""
    (found,) = timed(outputs_of([[0, 1, 1, 2, 0, 2, 2, 2]]), torch.tensor([6]), 0, 0.02)
    assert [(one.number, round(one.start, 3), round(one.end, 3)) for one in found] == [
        (1, 0.02, 0.06),
        (2, 0.06, 0.08),
        (2, 0.10, 0.12),
    ]
    assert [one.score for one in found] == pytest.approx([0.9] * 3)


def test_a_score_is_the_highest_of_a_run() -> None:
    outputs = outputs_of([[1, 1, 1, 0]])
    outputs[0, 1] = torch.tensor([0.01, 0.97, 0.01, 0.01]).log()
    (found,) = timed(outputs, torch.tensor([4]), 0, 0.01)
    assert found[0].score == pytest.approx(0.97)


def test_symbols_are_those_of_greedy_decoding_whatever_is_padded() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs, lengths = torch.randn(5, 40, 6, generator=generator), torch.tensor([40, 1, 17, 0, 33])
    together = list(timed(outputs, lengths, 0, 0.01))
    assert [[one.number for one in row] for row in together] == list(greedy(outputs, lengths, 0))
    for row, length in enumerate(lengths.tolist()):
        if length:
            (alone,) = timed(outputs[row : row + 1, :length], lengths[row : row + 1], 0, 0.01)
            assert alone == together[row]
        assert all(0.0 <= one.start < one.end <= length * 0.01 + 1e-9 for one in together[row])


def test_scores_of_several_symbols() -> None:
    (found,) = timed(outputs_of([[1, 2, 0, 3]]), torch.tensor([4]), 0, 0.5)
    found[1] = found[1]._replace(score=0.1)
    assert confidence(found[:2]) == pytest.approx(0.3)  # the geometric mean of 0.9 and 0.1
    assert confidence([]) is None
    expected = {"label": "x", "text": "y", "start": 0.0, "end": 1.0, "score": confidence(found[:2])}
    assert segment("x", found[:2], text="y") == expected
