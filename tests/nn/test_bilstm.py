import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from speechssl.nn.bilstm import BidirectionalLstm, reverse


def packed(lstm: nn.LSTM, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """The obvious way: PyTorch's own layer on a packed batch."""
    rows = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(nn.LSTM.forward(lstm, rows)[0], batch_first=True, total_length=x.shape[1])[0]


def test_equals_packed_sequences_in_values_and_gradients() -> None:
    torch.manual_seed(0)
    lstm = BidirectionalLstm(6, 5, num_layers=2, dropout=0.0)
    x = torch.randn(4, 9, 6, requires_grad=True)
    lengths = torch.tensor([4, 9, 1, 7])
    ours, theirs = lstm(x, lengths), packed(lstm, x, lengths)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    inputs = [x, *lstm.parameters()]
    a = torch.autograd.grad(ours.square().sum(), inputs)
    b = torch.autograd.grad(theirs.square().sum(), inputs)
    for one, other in zip(a, b, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_dropout_works_in_training_only() -> None:
    torch.manual_seed(0)
    lstm, x, lengths = BidirectionalLstm(6, 5, 2, dropout=0.5), torch.randn(2, 8, 6), torch.tensor([8, 8])
    assert not torch.equal(lstm(x, lengths), lstm(x, lengths))
    lstm.eval()
    assert torch.equal(lstm(x, lengths), lstm(x, lengths))


def test_reverse_leaves_padding_in_place() -> None:
    x = torch.arange(10.0).reshape(2, 5, 1)
    assert reverse(x, torch.tensor([3, 5]))[..., 0].tolist() == [[2, 1, 0, 3, 4], [9, 8, 7, 6, 5]]
    assert torch.equal(reverse(reverse(x, torch.tensor([3, 5])), torch.tensor([3, 5])), x)
