"""The forms that families and heads take in exported programs give what their usual forms give, run step by step."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from speechssl.downstream.sd.head import LstmHead
from speechssl.hub import load_upstream
from speechssl.interfaces import Upstream
from speechssl.nn.bilstm import BidirectionalLstm
from speechssl.nn.xvector import SHORTEST, XVector
from speechssl.testing import speech_like
from speechssl.upstream.ssast import pieces, traced

SSAST = {
    "whole": {},
    "overlapping": {"frequency_stride": 10, "time_stride": 10},
    "concatenated": {"frequency_pooling": "concat"},
    "all tokens": {"frequency_pooling": "none"},
    "aligned, overlapping": {"positions": "aligned", "frequency_stride": 10, "time_stride": 10},
    "other table": {"position_grid": [12, 50]},
    "short table": {"position_grid": [8, 5]},
    "fixed length": {"target_frames": 300},
}


@contextmanager
def exporting() -> Iterator[None]:
    """Run code as it runs while torch.export looks on."""
    patch = pytest.MonkeyPatch()
    patch.setattr(torch.compiler, "is_exporting", lambda: True)
    try:
        yield
    finally:
        patch.undo()


def assert_same(upstream: Upstream, seconds: tuple[float, ...] = (1.0, 0.3, 2.7)) -> None:
    """Assert that all valid frames of a batch are the same either way."""
    waveforms = speech_like([int(16000 * s) for s in seconds], seed=1)
    with torch.no_grad():
        expected = upstream(waveforms)
        with exporting():
            found = upstream(waveforms)
    assert torch.equal(found.lengths, expected.lengths)
    for state, reference in zip(found.hidden_states, expected.hidden_states, strict=True):
        for row, count in enumerate(expected.lengths.tolist()):
            assert torch.allclose(state[row, :count], reference[row, :count], atol=2e-5), row


@pytest.mark.parametrize("name", SSAST)
def test_ssast(name: str) -> None:
    settings = {"mean": -4.0, "std": 4.0} | SSAST[name]
    assert_same(load_upstream("ssast/patch_debug@random", **settings))


@pytest.mark.parametrize("size", ["patch_debug", "frame_debug"])
def test_ssast_in_pieces(size: str) -> None:
    upstream = load_upstream(f"ssast/{size}@random", mean=-4.0, std=4.0, input_frames=64)
    assert_same(upstream, (0.5, 2.2, 1.31))


def test_ssast_class_tokens_are_averaged_over_pieces() -> None:
    upstream = load_upstream("ssast/patch_debug@random", mean=-4.0, std=4.0, input_frames=64)
    cells, frames = torch.randn(2, 230, 128), torch.tensor([230, 97])
    with torch.no_grad():
        _, expected, _ = upstream._grids(cells, frames)
        with exporting():
            _, found, _ = upstream._grids(cells, frames)
    assert torch.allclose(found, expected, atol=1e-5)


def test_pieces_are_cut_alike() -> None:
    columns = [1, 7, 8, 9, 16, 23, 40]
    cuts = traced.layout(torch.tensor(columns), longest=8)
    found = [
        (row, int(start), int(count))
        for row, (starts, counts) in enumerate(zip(cuts.starts, cuts.counts, strict=True))
        for start, count in zip(starts, counts, strict=True)
        if count
    ]
    assert found == [tuple(piece) for piece in pieces.cut(columns, 8)]
    assert cuts.width == max(count for _, _, count in found)


@pytest.mark.parametrize("settings", [{}, {"frequency_pooling": "none", "gated": False}, {"mask_rule": "official"}])
def test_beats(settings: dict) -> None:
    assert_same(load_upstream("beats/debug@random", mean=15.0, std=6.0, **settings))


class _Alone(nn.Module):
    """An LSTM head's interface around a bidirectional LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = BidirectionalLstm(12, 8, 2, 0.0)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.lstm(x, lengths), lengths


@pytest.mark.parametrize(
    "make",
    [lambda: LstmHead(12, 2, lstm_size=8, num_layers=2, stack=2), lambda: XVector(12, 3, 16, 20), _Alone],
    ids=["diarization", "x-vector", "both ways"],
)
@pytest.mark.parametrize("frames", [SHORTEST - 5, SHORTEST, 40])
def test_heads(make: type[nn.Module], frames: int) -> None:
    torch.manual_seed(0)
    head, x, lengths = make().eval(), torch.randn(2, frames, 12), torch.tensor([frames, frames - 3])
    with torch.no_grad():
        expected, _ = head(x, lengths)
        with exporting():
            found, _ = head(x, lengths)
    if expected.dim() == 3:
        found, expected = (torch.cat([each[0], each[1, : frames - 3]]) for each in (found, expected))
    assert torch.allclose(found, expected, atol=1e-6)
