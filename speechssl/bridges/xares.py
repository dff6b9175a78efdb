"""Our encoders for X-ARES, a benchmark of audio encoders on speech, environmental sounds and music.

https://github.com/jimbozhang/xares (package `xares`). It takes the path of a Python file in which exactly one name ends
in "Encoder": a class without arguments, a module with `sampling_rate`, `output_dim` and `hop_size_in_ms` that maps
padded audio (B, S) to (B, T, D). Such a file for one of our encoders:

    from speechssl.bridges import xares

    class MyTeraEncoder(xares.Wrapped):
        upstream = "runs/mine"

X-ARES keeps what it has computed under the name of the class: give each encoder a name of its own. It pads a batch with
zeros and does not say how much, so that padding counts as audio here, as it does for every encoder there.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from speechssl.bridges.layers import check_layer, chosen
from speechssl.errors import UserError
from speechssl.hub import load_upstream


class Wrapped(nn.Module):
    """Base of an encoder for X-ARES; a subclass says which one it is.

    Attributes:
        upstream: whatever `load_upstream` takes: a run directory, an exported folder, "tera:FILE", "fbank", ...
        layer: which hidden state to give, -1 is the last; "mean" is the mean of all.
        settings: constructor arguments of the encoder that replace those of the checkpoint.
        sampling_rate: Hz.
        output_dim: D.
        hop_size_in_ms: from one frame to the next, milliseconds.
    """

    upstream: ClassVar[str] = ""
    layer: ClassVar[int | str] = -1
    settings: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        super().__init__()
        if not self.upstream:
            raise UserError(f'{type(self).__name__} does not say which encoder it is; set upstream = "RUN_DIR"')
        self.model = load_upstream(self.upstream, **self.settings)
        check_layer(self.layer, self.model.num_layers)
        self.sampling_rate = self.model.sample_rate
        self.output_dim = self.model.hidden_size
        self.hop_size_in_ms = 1000 * self.model.downsample_rate / self.model.sample_rate

    @torch.no_grad()
    def forward(self, audio: Tensor) -> Tensor:
        """Return the hidden state (B, T, D) of audio (B, S), or of one waveform (S,)."""
        audio = audio[None] if audio.dim() == 1 else audio
        return chosen(self.model.eval()(audio).hidden_states, self.layer)
