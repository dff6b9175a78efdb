from typing import Any

import pytest
import torch
from torch import nn

from speechssl.nn.xvector import SHORTEST, XVector, statistics


def small(seed: int = 0, speakers: int = 5) -> XVector:
    torch.manual_seed(seed)
    return XVector(8, speakers, width=12, pooled_size=10)


def test_published_size() -> None:
    with torch.device("meta"):
        head = XVector(768, 1211)
    assert head.speakers.numel() == 620_032
    assert sum(p.numel() for p in head.parameters()) - head.speakers.numel() == 6_110_172
    assert SHORTEST == 15


@pytest.mark.parametrize("training", [True, False])
def test_padding_and_batch_mates_change_nothing(training: bool) -> None:
    head = small().train(training)
    features, lengths = torch.randn(8, 40, 8), torch.tensor([40, 15, 16, 3, 1, 29, 14, 22])
    together, _ = head(features, lengths)
    filled = features.masked_fill((torch.arange(40) >= lengths[:, None])[..., None], torch.nan)
    for i, n in enumerate(lengths):
        alone, _ = head(features[i : i + 1, :n], n[None])
        torch.testing.assert_close(together[i], alone[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(head(filled, lengths)[0][i], alone[0], atol=1e-5, rtol=0)


def test_outputs_are_cosines_in_training_and_unit_vectors_after() -> None:
    head, features, lengths = small(), 5 * torch.randn(3, 20, 8), torch.tensor([20, 18, 20])
    cosines, _ = head(features, lengths)
    assert cosines.shape == (3, 5)
    assert float(cosines.detach().abs().max()) <= 1 + 1e-6
    embeddings, _ = head.eval()(features, lengths)
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(3))


def test_too_short_utterances_begin_again() -> None:
    head, features = small().eval(), torch.randn(1, 6, 8)
    repeated = torch.cat([features, features, features[:, :3]], dim=1)
    torch.testing.assert_close(
        head(features, torch.tensor([6]))[0], head(repeated, torch.tensor([15]))[0], atol=1e-6, rtol=0
    )


def test_statistics_are_those_of_torch() -> None:
    x = torch.randn(3, 9, 4)
    found = statistics(x, torch.tensor([9, 5, 1]))
    for row, n in zip(range(3), (9, 5), strict=False):
        torch.testing.assert_close(found[row], torch.cat([x[row, :n].mean(0), x[row, :n].std(0)]))
    torch.testing.assert_close(found[2], torch.cat([x[2, 0], torch.zeros(4)]))


def test_gradients_are_finite_where_a_channel_is_silent() -> None:
    head = small()
    nn.init.constant_(head.frames[-1].linear.bias, -100.0)  # ReLU lets nothing through
    head(torch.randn(2, 20, 8), torch.tensor([20, 15]))[0].sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in head.parameters())


def test_stacked_heads_equal_each_alone() -> None:
    heads = [small(seed) for seed in range(3)]
    features, lengths = torch.randn(4, 30, 8), torch.tensor([30, 9, 21, 15])
    parameters, buffers = torch.func.stack_module_state(heads)

    def run(values: dict, kept: dict) -> torch.Tensor:
        return torch.func.functional_call(heads[0], (values, kept), (features, lengths))[0]

    stacked = torch.vmap(run)(parameters, buffers)
    alone = torch.stack([head(features, lengths)[0] for head in heads])
    torch.testing.assert_close(stacked, alone, atol=1e-6, rtol=0)
    gradients = torch.autograd.grad(stacked.square().sum(), list(parameters.values()))
    alone.square().sum().backward()
    for (name, _), gradient in zip(parameters.items(), gradients, strict=True):
        expected = torch.stack([head.get_parameter(name).grad for head in heads])
        torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-4)


def test_equals_s3prls() -> None:
    s3prl: Any = pytest.importorskip("s3prl.downstream.sv_voxceleb1.model", exc_type=ImportError)
    torch.manual_seed(0)
    settings = {"agg_dim": 10, "dropout_p": 0.0, "batch_norm": False}
    theirs = s3prl.Model(12, 10, "SP", "XVector", "UtteranceExtractor", settings).eval()
    ours = small().eval()
    named = dict(theirs.named_parameters())
    layers = [f"framelevel_feature_extractor.module.{i}.kernel" for i in range(5)]
    utterance = "utterancelevel_feature_extractor.linear"
    linears = [window.linear for window in ours.frames] + [ours.embedding, ours.hidden]
    for linear, name in zip(linears, [*layers, f"{utterance}1", f"{utterance}2"], strict=True):
        linear.load_state_dict({"weight": named[f"{name}.weight"], "bias": named[f"{name}.bias"]})
    features = torch.randn(3, 25, 8)
    mask = torch.zeros(3, 25 - 14)
    projected = ours.projection(features)
    expected = nn.functional.normalize(theirs.inference(projected, mask), dim=-1)
    lengths = torch.full((3,), 25)
    torch.testing.assert_close(ours(features, lengths)[0], expected, atol=1e-6, rtol=0)
    hidden = nn.functional.normalize(theirs(projected, mask), dim=-1)
    cosines = hidden @ nn.functional.normalize(ours.speakers, dim=-1).T
    torch.testing.assert_close(ours.train()(features, lengths)[0], cosines, atol=1e-6, rtol=0)
