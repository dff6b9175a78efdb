import pytest
import torch

from speechssl.nn.ctc_head import CtcHead, stack_frames


def test_published_size() -> None:
    with torch.device("meta"):
        head = CtcHead(768, 32)
    assert sum(p.numel() for p in head.parameters()) == 42_828_832


@pytest.mark.parametrize(("stack", "normalise"), [(1, False), (3, False), (3, True)])
def test_padding_changes_nothing(stack: int, normalise: bool) -> None:
    torch.manual_seed(0)
    head = CtcHead(8, 32, projection_size=12, lstm_size=10, stack=stack, normalise=normalise).eval()
    features, lengths = torch.randn(8, 20, 8), torch.tensor([20, 1, 7, 19, 12, 3, 18, 5])
    together, frames = head(features, lengths)
    for i, n in enumerate(lengths):
        alone, count = head(features[i : i + 1, :n], n[None])
        assert int(count) == int(frames[i]) == -(-int(n) // stack)
        torch.testing.assert_close(together[i, :count], alone[0], atol=1e-5, rtol=0)


def test_stacking_joins_neighbours_and_ignores_padding() -> None:
    features = torch.arange(1.0, 6.0).reshape(1, 5, 1)
    stacked, lengths = stack_frames(features, torch.tensor([4]), 3)
    assert stacked[0].tolist() == [[1, 2, 3], [4, 0, 0]]
    assert lengths.tolist() == [2]


def test_normalised_features_have_no_size() -> None:
    torch.manual_seed(0)
    head = CtcHead(8, 32, projection_size=12, lstm_size=10, normalise=True).eval()
    features, lengths = torch.randn(2, 20, 8), torch.tensor([20, 9])
    moved = 7.0 * features - torch.arange(8.0)
    torch.testing.assert_close(head(moved, lengths)[0], head(features, lengths)[0], atol=1e-5, rtol=0)
