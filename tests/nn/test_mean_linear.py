import torch

from speechssl.nn.mean_linear import MeanLinear


def test_equals_the_definition_and_ignores_padding() -> None:
    torch.manual_seed(0)
    head, features = MeanLinear(6, 3), torch.randn(2, 5, 6)
    scores, lengths = head(features, torch.tensor([5, 2]))
    for row, count in enumerate((5, 2)):
        mean = features[row, :count].mean(dim=0)
        normed = (mean - mean.mean()) / (mean.var(correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(scores[row], normed @ head.classifier.weight.T + head.classifier.bias)
    assert lengths.tolist() == [5, 2]


def test_without_norm_scores_are_means_of_the_scores_of_frames() -> None:
    torch.manual_seed(0)
    head, features = MeanLinear(6, 3, norm=False), torch.randn(2, 5, 6)
    scores, _ = head(features, torch.tensor([5, 2]))
    for row, count in enumerate((5, 2)):
        torch.testing.assert_close(scores[row], head.classifier(features[row, :count]).mean(dim=0))
    wide = MeanLinear(1000, 100, norm=False).classifier
    assert 0.0195 < float(wide.weight.detach().std()) < 0.0205
    assert not wide.bias.any()
