"""A plain `nn.Module` behind our contract: what it does not say of itself is found out by letting it hear noise.

Every utterance is encoded alone: the module needs to know nothing of padding, and no utterance can change another.
"""

from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn

from speechssl.errors import UserError
from speechssl.interfaces import Features, Upstream
from speechssl.nn.one_by_one import encode_one_by_one
from speechssl.upstream.python.failures import FAILURES, told

HEARD = (1.0, 3.0)  # seconds of noise: the frames that are added between them tell the frame rate


class Module(Upstream):
    """Hidden states of any module whose forward takes waveforms (1, S) and returns one or several (1, T, D).

    Args:
        module: returns a tensor, which is the only hidden state, or a list or tuple of them, from the input of the
            first layer to the output of the last. `sample_rate` (Hz), `min_samples` and `downsample_rate` (samples per
            frame) are read from it where it has them; else the rate is 16000, and the others are measured.
        name: for error messages.

    Raises:
        UserError: the module fails, returns something else or never the same, or its frame rate cannot be measured.
    """

    def __init__(self, module: nn.Module, name: str):
        super().__init__()
        self.module, self.name = module, name
        self.sample_rate = self._said("sample_rate") or Upstream.sample_rate
        states = self._hear(self._samples(HEARD[0]))
        self._check(states, self._hear(self._samples(HEARD[0])))
        self.num_layers, self.hidden_size = len(states) - 1, states[0].shape[2]
        self.min_samples = self._said("min_samples") or self._shortest()
        self.downsample_rate = self._said("downsample_rate") or self._rate()
        self._hear(self.min_samples)

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
        except UserError:
            raise
        except FAILURES as error:
            raise UserError(f"{self.name} fails on a waveform (1, {samples}) of float32: {told(error)}") from error

    def _said(self, attribute: str) -> int | None:
        """Return what the module says of itself, None where it says nothing."""
        value = getattr(self.module, attribute, None)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise UserError(f"{self.name}: its attribute {attribute} expects a whole number above 0, found {value!r}")
        return value

    def _samples(self, seconds: float) -> int:
        return int(seconds * self.sample_rate)

    def _check(self, states: list[Tensor], again: list[Tensor]) -> None:
        if not all(bool(state.isfinite().all()) for state in states):
            raise UserError(f"{self.name} gives values that are not finite for noise of {HEARD[0]:g} s")
        for one, other in zip(states, again, strict=True):
            if one.shape != other.shape or not torch.allclose(one, other, rtol=1e-3, atol=1e-4):
                raise UserError(
                    f"{self.name} gives something else when it hears the same again; does it drop or draw at random in "
                    "eval mode, too (dropout(x, training=self.training)), or change its buffers?"
                )

    def _shortest(self) -> int:
        """Return the samples that shorter audio is padded to: those of any upstream, doubled until the module works."""
        samples = Upstream.min_samples
        while samples < self._samples(HEARD[0]):
            with suppress(UserError):
                self._hear(samples)
                return samples
            samples *= 2
        return self._samples(HEARD[0])

    def _rate(self) -> int:
        """Return the samples per frame: from where a frame begins to where a later one does."""
        short, long = map(self._samples, HEARD)
        few, many = self._frames(short), self._frames(long)
        if many <= few:
            raise UserError(
                f"{self.name} gives {few} frames for {HEARD[0]:g} s and {many} for {HEARD[1]:g} s; expected more for "
                "more audio (tasks pool over time themselves), or an attribute downsample_rate, in samples per frame"
            )
        about = round((long - short) / (many - few))
        return round((self._onset(long, many, about) - self._onset(short, few, about)) / (many - few))

    def _frames(self, samples: int) -> int:
        """Return the frames of so many samples; 0 where they are too few."""
        with suppress(UserError):
            return self._hear(samples)[0].shape[1]
        return 0

    def _onset(self, samples: int, frames: int, about: int) -> int:
        """Return the fewest samples that have as many frames; a frame is `about` so many."""
        low = max(0, samples - 2 * about)
        while samples - low > 1:
            middle = (low + samples) // 2
            if self._frames(middle) >= frames:
                samples = middle
            else:
                low = middle
        return samples


def _shapes(states: Sequence[Tensor]) -> list[tuple[int, ...]]:
    if not isinstance(states, list | tuple) or not all(isinstance(state, Tensor) for state in states):
        return []
    return [tuple(state.shape) for state in states]
