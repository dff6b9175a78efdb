import pytest
import torch

from speechssl.nn.layer_mix import LayerMix
from speechssl.nn.pooling import masked_mean_std
from speechssl.nn.utterance_head import UtteranceHead


@pytest.mark.parametrize(("num_classes", "parameters"), [(12, 199_948), (1251, 518_371), (24, 203_032), (4, 197_892)])
def test_published_sizes(num_classes: int, parameters: int) -> None:
    head = UtteranceHead(768, num_classes)
    assert sum(p.numel() for p in head.parameters()) == parameters


def test_batches_and_single_utterances_agree() -> None:
    torch.manual_seed(0)
    head, features = UtteranceHead(16, 5), torch.randn(8, 30, 16)
    lengths = torch.tensor([30, 1, 7, 29, 12, 3, 18, 25])
    together = head(features, lengths)[0]
    alone = torch.cat([head(f[None, :n], n[None])[0] for f, n in zip(features, lengths, strict=True)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_pooled_features_give_the_same_scores_as_frames() -> None:
    torch.manual_seed(0)
    mix, head = LayerMix(4), UtteranceHead(16, 5)
    mix.logits.data = torch.randn(4)
    states, lengths = torch.randn(6, 40, 4, 16), torch.tensor([40, 10, 33, 1, 25, 40])
    frames = head(mix(states), lengths)[0]
    means = torch.stack([row[:n].mean(dim=0) for row, n in zip(states, lengths, strict=True)])
    pooled = head(mix(means[:, None]), torch.ones(6, dtype=torch.long))[0]
    torch.testing.assert_close(frames, pooled, atol=1e-5, rtol=0)


def test_the_head_is_linear() -> None:
    torch.manual_seed(0)
    head, lengths = UtteranceHead(8, 3), torch.tensor([5, 5])
    a, b = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    zero = head(torch.zeros(2, 5, 8), lengths)[0]
    both = head(a + b, lengths)[0] - zero
    torch.testing.assert_close(both, head(a, lengths)[0] + head(b, lengths)[0] - 2 * zero)


def test_without_a_projection_the_head_is_one_linear_layer() -> None:
    head = UtteranceHead(768, 50, projection_size=0)
    assert sum(p.numel() for p in head.parameters()) == 768 * 50 + 50
    features = torch.randn(2, 9, 768, generator=torch.Generator().manual_seed(0))
    expected = features.mean(dim=1) @ head.classifier.weight.T + head.classifier.bias
    torch.testing.assert_close(head(features, torch.tensor([9, 9]))[0], expected)


@pytest.mark.parametrize("projection_size", [0, 8])
def test_deviations_are_taken_or_given(projection_size: int) -> None:
    torch.manual_seed(0)
    head = UtteranceHead(6, 3, projection_size, pooling="mean_std")
    assert head(torch.zeros(1, 1, 6), torch.tensor([1]))[0].shape == (1, 3)
    features, lengths = torch.randn(4, 10, 6), torch.tensor([10, 4, 1, 7])
    given = head(masked_mean_std(features, lengths)[:, None], torch.ones(4))[0]
    torch.testing.assert_close(head(features, lengths)[0], given)
    apart = head(torch.cat([features, features], dim=1) * 2, torch.tensor([20] * 4))[0]
    assert not torch.allclose(apart, given, atol=1e-3)
