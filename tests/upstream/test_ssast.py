"""SSAST against the authors' code (golden tensors, s3prl) and against what an encoder must guarantee."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from speechssl import configs, registry, testing
from speechssl.errors import UserError
from speechssl.hub import load_upstream
from speechssl.upstream.ssast import Ssast, convert

VARIANTS = ["ssast/patch_debug", "ssast/frame_debug"]


def build(name: str = "ssast/patch_debug", seed: int = 0, **settings) -> Ssast:
    torch.manual_seed(seed)
    return registry.build_upstream("ssast", configs.load("upstream", name)[1] | settings).eval()


def fine_tuned(golden: dict, case: dict, tmp_path: Path) -> Ssast:
    """Return the golden pretrained weights with the settings and the classifier of a fine-tuning case."""
    torch.save(golden["state_dict"], tmp_path / "pretrained.pth")
    published = convert.read(tmp_path / "pretrained.pth")
    config = published.config | {
        "num_heads": 3,
        "frequency_stride": case["fstride"],
        "time_stride": case["tstride"],
        "target_frames": case["T"],
        "position_grid": (128 // published.config["patch_frequency"], 256 // published.config["patch_time"]),
        "input_frames": max(256, case["T"]),
        "num_classes": 7,
    }
    upstream = registry.build_upstream("ssast", config)
    classifier = {f"classifier.{name}": tensor for name, tensor in case["mlp_head"].items()}
    upstream.load_state_dict(published.upstream_state | classifier)
    return upstream.eval()


@torch.no_grad()
def test_fine_tuning_shapes_equal_the_original(ssast_golden: dict, tmp_path: Path) -> None:
    for name, case in ssast_golden["ft"].items():
        upstream = fine_tuned(ssast_golden, case, tmp_path)
        columns = (case["T"] - upstream.patch[1]) // case["tstride"] + 1
        table = upstream.position_table(columns).flatten(0, 1)
        torch.testing.assert_close(table, case["pos_embed"][0, 2:], atol=1e-6, rtol=0, msg=name)
        frames = torch.tensor([case["T"]])
        for pooling, key in (("patches", "avgtok"), ("class_tokens", "cls")):
            logits = upstream.classify_spectrogram(case["input"], frames, pooling)
            torch.testing.assert_close(logits, case[key], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(
    "settings", [{}, {"frequency_pooling": "concat"}, {"positions": "aligned"}, {"input_frames": 64}]
)
def test_contract_of_both_variants(name: str, settings: dict) -> None:
    testing.check_upstream(build(name, **settings))


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_every_pooling_is_made_of_the_same_tokens(name: str, overlap: bool) -> None:
    strides = {"frequency_stride": 10, "time_stride": 10} if overlap and "patch" in name else {}
    tokens, mean, concat = (build(name, frequency_pooling=p, **strides) for p in ("none", "mean", "concat"))
    waveforms = testing.speech_like([16000, 9000])
    a, b, c = tokens(waveforms), mean(waveforms), concat(waveforms)
    rows = tokens.rows
    assert a.lengths.tolist() == (rows * b.lengths).tolist()
    assert concat.hidden_size == rows * mean.hidden_size
    for clip, columns in enumerate(b.lengths.tolist()):
        grid = a.hidden_states[-1][clip, : rows * columns].view(rows, columns, -1)  # frequency slow, time fast
        torch.testing.assert_close(grid.mean(0), b.hidden_states[-1][clip, :columns])
        torch.testing.assert_close(grid.transpose(0, 1).flatten(1), c.hidden_states[-1][clip, :columns])


@torch.no_grad()
def test_padding_never_changes_a_clip_that_is_cut_into_pieces() -> None:
    upstream = build(input_frames=64)
    short, long = testing.speech_like([16000, 70000])
    alone, together = upstream([short]), upstream([short, long])
    frames = int(alone.lengths[0])
    torch.testing.assert_close(together.hidden_states[-1][0, :frames], alone.hidden_states[-1][0], atol=1e-4, rtol=0)
    whole = build(input_frames=64)([long])
    assert whole.lengths.tolist() == [436 // 16]
    # 27 columns in pieces of at most 4: seven pieces, each like a clip of its own.
    cells, _ = upstream.spectrogram(long[None], torch.tensor([70000]))
    piece = upstream.encode_spectrogram(cells[:, : 3 * 16], torch.tensor([48]))
    torch.testing.assert_close(whole.hidden_states[-1][:, :3], piece.hidden_states[-1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", ["patch", "frame"])
@torch.no_grad()
def test_spectrogram_padding_and_offset(variant: str) -> None:
    upstream = build(f"ssast/{variant}_debug", target_frames=1024)
    (waveform,) = testing.speech_like([160000])
    cells, frames = upstream.spectrogram(waveform[None], torch.tensor([160000]))
    assert cells.shape == (1, 1024, 128)
    assert frames.tolist() == [1024]
    torch.testing.assert_close(cells[0, 998:], torch.full((26, 128), 0.46703), atol=1e-5, rtol=0)
    shifted, _ = upstream.spectrogram(waveform[None] + 0.1, torch.tensor([160000]))
    torch.testing.assert_close(shifted, cells, atol=2e-3, rtol=0)
    after = build(f"ssast/{variant}_debug", target_frames=1024, pad_before_norm=False)
    cells, _ = after.spectrogram(waveform[None], torch.tensor([160000]))
    assert not cells[0, 998:].any()
    assert upstream.mask_value == pytest.approx(0.46703, abs=1e-5)
    cut = build(f"ssast/{variant}_debug", target_frames=100).spectrogram(waveform[None], torch.tensor([160000]))[0]
    assert cut.shape == (1, 100, 128)
    torch.testing.assert_close(cut[0], cells[0, :100])


def test_spectrogram_equals_torchaudio() -> None:
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi", exc_type=ImportError)
    (waveform,) = testing.speech_like([24000])
    expected = kaldi.fbank(
        (waveform - waveform.mean())[None],
        htk_compat=True,
        sample_frequency=16000,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=128,
        dither=0.0,
        frame_shift=10,
    )
    cells, _ = build().spectrogram(waveform[None], torch.tensor([24000]))
    torch.testing.assert_close(cells[0], (expected + 4.2677393) / (2 * 4.5689974), atol=2e-4, rtol=0)


def test_corpus_statistics_become_one_mean_and_one_deviation() -> None:
    upstream = build(mean=None, std=None)
    with pytest.raises(UserError, match="statistics"):
        upstream(testing.speech_like([16000]))
    generator = torch.Generator().manual_seed(3)
    cells = torch.randn(500, 128, generator=generator) * 3 + torch.linspace(-9, 2, 128)
    upstream.set_statistics(cells.mean(0), cells.std(0, correction=0))
    torch.testing.assert_close(upstream.spectrogram.mean, cells.mean())
    torch.testing.assert_close(upstream.spectrogram.std, cells.std(correction=0))
    assert upstream.statistics_frontend() is None
    again = build(mean=None, std=None)
    again.load_state_dict(upstream.state_dict())
    assert again.mask_value == upstream.mask_value
    given = build(mean=-6.5, std=5.0)
    given.load_state_dict(upstream.state_dict())  # a setting wins over what came with the weights
    assert float(given.spectrogram.mean) == -6.5
    assert given.mask_value == pytest.approx(0.65)


def test_aligned_positions() -> None:
    table = torch.arange(8.0)[:, None, None] + 0.01 * torch.arange(64.0)[None, :, None].expand(8, 64, 1)
    plain, aligned = build(input_frames=1024), build(input_frames=1024, positions="aligned")
    overlapping = build(input_frames=1024, positions="aligned", frequency_stride=10, time_stride=10)
    for upstream in (plain, aligned, overlapping):
        upstream.positions = torch.nn.Parameter(table)
    for columns in (1, 7, 30, 63, 64):  # side by side: both take the same stretch from the middle
        torch.testing.assert_close(plain.position_table(columns), aligned.position_table(columns))
    fitted = overlapping.position_table(50)[..., 0].detach()  # 5 s at stride 10: 490 frames of 1024
    torch.testing.assert_close(fitted[:, 0], torch.arange(12.0).mul(10 / 16).clamp(max=7) + 0.01 * 17)
    torch.testing.assert_close(fitted[0].diff(), torch.full((49,), 0.01 * 10 / 16), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("size", "parameters"), [("tiny", 5_487_168), ("small", 21_591_168), ("base", 85_649_664)])
@pytest.mark.parametrize("variant", ["patch", "frame"])
def test_parameter_counts(variant: str, size: str, parameters: int) -> None:
    upstream = build(f"ssast/{variant}_{size}")
    assert sum(p.numel() for p in upstream.parameters()) == parameters
    assert math.prod(upstream.positions.shape[:2]) == 512


def test_sinusoidal_positions_resemble_their_neighbours() -> None:
    table = build(initial_positions="sinusoidal").positions.detach()
    near = F.cosine_similarity(table[3, 5], table[3, 6], dim=0)
    far = F.cosine_similarity(table[3, 5], table[0, 15], dim=0)
    assert near > 0.9 > far
    assert torch.equal(table[2, 4, 24:], table[7, 4, 24:])  # half of the channels tell the column
    assert torch.equal(table[2, 4, :24], table[2, 9, :24])  # the other half the row
    assert build().positions.std() < 0.025


def test_the_family_name_alone_is_the_published_model() -> None:
    assert configs.load("upstream", "ssast")[1] == configs.load("upstream", "ssast/patch_base")[1]
    tiny = load_upstream("ssast/frame_tiny@random")
    assert (tiny.downsample_rate, tiny.rows, tiny.longest) == (320, 1, 512)


def test_train_and_eval_agree() -> None:
    upstream = build()
    waveforms = testing.speech_like([16000])
    expected = upstream.eval()(waveforms).hidden_states[-1]
    assert torch.equal(upstream.train()(waveforms).hidden_states[-1], expected)


def test_augmentation_hook_sees_the_normalised_spectrogram() -> None:
    upstream = build()
    seen = []
    upstream.spectrogram_augment = lambda cells, frames: seen.append((cells, frames)) or torch.zeros_like(cells)
    changed = upstream(testing.speech_like([16000]))
    assert seen[0][0].shape == (1, 98, 128)
    assert seen[0][1].tolist() == [98]
    upstream.spectrogram_augment = None
    assert not torch.equal(upstream(testing.speech_like([16000])).hidden_states[-1], changed.hidden_states[-1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch_frequency": 256}, "does not fit"),
        ({"input_frames": 8}, "does not fit"),
        ({"positions": "alligned"}, "nearest: 'aligned'"),
        ({"frequency_pooling": "max"}, "frequency_pooling"),
        ({"mean": 1.0, "std": None}, "neither"),
        ({"std": -1.0}, "positive"),
        ({"target_frames": 0}, "target_frames"),
        ({"hidden_size": 50}, "multiple"),
    ],
)
def test_wrong_settings(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(**settings)


def test_wrong_mel_count_and_missing_classifier() -> None:
    with pytest.raises(UserError, match="128"):
        build().encode_spectrogram(torch.zeros(1, 100, 80), torch.tensor([100]))
    with pytest.raises(UserError, match="classifier"):
        build().classify(torch.zeros(1, 16000), torch.tensor([16000]))


def test_too_short_audio_is_one_patch() -> None:
    for name in VARIANTS:
        assert build(name)([torch.zeros(5)]).lengths.tolist() == [1]


def test_position_table_of_an_equal_grid_is_the_table_itself() -> None:
    upstream = build()
    assert torch.equal(upstream.position_table(16), upstream.positions)
    longer = upstream.position_table(20)
    expected = F.interpolate(upstream.positions.permute(2, 0, 1)[None], (8, 20), mode="bilinear")[0]
    torch.testing.assert_close(longer, expected.permute(1, 2, 0))
