import pytest
import torch

from speechssl.errors import UserError
from speechssl.nn.pooling import check_pooling, masked_deviation, masked_mean, masked_mean_std, mean_std, normalised


def test_padding_does_not_count() -> None:
    features = torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([7, 3, 1])
    expected = torch.stack([row[:n].mean(dim=0) for row, n in zip(features, lengths, strict=True)])
    features[1, 3:] = float("nan")
    torch.testing.assert_close(masked_mean(features, lengths), expected)


def test_no_frames_give_zero() -> None:
    assert masked_mean(torch.ones(1, 3, 2), torch.tensor([0])).tolist() == [[0.0, 0.0]]


def test_deviations_are_those_of_valid_frames() -> None:
    features = torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([7, 3, 1])
    rows = [row[:n] for row, n in zip(features, lengths, strict=True)]
    expected = torch.stack([torch.cat([row.mean(dim=0), row.std(dim=0, correction=0)]) for row in rows])
    torch.testing.assert_close(torch.stack([mean_std(row) for row in rows]), expected)
    features[1, 3:] = float("nan")
    torch.testing.assert_close(masked_mean_std(features, lengths), expected)
    assert not masked_deviation(features, lengths)[2].any()  # a single frame
    assert not masked_deviation(features, torch.tensor([0, 0, 0])).any()


def test_constant_channels_have_no_deviation_and_large_ones_an_exact_one() -> None:
    generator = torch.Generator().manual_seed(0)
    small = torch.randint(0, 8, (1, 999, 2), generator=generator).float()
    features = torch.cat([torch.full((1, 999, 1), 12345.678), small + 2.0**20], dim=-1)
    for found in (masked_deviation(features, torch.tensor([999])), mean_std(features)[:, 3:]):
        assert found[0, 0] == 0.0
        torch.testing.assert_close(found[0, 1:], small[0].std(dim=0, correction=0), rtol=1e-6, atol=0)


def test_deviations_of_constant_channels_have_no_gradient() -> None:
    features = torch.tensor([[[1.0, 2.0], [1.0, 4.0]]], requires_grad=True)
    masked_deviation(features, torch.tensor([2])).sum().backward()
    assert features.grad is not None
    torch.testing.assert_close(features.grad, torch.tensor([[[0.0, -0.5], [0.0, 0.5]]]))


def test_unknown_poolings_are_refused() -> None:
    with pytest.raises(UserError, match="mean or mean_std, found 'max'"):
        check_pooling("max")


def test_normalised_features_have_mean_0_and_deviation_1() -> None:
    features = 5 + 3 * torch.randn(3, 9, 4, generator=torch.Generator().manual_seed(0))
    features[..., 3] = 12345.678
    lengths = torch.tensor([9, 4, 1])
    found = normalised(features, lengths)
    for row, values, n in zip(found, features, lengths, strict=True):
        assert not row[n:].any()
        assert not row[:, 3].any()
        if n > 1:
            spread = values[:n, :3].std(dim=0, correction=0)
            torch.testing.assert_close(row[:n, :3], (values[:n, :3] - values[:n, :3].mean(dim=0)) / spread)
    assert not found[2].any()  # a single frame
