"""One direction of one LSTM layer, and how it stays one operation in exported programs.

torch.export takes `torch.lstm` apart into its time steps, and so fixes their number. While a program is traced, an
operation of our own stands for it; `speechssl.deploy` puts back what PyTorch, or ONNX, calls it.
"""

import torch
from torch import Tensor


def one_way(x: Tensor, weights: list[Tensor], training: bool = False) -> Tensor:
    """Map (B, T, I) to (B, T, H), forwards through time, from a state of zeros.

    Args:
        x: (B, T, I).
        weights: (4 H, I), (4 H, H), (4 H,) and (4 H,): of the input and the state, and their biases, as in `nn.LSTM`.
        training: keep what a backward pass needs.
    """
    if torch.compiler.is_exporting():
        return whole_lstm(x, *weights)
    return _torch_lstm(x, weights, training)


def _torch_lstm(x: Tensor, weights: list[Tensor], training: bool) -> Tensor:
    state = x.new_zeros(1, x.shape[0], weights[1].shape[1])
    return torch.lstm(x, (state, state), weights, True, 1, 0.0, training, False, True)[0]


@torch.library.custom_op("speechssl::lstm", mutates_args=())
def whole_lstm(x: Tensor, input_weight: Tensor, state_weight: Tensor, input_bias: Tensor, state_bias: Tensor) -> Tensor:
    """Return `one_way` of these, as a single operation of a traced program."""
    return _torch_lstm(x, [input_weight, state_weight, input_bias, state_bias], False)


@whole_lstm.register_fake
def _(x: Tensor, input_weight: Tensor, state_weight: Tensor, input_bias: Tensor, state_bias: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[1], state_weight.shape[1])
