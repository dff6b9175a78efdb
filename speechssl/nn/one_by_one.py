"""Utterances encoded one by one, for models of other libraries in which padding would change valid frames."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from speechssl.interfaces import Features


def encode_one_by_one(encode: Callable[[Tensor], Sequence[Tensor]], waveforms: Tensor, lengths: Tensor) -> Features:
    """Return what every utterance gives on its own, put side by side with zeros at the end.

    Args:
        encode: (1, S) samples without padding to hidden states (1, T, D), all with the same T.
        waveforms: (B, S), padded.
        lengths: (B,) valid samples.
    """
    alone = [encode(waveforms[row : row + 1, :samples]) for row, samples in enumerate(lengths.tolist())]
    frames = lengths.new_tensor([states[0].shape[1] for states in alone])
    layers = zip(*alone, strict=True)
    return Features([nn.utils.rnn.pad_sequence([h[0] for h in layer], batch_first=True) for layer in layers], frames)
