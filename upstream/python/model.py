"""A plain `nn.Module` behind our contract: what it does not say of itself is found out by letting it hear noise.

Every utterance is encoded alone: the module needs to know nothing of padding, and no utterance can change another.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from speechssl.errors import UserError
from speechssl.interfaces import Features, Upstream
from speechssl.nn.one_by_one import encode_one_by_one

HEARD = (1.0, 3.0)  # seconds of noise: what is added between them tells the frame rate


class Module(Upstream):
    """Hidden states of any module whose forward takes waveforms (1, S) and returns one or several (1, T, D).

    Args:
        module: returns a tensor, which is the only hidden state, or a list or tuple of them, from the input of the
            first layer to the output of the last. `sample_rate` (Hz), `min_samples` and `downsample_rate` (samples per
            frame) are read from it where it has them; else they are 16000, 800, and what is measured.
        name: for error messages.

    Raises:
        UserError: the module returns something else, or its frame rate cannot be measured.
    """

    def __init__(self, module: nn.Module, name: str):
        super().__init__()
        self.module, self.name = module, name
        self.sample_rate = int(getattr(module, "sample_rate", Upstream.sample_rate))
        self.min_samples = int(getattr(module, "min_samples", Upstream.min_samples))
        short, long = (int(seconds * self.sample_rate) for seconds in HEARD)
        first, second = self._hear(short), self._hear(long)
        self.num_layers, self.hidden_size = len(first) - 1, first[0].shape[2]
        self.downsample_rate = int(getattr(module, "downsample_rate", 0) or self._rate(first, second, long - short))

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Features:
        return encode_one_by_one(self._states, waveforms, lengths)

    def _states(self, waveform: Tensor) -> list[Tensor]:
        """Return the hidden states (1, T, D) of one waveform (1, S)."""
        returned = self.module(waveform)
        states = [returned] if isinstance(returned, Tensor) else returned
        shapes = _shapes(states)
        if not shapes or len(set(shapes)) > 1 or len(shapes[0]) != 3 or shapes[0][0] != 1 or shapes[0][1] == 0:
            found = shapes or type(returned).__name__
            raise UserError(
                f"{self.name} has to return hidden states (1, T, D) for a waveform (1, {waveform.shape[1]}): a tensor, "
                f"or a list of tensors of one shape; found {found}"
            )
        return [state.float() for state in states]

    @torch.no_grad()
    def _hear(self, samples: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(0)
        noise = 0.1 * torch.randn(1, samples, generator=generator)
        try:
            return self._states(noise)
        except (RuntimeError, TypeError, IndexError) as error:
            line = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(f"{self.name} fails on a waveform (1, {samples}) of float32: {line}") from error

    def _rate(self, short: list[Tensor], long: list[Tensor], samples: int) -> int:
        """Return the samples per frame, from the frames that so many more samples bring."""
        few, many = short[0].shape[1], long[0].shape[1]
        if many <= few:
            raise UserError(
                f"{self.name} gives {few} frames for {HEARD[0]:g} s and {many} for {HEARD[1]:g} s; expected more for "
                "more audio (tasks pool over time themselves), or an attribute downsample_rate, in samples per frame"
            )
        return round(samples / (many - few))


def _shapes(states: Sequence[Tensor]) -> list[tuple[int, ...]]:
    if not isinstance(states, list | tuple) or not all(isinstance(state, Tensor) for state in states):
        return []
    return [tuple(state.shape) for state in states]
