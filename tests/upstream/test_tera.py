"""TERA against the reference implementation, and the invariances an encoder of padded batches must have."""

from types import ModuleType

import pytest
import torch

from speechssl import configs, testing
from speechssl.errors import UserError
from speechssl.losses.masked import masked_error
from speechssl.nn.positions import sinusoids
from speechssl.optim.groups import decay_groups
from speechssl.upstream.tera import Tera, TeraPretraining
from speechssl.upstream.tera.layout import head_from_published, upstream_from_published

SMALL = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "intermediate_size": 64}
STILL = {"dropout": 0.0, "attention_dropout": 0.0}


def golden_task(golden: dict, **options) -> TeraPretraining:
    upstream = Tera(
        hidden_size=golden["hidden_size"],
        num_layers=golden["num_hidden_layers"],
        num_heads=golden["num_attention_heads"],
        intermediate_size=golden["intermediate_size"],
        **options,
    )
    upstream.load_state_dict(upstream_from_published(golden["transformer"], upstream.num_layers))
    task = TeraPretraining(upstream)
    task.load_state_dict(head_from_published(golden["spec_head"]), strict=False)
    return task.eval()


def worst(ours: list[torch.Tensor], theirs: torch.Tensor) -> float:
    return max(float((a - b).detach().abs().max()) for a, b in zip(ours, theirs, strict=True))


def test_hidden_states_equal_the_reference_on_padding_too(tera_golden: dict) -> None:
    upstream = golden_task(tera_golden).upstream
    features = upstream.encode_features(tera_golden["input"], tera_golden["lengths"])
    assert worst(features.hidden_states, tera_golden["hidden_states"]) <= 1e-5


def test_head_loss_and_gradients_equal_the_reference(tera_golden: dict) -> None:
    task = golden_task(tera_golden, **STILL).train()
    predicted = task.reconstruct(tera_golden["input"], tera_golden["lengths"])
    torch.testing.assert_close(predicted, tera_golden["pred"], rtol=0, atol=1e-5)
    loss, count = masked_error("l1", predicted, tera_golden["loss_target"], tera_golden["loss_mask"])
    torch.testing.assert_close(loss, tera_golden["loss"], rtol=0, atol=1e-6)
    assert count == tera_golden["loss_mask"].sum()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(task.parameters(), 1e9)
    torch.testing.assert_close(norm, tera_golden["grad_total_norm"], rtol=1e-5, atol=1e-5)
    expected, layers = tera_golden["grads"], task.upstream.layers
    keys = layers[0].attention.qkv.weight.grad.chunk(3)[1]
    pairs = {
        "input_representations.spec_transform.weight": task.upstream.input_projection.weight.grad,
        "encoder.layer.0.attention.self.key.weight": keys,
        "encoder.layer.1.output.LayerNorm.weight": layers[1].output_norm.weight.grad,
    }
    for name, gradient in pairs.items():
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=1e-5)


def test_waveforms_to_hidden_states_equal_the_reference(tera_golden: dict) -> None:
    upstream = golden_task(tera_golden, batch_padded=True, max_frames=1500).upstream
    features = upstream([tera_golden[f"wav{i}"] for i in range(3)])
    assert features.lengths.tolist() == [101, 70, 151]
    assert worst(features.hidden_states, tera_golden["wav_hidden_states"]) <= 1e-4


def test_long_input_in_pieces_equals_the_reference(tera_golden: dict) -> None:
    limit = int(tera_golden["chunk_max_input_length"])
    upstream = golden_task(tera_golden, max_frames=limit).upstream
    features = tera_golden["chunk_input"]
    lengths = (features.sum(-1) != 0).sum(-1)
    states = upstream.encode_features(features, lengths).hidden_states
    assert states[0].shape[1] == 131  # 44 + 44 + 43
    start = 0
    for size in (44, 44, 43):
        rows = lengths > start  # a row with a valid frame in this piece
        ours = [state[rows, start : start + size] for state in states]
        assert worst(ours, tera_golden["chunk_hidden_states"][:, rows, start : start + size]) <= 1e-5
        assert all((state[~rows, start : start + size] == 0).all() for state in states)
        start += size


def test_no_length_limit() -> None:
    upstream = Tera(hidden_size=8, num_layers=1, num_heads=1, intermediate_size=8, num_mels=4).eval()
    with torch.no_grad():
        states = upstream.encode_features(torch.randn(1, 30_000, 4), torch.tensor([30_000])).hidden_states
    assert all(state.isfinite().all() for state in states)


@pytest.mark.parametrize(("hidden", "heads", "layers", "width", "channels"), [(24, 4, 2, 40, 13), (96, 3, 4, 64, 80)])
def test_other_sizes_equal_s3prl(
    mockingjay: ModuleType, hidden: int, heads: int, layers: int, width: int, channels: int
) -> None:
    torch.manual_seed(hidden)
    settings = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": width,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.2,
        "layer_norm_eps": "1e-12",
        "share_layer": False,
        "pre_layer_norm": False,
    }
    config = mockingjay.TransformerConfig(settings)
    theirs = mockingjay.TransformerModel(config, channels).eval()
    head = mockingjay.TransformerSpecPredictionHead(config, channels).eval()
    for parameter in [*theirs.parameters(), *head.parameters()]:
        torch.nn.init.normal_(parameter, std=0.3)
    ours = TeraPretraining(Tera(hidden, layers, heads, width, num_mels=channels, frontend="features")).eval()
    ours.upstream.load_state_dict(upstream_from_published(theirs.state_dict(), layers))
    ours.load_state_dict(head_from_published(head.state_dict()), strict=False)
    x, lengths = torch.randn(3, 37, channels), torch.tensor([37, 20, 1])
    keep = (torch.arange(37) < lengths[:, None]).float()
    with torch.no_grad():
        expected = theirs(x, sinusoids(37, hidden).expand(3, -1, -1), keep)
        assert worst(ours.upstream.encode_features(x, lengths).hidden_states, torch.stack(expected)) <= 1e-4
        torch.testing.assert_close(ours.reconstruct(x, lengths), head(expected[-1])[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "encoder", "head"),
    [
        ("base", 21_327_360, 653_648),
        ("medium", 42_590_976, 653_648),
        ("large", 85_118_208, 653_648),
        ("slim", 14_238_336, 179_408),
        ("tiny", 605_440, 27_088),
    ],
)
def test_parameter_counts(size: str, encoder: int, head: int) -> None:
    with torch.device("meta"):
        task = TeraPretraining(Tera(**configs.load("upstream", f"tera/{size}")[1] | {"frontend": "features"}))
    assert sum(p.numel() for p in task.upstream.parameters()) == encoder
    assert sum(p.numel() for p in task.head.parameters()) == head


@pytest.mark.parametrize(
    ("channels", "layers", "encoder", "head"),
    [
        (40, 3, 21_296_640, 622_888),
        (40, 6, 42_560_256, 622_888),
        (40, 12, 85_087_488, 622_888),
        (240, 3, 21_450_240, 776_688),
    ],
)
def test_parameter_counts_of_other_features(channels: int, layers: int, encoder: int, head: int) -> None:
    with torch.device("meta"):
        task = TeraPretraining(Tera(num_layers=layers, num_mels=channels, frontend="features"))
    assert sum(p.numel() for p in task.upstream.parameters()) == encoder
    assert sum(p.numel() for p in task.head.parameters()) == head


def test_initial_weights() -> None:
    torch.manual_seed(0)
    task = TeraPretraining(Tera(hidden_size=256, num_heads=4, intermediate_size=512, initializer_range=0.09))
    for name, parameter in task.named_parameters():
        if parameter.ndim == 2:
            assert parameter.std().item() == pytest.approx(0.09, rel=0.05), name
            assert parameter.abs().max() > 0.27, name  # not truncated
        else:
            assert (parameter == (1.0 if "norm" in name and name.endswith("weight") else 0.0)).all(), name


def test_decay_groups_of_the_published_recipe() -> None:
    with torch.device("meta"):
        task = TeraPretraining(Tera(frontend="features"))
    decayed, others = decay_groups(task, 0.01)
    # Query, key and value are one matrix here and three there: 21 of 58 tensors, counted their way.
    assert len(decayed["params"]) + 2 * 3 == 21
    assert len(decayed["params"]) + len(others["params"]) + 4 * 3 == 58


def test_padding_and_order_of_features_do_not_matter() -> None:
    torch.manual_seed(0)
    upstream = Tera(**SMALL).eval()
    lengths = torch.tensor([30, 12, 21])
    x = torch.randn(3, 30, 80) * (torch.arange(30) < lengths[:, None])[:, :, None]
    with torch.no_grad():
        together = upstream.encode_features(x, lengths).hidden_states
        longer = upstream.encode_features(torch.nn.functional.pad(x, (0, 0, 0, 9)), lengths).hidden_states
        order = torch.tensor([2, 0, 1])
        turned = upstream.encode_features(x[order], lengths[order]).hidden_states
        for row, length in enumerate(lengths.tolist()):
            alone = upstream.encode_features(x[row : row + 1, :length], lengths[row : row + 1]).hidden_states
            for a, b, c in zip(together, alone, longer, strict=True):
                torch.testing.assert_close(a[row, :length], b[0], rtol=0, atol=1e-5)
                torch.testing.assert_close(a[row, :length], c[row, :length], rtol=0, atol=1e-5)
    assert worst(turned, torch.stack(together)[:, order]) <= 1e-5


def test_only_position_encodings_tell_frames_apart() -> None:
    torch.manual_seed(0)
    upstream = Tera(**SMALL, initializer_range=0.2).eval()
    x, order, length = torch.randn(1, 20, 80), torch.randperm(20), torch.tensor([20])

    def difference() -> float:
        with torch.no_grad():
            plain, turned = (upstream.transform(y, length)[-1] for y in (x, x[:, order]))
        return float((plain[:, order] - turned).abs().max())

    assert difference() > 0.1
    upstream.positions.forward = lambda length, device: torch.zeros(length, 32)
    assert difference() <= 1e-5


def test_a_row_of_length_zero_gives_zeros_and_disturbs_nobody() -> None:
    torch.manual_seed(0)
    upstream = Tera(**SMALL).eval()
    x = torch.randn(2, 10, 80)
    both = upstream.encode_features(x, torch.tensor([10, 0])).hidden_states
    alone = upstream.encode_features(x[:1], torch.tensor([10])).hidden_states
    assert all((state[1] == 0).all() for state in both)
    assert worst([state[:1] for state in both], torch.stack(alone)) <= 1e-5


def test_contract_with_the_published_settings_from_waveforms() -> None:
    torch.manual_seed(0)
    testing.check_upstream(Tera(**SMALL))
    testing.check_upstream(Tera(**SMALL, normalization="corpus"))
    testing.check_upstream(Tera(**SMALL, frontend="kaldi_fbank", deltas=2))


def test_lengths_are_one_frame_per_hop() -> None:
    upstream = Tera(**SMALL).eval()
    lengths = [800, 1599, 1600, 1601, 16000]
    assert upstream([torch.randn(n) for n in lengths]).lengths.tolist() == [1 + n // 160 for n in lengths]


def test_corpus_statistics_are_asked_for_once_and_travel_in_the_state_dict() -> None:
    upstream = Tera(**SMALL, normalization="corpus")
    assert upstream.statistics_frontend() is upstream.frontend
    with pytest.raises(UserError, match="no statistics yet"):
        upstream([torch.randn(1600)])
    upstream.set_statistics(torch.full((80,), -7.0), torch.full((80,), 2.0))
    assert upstream.statistics_frontend() is None
    other = Tera(**SMALL, normalization="corpus")
    other.load_state_dict(upstream.state_dict())
    waveform = torch.randn(1600)
    torch.testing.assert_close(other.eval()([waveform]), upstream.eval()([waveform]))
    assert Tera(**SMALL).statistics_frontend() is None
    with pytest.raises(UserError, match="normalization='corpus'"):
        Tera(**SMALL).set_statistics(torch.zeros(80), torch.ones(80))


def test_pre_extracted_features_only() -> None:
    upstream = Tera(**SMALL, frontend="features", num_mels=40).eval()
    features = upstream.encode_features(torch.randn(2, 15, 40), torch.tensor([15, 9]))
    assert features.hidden_states[-1].shape == (2, 15, 32)
    with pytest.raises(UserError, match="encode_features"):
        upstream([torch.randn(1600)])
    with pytest.raises(UserError, match=r"expected features \(B, T, 40\)"):
        upstream.encode_features(torch.randn(2, 15, 80), torch.tensor([15, 9]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frontend": "log_mell"}, "nearest: 'log_mel'"),
        ({"deltas": 2}, "deltas are for frontend='kaldi_fbank'"),
        ({"frontend": "kaldi_fbank", "batch_padded": True}, "batch_padded is for frontend='log_mel'"),
        ({"num_heads": 5}, "multiple of num_heads"),
    ],
)
def test_impossible_settings(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Tera(**SMALL | options)


def test_training_runs_on_the_fused_attention_kernel() -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    task = TeraPretraining(Tera(**SMALL, **STILL)).train()
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
        task(testing.make_batch([16000, 9000]))["loss"].backward()


def test_the_frontend_takes_no_gradient_and_ignores_autocast() -> None:
    upstream = Tera(**SMALL)
    waveforms, lengths = torch.randn(1, 3200).requires_grad_(), torch.tensor([3200])
    with torch.autocast("cpu", torch.bfloat16):
        features, _ = upstream.features(waveforms, lengths)
    assert features.dtype == torch.float32
    assert not features.requires_grad
    torch.testing.assert_close(features, upstream.features(waveforms, lengths)[0], rtol=0, atol=0)
