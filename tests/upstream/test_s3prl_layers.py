"""Layers as s3prl's upstreams give them: cut where they nearly agree, refused where they cannot be mixed."""

from typing import Any

import pytest
import torch
from torch import nn

from speechssl import testing
from speechssl.errors import UserError
from speechssl.upstream.s3prl.model import S3prl

WAVEFORMS = testing.speech_like([16000])


class Expert(nn.Module):
    """Gives layers of the given frames and sizes."""

    def __init__(self, shapes: list[tuple[int, int]], key: str = "hidden_states", rates: Any = 320):
        super().__init__()
        self.shapes, self.key, self.rates = shapes, key, rates

    def forward(self, waveforms: list[torch.Tensor]) -> dict:
        return {self.key: tuple(torch.zeros(1, frames, size) for frames, size in self.shapes)}

    def get_downsample_rates(self, key: str) -> Any:
        return self.rates


def test_layers_of_nearly_the_same_length_are_cut() -> None:
    upstream = S3prl(Expert([(50, 8), (49, 8)], rates=[320, 320]), {"name": "made up"})
    assert [tuple(state.shape) for state in upstream(WAVEFORMS).hidden_states] == [(1, 49, 8)] * 2


@pytest.mark.parametrize(
    ("expert", "message"),
    [
        (Expert([(50, 8), (50, 9)]), r"different hidden sizes \(8, 9\)"),
        (Expert([(50, 8), (25, 8)]), r"different numbers of frames \(25, 50\)"),
        (Expert([(50, 8), (50, 8)], rates=[320, 640]), r"different frame rates \(320, 640\)"),
        (Expert([(1, 1)], key="scores"), "gives no hidden states, only scores"),
    ],
)
def test_upstreams_whose_layers_cannot_be_mixed(expert: Expert, message: str) -> None:
    with pytest.raises(UserError, match=message):
        S3prl(expert, {"name": "made up"})
