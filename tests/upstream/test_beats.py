"""BEATs against the published code (golden tensors), and what an encoder must guarantee."""

import itertools
import math
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from speechssl import configs, registry, testing
from speechssl.errors import UserError
from speechssl.upstream.beats import Beats, convert, masks
from speechssl.upstream.beats.patches import picture
from speechssl.upstream.beats.relative import bucket

FIXTURES = Path(__file__).parents[1] / "fixtures"
CLOSE = {"atol": 2e-5, "rtol": 0.0}
FULL = torch.full((3,), 40000)
WHOLE = slice(None), slice(None), slice(0, 120)


@pytest.fixture(scope="module", params=["pruned", "whole"])
def golden(request: pytest.FixtureRequest) -> dict:
    """Tensors made with the published code: the pruned copy beside the tests, and the whole file where it is given."""
    sound = torch.load(FIXTURES / "beats_fbank.pt", weights_only=True)
    if request.param == "pruned":
        return torch.load(FIXTURES / "beats_model.pt", weights_only=True) | sound
    folder = os.environ.get("SPEECHSSL_GOLDEN")
    if not folder:
        pytest.skip("SPEECHSSL_GOLDEN does not name the folder with the whole reference files")
    return torch.load(Path(folder) / "beats_small.pt", weights_only=True) | sound


def original(golden: dict, tmp_path: Path, part: str = "ssl", **settings) -> Beats:
    """Return the small model whose outputs the golden file holds."""
    path = tmp_path / "published.pt"
    torch.save({"cfg": golden[part]["cfg"], "model": golden[part]["state_dict"]}, path)
    published = convert.read(path)
    upstream = registry.build_upstream("beats", published.config | settings)
    upstream.load_state_dict(published.upstream_state)
    return upstream.eval()


def build(name: str = "beats/debug", seed: int = 0, **settings) -> Beats:
    torch.manual_seed(seed)
    return registry.build_upstream("beats", configs.load("upstream", name)[1] | settings).eval()


@torch.no_grad()
def test_features_equal_the_original(golden: dict, tmp_path: Path) -> None:
    waveforms, lengths, expected = golden["waveforms"], golden["lengths"], golden["ssl"]
    upstream = original(golden, tmp_path, frequency_pooling="none")
    whole = upstream(waveforms, FULL)
    torch.testing.assert_close(whole.hidden_states[-1], expected["features_nopad"], **CLOSE)
    exact = upstream(waveforms, lengths)
    torch.testing.assert_close(exact.hidden_states[-1], expected["features_exactmask"], **CLOSE)
    assert exact.lengths.tolist() == (~expected["exact_patch_mask"]).sum(1).tolist() == [120, 80, 24]
    for clip in (1, 2):
        alone = upstream([waveforms[clip, : lengths[clip]]]).hidden_states[-1]
        torch.testing.assert_close(alone, expected[f"features_clip{clip}_alone"], **CLOSE)
        torch.testing.assert_close(exact.hidden_states[-1][clip, : alone.shape[1]], alone[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_every_step_equals_the_original(golden: dict, tmp_path: Path) -> None:
    expected = golden["ssl"]
    upstream = original(golden, tmp_path, frequency_pooling="none", mask_rule="official")
    trace = expected["trace_pad"]
    seen = record(upstream)
    features = upstream(golden["waveforms"], golden["lengths"])
    assert features.lengths.tolist() == (~expected["patch_padding_mask"]).sum(1).tolist()
    torch.testing.assert_close(features.hidden_states[-1], expected["features_pad"], **CLOSE)
    states = dict(zip(("encoder_ln", "layer0_out_TBC", "layer1_out_TBC"), features.hidden_states, strict=True))
    found = {
        "patch_conv": seen["embedding"].transpose(1, 2).unflatten(2, (-1, 8)),
        "patch_ln": seen["embedding_norm"],
        "post_proj": seen["projection"],
        "pos_conv_out_BCT": seen["encoder.positions"].transpose(1, 2),
        "layer0_qproj_TBC": seen["encoder.stack.layers.0.attention.qkv"][..., :48],
        "layer0_attn_TBC": seen["encoder.stack.layers.0.attention"],
        **states,
    }
    for name, tensor in found.items():
        tensor = tensor.transpose(0, 1) if name.endswith("TBC") else tensor
        torch.testing.assert_close(tensor, trace[name], **CLOSE, msg=lambda text, name=name: f"{name}: {text}")
    attention = upstream.encoder.stack.layers[0].attention
    query = trace["layer0_qproj_TBC"].permute(1, 0, 2).unflatten(2, (4, 12)).transpose(1, 2)
    torch.testing.assert_close(attention.gates(query), expected["layer0_gate_BHT_pad"], **CLOSE)


def record(upstream: Beats) -> dict[str, Tensor]:
    """Return a dict that a forward fills with the output of every module."""
    seen: dict[str, Tensor] = {}
    for name, module in upstream.named_modules():
        module.register_forward_hook(lambda _m, _i, output, name=name: seen.__setitem__(name, output))
    return seen


def test_bias_table_equals_the_original(golden: dict, tmp_path: Path) -> None:
    expected = golden["ssl"]
    buckets = bucket(torch.arange(-1200, 1201), 320, 800)
    assert torch.equal(buckets, expected["rel_bucket_range_-1200_1200"].long())
    upstream = original(golden, tmp_path)
    offsets = upstream.encoder.stack.bias(1201).offsets
    table = expected["state_dict"]["encoder.layers.0.self_attn.relative_attention_bias.weight"]
    assert torch.equal(offsets, table[buckets].T)
    if "rel_bias_HTT" in expected:
        bias = upstream.encoder.stack.bias(120).block(*WHOLE)
        assert torch.equal(bias[0], expected["rel_bias_HTT"])


@pytest.mark.parametrize("decay", [1.0, 0.6])
def test_gradients_equal_the_original(golden: dict, tmp_path: Path, decay: float) -> None:
    expected = golden["ssl"][f"grads_decay_{decay}"]
    upstream = original(golden, tmp_path, frequency_pooling="none", gradient_decay=decay)
    last = upstream(golden["waveforms"], FULL).hidden_states[-1]
    loss = last.square().mean() + last[..., 0].mean()
    torch.testing.assert_close(loss.detach(), expected["loss"], **CLOSE)
    loss.backward()
    stack = upstream.encoder.stack
    found = {
        "patch_embedding.weight": upstream.embedding.weight,
        "encoder.layers.0.self_attn.grep_a": stack.layers[0].attention.gate_scale,
        "encoder.layers.0.self_attn.relative_attention_bias.weight": stack.bias.table,
        "encoder.layers.0.fc1.weight": stack.layers[0].expand.weight,
        "encoder.layers.1.fc1.weight": stack.layers[1].expand.weight,
        "encoder.layer_norm.weight": upstream.encoder.norm.weight,
    }
    for name, parameter in found.items():
        torch.testing.assert_close(parameter.grad, expected[name].view_as(parameter), **CLOSE)


@torch.no_grad()
def test_fine_tuned_probabilities_equal_the_original(golden: dict, tmp_path: Path) -> None:
    waveforms, lengths, expected = golden["waveforms"], golden["lengths"], golden["finetuned"]
    upstream = original(golden, tmp_path, "finetuned")
    torch.testing.assert_close(upstream.classify(waveforms, FULL).sigmoid(), expected["probs_nopad"], **CLOSE)
    official = original(golden, tmp_path, "finetuned", mask_rule="official")
    torch.testing.assert_close(official.classify(waveforms, lengths).sigmoid(), expected["probs_pad"], **CLOSE)
    states, valid = upstream.token_states(*upstream.spectrogram(waveforms, lengths))
    logits = upstream.patch_logits(states[-1])
    for row, logit in enumerate(upstream.classify(waveforms, lengths)):
        torch.testing.assert_close(logits[row, valid[row]].mean(0), logit)


def test_official_masks_equal_the_original(golden: dict) -> None:
    for case in golden["mask_table"]:
        lengths, samples, frames = case["valid_lengths"], case["num_samples"], case["num_frames"]
        assert torch.equal(masks.official_frames(lengths, samples, frames), ~case["frame_mask"])
        found = masks.official_valid(lengths, samples, frames, case["num_patches"])
        assert torch.equal(found, ~case["patch_mask"])
    expected = golden["ssl"]
    assert torch.equal(masks.official_valid(golden["lengths"], 40000, 248, 120), ~expected["patch_padding_mask"])
    exact = picture(build().spectrogram, golden["waveforms"], golden["lengths"], "exact").valid
    assert torch.equal(exact, ~expected["exact_patch_mask"])


def test_exact_rule_counts_whole_patches() -> None:
    lengths = torch.tensor([400, 2799, 2800, 5359, 5360, 160000])
    valid = picture(build().spectrogram, torch.zeros(6, 160000), lengths, "exact").valid
    assert valid.shape == (6, 496)
    assert valid.sum(1).tolist() == [0, 0, 8, 8, 16, 496]
    frames = torch.tensor([0, 1, 15, 16, 31, 32, 998])
    assert masks.num_tokens(frames).tolist() == [0, 0, 0, 8, 8, 16, 496]


def test_initialisation_has_the_deviations_of_the_original(golden: dict) -> None:
    """Twelve times the published width: more numbers, of which only Xavier's depend on it."""
    upstream = build(hidden_size=192, num_heads=4, num_layers=2, embedding_size=128)
    stack, gain = upstream.encoder.stack, 16**-0.25
    query, key, value = stack.layers[1].attention.qkv.weight.detach().chunk(3)
    square, wide = (2 / (192 + 192)) ** 0.5, (2 / (192 + 768)) ** 0.5
    layer = stack.layers[1]
    expected = [
        (query, square),
        (key, square),
        (value, gain * square),
        (layer.attention.output.weight, gain * square),
        (layer.expand.weight, gain * wide),
        (layer.contract.weight, gain * wide),
        (layer.attention.gate.weight, 0.02),
        (stack.bias.table, 0.02),
        (upstream.encoder.positions.direction, (4 / (16 * 192)) ** 0.5),
        (upstream.embedding.weight, (2 / (256 + 128)) ** 0.5),
        (upstream.projection.weight, (2 / (128 + 192)) ** 0.5),
    ]
    for number, (weight, std) in enumerate(expected):
        spread = 5 / (2 * weight.numel()) ** 0.5  # five standard errors
        assert float(weight.detach().std()) == pytest.approx(std, rel=spread), number
    positions = upstream.encoder.positions
    norms = positions.direction.norm(dim=(0, 1))
    assert torch.equal(norms, positions.magnitude.flatten())
    ones = [layer.attention.gate_scale, layer.attention_norm.weight, upstream.encoder.norm.weight]
    zeros = [layer.attention.qkv.bias, layer.expand.bias, positions.bias, upstream.projection.bias]
    assert all(bool((p == 1).all()) for p in ones)
    assert all(bool((p == 0).all()) for p in zeros)
    # The same formulas give the deviations that the golden file measured, of 48 x 48 and smaller matrices.
    measured = golden["ssl"]["init_std"]
    assert measured["encoder.layers.0.self_attn.q_proj.weight"] == pytest.approx((2 / 96) ** 0.5, rel=0.1)
    assert measured["encoder.layers.0.fc1.weight"] == pytest.approx(gain * (2 / 144) ** 0.5, rel=0.1)
    assert measured["encoder.pos_conv.0.weight_v"] == pytest.approx((4 / (16 * 48)) ** 0.5, rel=0.1)


@pytest.mark.parametrize("settings", [{}, {"frequency_pooling": "concat"}, {"pre_norm": True, "deep_norm": False}])
def test_contract(settings: dict) -> None:
    testing.check_upstream(build(**settings))


@torch.no_grad()
def test_every_pooling_is_made_of_the_same_tokens() -> None:
    tokens, mean, concat = (build(frequency_pooling=pooling) for pooling in ("none", "mean", "concat"))
    waveforms = testing.speech_like([16000, 9000])
    a, b, c = tokens(waveforms), mean(waveforms), concat(waveforms)
    assert a.lengths.tolist() == [48, 24]
    assert b.lengths.tolist() == c.lengths.tolist() == [6, 3]
    assert (mean.hidden_size, concat.hidden_size, tokens.hidden_size) == (48, 384, 48)
    assert (mean.downsample_rate, tokens.downsample_rate) == (2560, 320)
    grid = a.hidden_states[-1][0].view(6, 8, 48)  # time slow, bands fast
    torch.testing.assert_close(grid.mean(1), b.hidden_states[-1][0])
    torch.testing.assert_close(grid.flatten(1), c.hidden_states[-1][0])


@torch.no_grad()
def test_official_rule_averages_the_valid_patches_of_a_column() -> None:
    tokens = build(frequency_pooling="none", mask_rule="official")
    mean = build(mask_rule="official")
    waveforms, lengths = torch.zeros(2, 40000), torch.tensor([40000, 26000])
    waveforms[1, :26000] = testing.speech_like([26000])[0]
    a, b = tokens(waveforms, lengths), mean(waveforms, lengths)
    assert a.lengths.tolist() == [120, 81]
    assert b.lengths.tolist() == [15, 11]
    torch.testing.assert_close(b.hidden_states[-1][1, 10], a.hidden_states[-1][1, 80])  # the only valid one of 8
    torch.testing.assert_close(b.hidden_states[-1][1, 9], a.hidden_states[-1][1, 72:80].mean(0))


@torch.no_grad()
def test_official_rule_never_looks_beyond_the_lengths() -> None:
    upstream = build(mask_rule="official")
    waveforms, lengths = torch.randn(2, 20000), torch.tensor([20000, 12000])
    clean = waveforms.clone()
    clean[1, 12000:] = 0
    assert torch.equal(upstream(waveforms, lengths).hidden_states[-1], upstream(clean, lengths).hidden_states[-1])


@torch.no_grad()
def test_patches_are_time_major_and_band_fastest() -> None:
    cells = torch.arange(50 * 128.0).view(1, 50, 128)
    patches = build().patches(cells)
    assert patches.shape == (1, 24, 256)
    assert torch.equal(patches[0, 8 * 2 + 3].view(16, 16), cells[0, 32:48, 48:64])
    upstream = build()
    kernel = upstream.embedding.weight.view(-1, 1, 16, 16)
    expected = torch.nn.functional.conv2d(cells[:, None] / 1000, kernel, stride=16).flatten(2).transpose(1, 2)
    torch.testing.assert_close(upstream.embedding(patches / 1000), expected)
    picked = torch.tensor([5, 17])
    torch.testing.assert_close(upstream.embed(patches[:, picked]), upstream.embed(patches)[:, picked])


def test_spectrogram_equals_the_original(golden: dict) -> None:
    upstream = build()
    cells, frames = upstream.spectrogram(golden["waveforms"], golden["lengths"])
    assert frames.tolist() == [248, 161, 54]
    torch.testing.assert_close(cells[0], golden["normalized_first"], atol=5e-5, rtol=0)
    assert not cells[1, 161:].any()
    assert bool((cells[0, :, 3] == cells[0, 0, 3]).all())  # an empty filter
    silence, _ = upstream.spectrogram(torch.zeros(1, 2800), torch.tensor([2800]))
    torch.testing.assert_close(silence, torch.full((1, 16, 128), -2.3917), atol=1e-4, rtol=0)
    assert upstream.mask_value == 0.0, "masks are the mean: they are put on normalised spectrograms"


def test_lengths_in_tokens() -> None:
    upstream = build(frequency_pooling="none")
    for samples, tokens in ((1, 8), (2800, 8), (5359, 8), (5360, 16), (160000, 496)):
        cells, frames = upstream.spectrogram(torch.zeros(1, max(samples, 2800)), torch.tensor([max(samples, 2800)]))
        assert int(upstream.num_tokens(frames)) == tokens == upstream.patches(cells).shape[1]
    assert upstream([torch.zeros(1)]).lengths.tolist() == [8]


def test_corpus_statistics_become_one_mean_and_one_deviation() -> None:
    upstream = build(mean=None, std=None)
    with pytest.raises(UserError, match="statistics"):
        upstream(testing.speech_like([16000]))
    cells = torch.randn(500, 128, generator=torch.Generator().manual_seed(3)) * 3 + torch.linspace(5, 16, 128)
    upstream.set_statistics(cells.mean(0), cells.std(0, correction=0))
    torch.testing.assert_close(upstream.spectrogram.mean, cells.mean())
    torch.testing.assert_close(upstream.spectrogram.std, cells.std(correction=0))
    assert upstream.statistics_frontend() is None
    again = build(mean=None, std=None)
    again.load_state_dict(upstream.state_dict())
    assert torch.equal(again.spectrogram.mean, upstream.spectrogram.mean)
    assert again.statistics_frontend() is None
    given = build(mean=12.0, std=5.0)
    given.load_state_dict(upstream.state_dict())  # a setting wins over what came with the weights
    assert float(given.spectrogram.mean) == 12.0


def test_augmentation_hook_sees_the_normalised_spectrogram() -> None:
    upstream = build()
    seen = []
    upstream.spectrogram_augment = lambda cells, frames: seen.append((cells, frames)) or torch.zeros_like(cells)
    changed = upstream(testing.speech_like([16000]))
    assert seen[0][0].shape == (1, 98, 128)
    assert seen[0][1].tolist() == [98]
    upstream.spectrogram_augment = None
    assert not torch.equal(upstream(testing.speech_like([16000])).hidden_states[-1], changed.hidden_states[-1])


def test_dropout_and_layer_drop_act_in_training_only() -> None:
    settings = {"layer_drop": 0.5, "input_dropout": 0.2, "activation_dropout": 0.2}
    upstream = build(num_layers=4, **settings)
    waveforms = testing.speech_like([16000])
    before = torch.get_rng_state()
    with torch.no_grad():
        first, again = upstream(waveforms), upstream(waveforms)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.hidden_states[-1], again.hidden_states[-1])
    plain = build(num_layers=4, layer_drop=0.0, dropout=0.0, attention_dropout=0.0)
    with torch.no_grad():
        torch.testing.assert_close(plain(waveforms).hidden_states[-1], first.hidden_states[-1])
        torch.testing.assert_close(plain.train()(waveforms).hidden_states[-1], first.hidden_states[-1])
        torch.manual_seed(5)
        trained = upstream.train()(waveforms).hidden_states
        torch.manual_seed(5)
        repeated = upstream(waveforms).hidden_states
    assert torch.equal(trained[-1], repeated[-1])
    assert not torch.equal(trained[-1], first.hidden_states[-1])


def test_layer_drop_skips_about_its_share_of_layers() -> None:
    upstream = build(num_layers=20, layer_drop=0.3, hidden_size=8, num_heads=2, dropout=0.0, attention_dropout=0.0)
    torch.manual_seed(1)
    skipped, tokens = 0, torch.randn(1, 8, 8)
    for _ in range(20):
        with torch.no_grad():
            states = upstream.train().encoder.stack(tokens)
        skipped += sum(torch.equal(a, b) for a, b in itertools.pairwise(states))
    assert skipped / 400 == pytest.approx(0.3, abs=0.08)


@pytest.mark.parametrize(
    ("size", "parameters"), [("base", 90_311_792), ("large", 311_376_576), ("tiny", 3_026_690), ("debug", 76_998)]
)
def test_parameter_counts(size: str, parameters: int) -> None:
    layers = configs.load("upstream", f"beats/{size}")[1].get("num_layers", 12)
    one, two = (sum(p.numel() for p in build(f"beats/{size}", num_layers=n).parameters()) for n in (1, 2))
    assert one + (layers - 1) * (two - one) == parameters


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask_rule": "exakt"}, "nearest: 'exact'"),
        ({"frequency_pooling": "max"}, "frequency_pooling"),
        ({"pre_norm": True}, "deep_norm"),
        ({"activation": "gleu"}, "activation"),
        ({"num_heads": 5}, "multiple of num_heads"),
        ({"conv_position_groups": 5}, "conv_position_groups"),
        ({"num_buckets": 30}, "num_buckets"),
        ({"max_distance": 80}, "max_distance"),
        ({"num_layers": 0}, "num_layers"),
        ({"mean": 1.0, "std": None}, "neither"),
        ({"std": -1.0}, "positive"),
    ],
)
def test_wrong_settings(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(**settings)


def test_wrong_mel_count_and_missing_classifier() -> None:
    with pytest.raises(UserError, match="128"):
        build().patches(torch.zeros(1, 100, 80))
    with pytest.raises(UserError, match="classifier"):
        build().classify(torch.zeros(1, 16000), torch.tensor([16000]))


def test_gradient_decay_scales_by_depth() -> None:
    """Layer i of L gets ratio ** (L - 1 - i), what lies below ratio ** L."""
    found = []
    for decay in (1.0, 0.5):
        upstream = build(num_layers=3, gradient_decay=decay)
        upstream(testing.speech_like([16000])).hidden_states[-1].square().sum().backward()
        weights = [layer.expand.weight for layer in upstream.encoder.stack.layers]
        found.append([w.grad for w in (upstream.embedding.weight, *weights)])
    for power, plain, scaled in zip((3, 2, 1, 0), *found, strict=True):
        torch.testing.assert_close(scaled, plain * math.pow(0.5, power))
