import torch

from speechssl.nn.pooling import masked_mean


def test_padding_does_not_count() -> None:
    features = torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([7, 3, 1])
    expected = torch.stack([row[:n].mean(dim=0) for row, n in zip(features, lengths, strict=True)])
    features[1, 3:] = float("nan")
    torch.testing.assert_close(masked_mean(features, lengths), expected)


def test_no_frames_give_zero() -> None:
    assert masked_mean(torch.ones(1, 3, 2), torch.tensor([0])).tolist() == [[0.0, 0.0]]
