"""Utterances encoded one by one: nothing of one reaches another, and each has its own number of frames."""

import torch
from torch import Tensor

from speechssl.nn.one_by_one import encode_one_by_one


def framed(waveform: Tensor) -> list[Tensor]:
    """Return two layers of frames of 4 samples whose values depend on the whole (1, S) waveform."""
    frames = waveform[:, : waveform.shape[1] // 4 * 4].reshape(1, -1, 4)
    return [frames - waveform.mean(), frames * waveform.std()]


def test_rows_are_those_of_the_utterances_alone_and_padded_with_zeros() -> None:
    waveforms = torch.randn(3, 21, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([21, 9, 16])
    states, frames = encode_one_by_one(framed, waveforms, lengths)
    assert frames.tolist() == [5, 2, 4]
    assert [tuple(layer.shape) for layer in states] == [(3, 5, 4)] * 2
    for row, (samples, count) in enumerate(zip(lengths.tolist(), frames.tolist(), strict=True)):
        for layer, alone in zip(states, framed(waveforms[row : row + 1, :samples]), strict=True):
            assert torch.equal(layer[row, :count], alone[0])
            assert not layer[row, count:].any()
