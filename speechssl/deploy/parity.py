"""How alike two models are: hidden state by hidden state, on signals that anybody can make again.

Every signal is encoded alone, so that no padding of one implementation or the other matters.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from speechssl.errors import UserError
from speechssl.interfaces import Upstream
from speechssl.testing import speech_like

TOLERANCE = 1e-4  # relative; float32 kernels of two implementations differ by some 1e-6
SEED = 0
SAMPLE_RATE = 16000  # Hz

Encoder = Callable[[Tensor], list[Tensor]]  # a waveform (S,) to hidden states (T, D)


class Difference(NamedTuple):
    """How far one hidden state is from that of a reference, over all signals and frames."""

    state: int  # 0 is the input of the first layer
    largest: float | None  # absolute value in the reference; None, as the others, where a value is not finite
    absolute: float | None  # largest difference
    relative: float | None  # absolute / largest


def signals(seed: int = SEED) -> dict[str, Tensor]:
    """Return {name: waveform (S,) at 16 kHz}: tones, noise and harmonics, of 0.3 to 2.3 seconds."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(int(1.3 * SAMPLE_RATE)) / SAMPLE_RATE
    tones = sum(0.1 * torch.sin(2 * torch.pi * hertz * time) for hertz in (220, 1000, 3400))
    clean, noisy = speech_like([16000, 37123], seed)
    return {
        "noise, 0.3 s": 0.1 * torch.randn(4800, generator=generator),
        "harmonics, 1 s": clean,
        "three tones in noise, 1.3 s": tones + 0.01 * torch.randn(len(time), generator=generator),
        "harmonics, 37123 samples": noisy,
    }


def encoder(upstream: Upstream) -> Encoder:
    """Return an upstream as a function of one waveform."""

    @torch.no_grad()
    def encode(waveform: Tensor) -> list[Tensor]:
        features = upstream([waveform])
        return [state[0, : int(features.lengths[0])] for state in features.hidden_states]

    return encode


def classifier(upstream: Upstream) -> Encoder:
    """Return the class scores (1, C) of a fine-tuned upstream as a function of one waveform."""

    @torch.no_grad()
    def classify(waveform: Tensor) -> list[Tensor]:
        return [upstream.classify(*upstream.checked([waveform]))]

    return classify


def compare(ours: Encoder, reference: Encoder, first: int = 0, given: dict[str, Tensor] | None = None) -> list[dict]:
    """Return a `Difference` as a dict for every hidden state that both have.

    Args:
        ours: the model in question.
        reference: what it is held against.
        first: the number of our hidden state that the reference begins with.
        given: {name: waveform}; None = `signals()`.

    Raises:
        UserError: another number of hidden states, or states of another shape.
    """
    pairs: dict[int, list[tuple[Tensor, Tensor]]] = {}
    for name, waveform in (given or signals()).items():
        found, expected = ours(waveform)[first:], reference(waveform)
        if len(found) != len(expected):
            raise UserError(f"{len(found)} hidden states are held against {len(expected)}; these are different models")
        for number, (one, other) in enumerate(zip(found, expected, strict=True), start=first):
            if one.shape != other.shape:
                raise UserError(
                    f"hidden state {number} of the signal {name!r} has {one.shape[0]} frames of {one.shape[1]}, the "
                    f"reference {other.shape[0]} of {other.shape[1]}"
                )
            pairs.setdefault(number, []).append((one, other))
    return [_difference(number, states)._asdict() for number, states in pairs.items()]


def worst(states: Iterable[dict[str, Any]]) -> float:
    """Return the largest relative difference, infinity where one is not a number."""
    found = [state["relative"] for state in states]
    return max((value if value is not None else float("inf") for value in found), default=0.0)


def judge(states: list[dict[str, Any]], what: str, tolerance: float) -> None:
    """Raise UserError where a hidden state is off by more than the tolerance, relative to its largest value."""
    if worst(states) <= tolerance:
        return
    state = max(states, key=lambda state: worst([state]))
    found = "is not finite" if state["relative"] is None else f"differs by {state['relative']:.1e} of its largest value"
    raise UserError(f"hidden state {state['state']} of {what} {found}, tolerance={tolerance:g}; nothing was written")


def _difference(number: int, pairs: list[tuple[Tensor, Tensor]]) -> Difference:
    largest = max(float(reference.abs().max()) for _, reference in pairs)
    absolute = max(float((one - reference).abs().max()) for one, reference in pairs)
    if not all(bool(torch.isfinite(one).all() and torch.isfinite(reference).all()) for one, reference in pairs):
        return Difference(number, None, None, None)  # JSON knows no NaN
    return Difference(number, largest, absolute, absolute / largest if largest else absolute)
