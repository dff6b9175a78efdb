"""Models of transformers, small and random: what the library itself gives for each utterance, whatever the batch."""

import os
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from speechssl import testing
from speechssl.errors import UserError
from speechssl.hub import check_name, load_upstream, weights_sha256
from speechssl.interfaces import Upstream

transformers = pytest.importorskip("transformers")
constants = pytest.importorskip("huggingface_hub.constants")

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
WAVES = SMALL | {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "conv_dim": [16] * 7}
LARGE = WAVES | {"feat_extract_norm": "layer", "do_stable_layer_norm": True}  # as the published large models
SQUEEZED = WAVES | {"conv_dim": [16] * 13}
ENCODER = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 48}
DECODER = {"decoder_layers": 1, "decoder_attention_heads": 4, "decoder_ffn_dim": 48, "vocab_size": 64}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}

CONFIGURATIONS = {
    "wav2vec2": (transformers.Wav2Vec2Config, WAVES),
    "wav2vec2-large": (transformers.Wav2Vec2Config, LARGE),
    "conformer": (transformers.Wav2Vec2ConformerConfig, WAVES | {"conv_depthwise_kernel_size": 7}),
    "hubert": (transformers.HubertConfig, WAVES),
    "hubert-large": (transformers.HubertConfig, LARGE),
    "hubert-batch-norm": (transformers.HubertConfig, LARGE | {"conv_pos_batch_norm": True}),
    "wavlm": (transformers.WavLMConfig, WAVES),
    "wavlm-large": (transformers.WavLMConfig, LARGE),
    "data2vec": (
        transformers.Data2VecAudioConfig,
        WAVES | {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 7},
    ),
    "sew": (transformers.SEWConfig, SQUEEZED),
    "sew-d": (transformers.SEWDConfig, SQUEEZED),
    "unispeech": (transformers.UniSpeechConfig, WAVES),
    "unispeech-sat-large": (transformers.UniSpeechSatConfig, LARGE),
    "whisper": (transformers.WhisperConfig, ENCODER | DECODER | TOKENS | {"max_source_positions": 50}),
    "ast": (transformers.ASTConfig, SMALL | {"max_length": 136}),
}
WAVEFORM = [name for name in CONFIGURATIONS if name not in ("whisper", "ast")]
MASKED = ["wav2vec2-large", "hubert-large", "wavlm-large", "unispeech-sat-large"]
LENGTHS = [16000, 9001, 12345, 9001]  # samples


def save(name: str, folder: Path) -> Path:
    """Write a small random model with its feature extractor, as save_pretrained does."""
    kind, settings = CONFIGURATIONS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(kind(**settings))
        for parameter in model.parameters():  # initial norms and biases would hide mistakes
            parameter.data += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    extractor = {
        "whisper": lambda: transformers.WhisperFeatureExtractor(chunk_length=1),
        "ast": lambda: transformers.ASTFeatureExtractor(max_length=136),
    }.get(name, transformers.Wav2Vec2FeatureExtractor)
    extractor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: save(name, tmp_path_factory.mktemp("hf") / name) for name in CONFIGURATIONS}


@pytest.fixture
def hubert(tmp_path: Path) -> Path:
    """Return a folder of its own to damage."""
    return save("hubert", tmp_path / "hubert")


def directly(folder: Path, waveform: Tensor) -> list[Tensor]:
    """Return the hidden states (1, T, D) that transformers alone gives for one utterance."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    inputs = extractor(waveform.numpy(), sampling_rate=16000, return_tensors="pt")
    model = model.get_encoder() if model.config.model_type == "whisper" else model
    with torch.no_grad():
        output = model(inputs[extractor.model_input_names[0]], output_hidden_states=True)
    same_rate = output.last_hidden_state.shape == output.hidden_states[-1].shape  # not in SEW
    return [*output.hidden_states[:-1], output.last_hidden_state if same_rate else output.hidden_states[-1]]


def largest(first: Tensor, second: Tensor) -> float:
    assert first.shape == second.shape
    return float((first - second).abs().max())


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_contract(name: str, folders: dict[str, Path]) -> None:
    testing.check_upstream(load_upstream(f"hf:{folders[name]}"))


@pytest.mark.parametrize("name", WAVEFORM)
def test_waveform_models_in_a_batch_equal_the_library_on_each_utterance(name: str, folders: dict[str, Path]) -> None:
    upstream = load_upstream(f"hf:{folders[name]}")
    assert upstream.padding_is_masked == (name in MASKED)
    waveforms = testing.speech_like(LENGTHS)
    states, lengths = upstream(waveforms)
    for row, waveform in enumerate(waveforms):
        reference = directly(folders[name], waveform)
        assert [state.shape[1] for state in reference] == [int(lengths[row])] * (upstream.num_layers + 1)
        for state, expected in zip(states, reference, strict=True):
            assert largest(state[row, : lengths[row]], expected[0]) < 1e-5


@pytest.mark.parametrize("name", [name for name in WAVEFORM if name not in MASKED])
def test_a_mask_would_not_do_where_utterances_are_encoded_by_length(name: str, folders: dict[str, Path]) -> None:
    upstream = load_upstream(f"hf:{folders[name]}")
    upstream.padding_is_masked = True
    with pytest.raises(AssertionError, match="depends on"):
        testing.check_upstream(upstream)


@pytest.mark.parametrize(("name", "samples", "frames"), [("hubert", 720, 2), ("hubert", 719, 1), ("sew", 1359, 1)])
def test_frames_at_the_edges_of_the_convolutions(
    name: str, samples: int, frames: int, folders: dict[str, Path]
) -> None:
    upstream = load_upstream(f"hf:{folders[name]}")
    waveform = testing.speech_like([samples])[0]
    states, lengths = upstream([waveform])
    assert lengths.tolist() == [frames]
    assert largest(states[-1], directly(folders[name], waveform)[-1]) < 1e-5
    assert upstream([waveform[: upstream.min_samples - 1]]).lengths.tolist() == [1]


def test_normalisation_is_the_feature_extractors(hubert: Path) -> None:
    waveforms = testing.speech_like([8000, 6000])
    louder = [3 * waveform + 0.1 for waveform in waveforms]
    upstream = load_upstream(f"hf:{hubert}")
    assert largest(upstream(louder).hidden_states[1], upstream(waveforms).hidden_states[1]) < 1e-3
    transformers.Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(hubert)
    plain = load_upstream(f"hf:{hubert}")
    assert largest(plain([waveforms[1]]).hidden_states[-1], directly(hubert, waveforms[1])[-1]) < 1e-5
    assert weights_sha256(plain) != weights_sha256(upstream)
    (hubert / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match="normalize=true"):
        load_upstream(f"hf:{hubert}")
    given = load_upstream(f"hf:{hubert}", normalize=True)
    assert largest(given(waveforms).hidden_states[-1], upstream(waveforms).hidden_states[-1]) == 0


def test_padding_is_never_read(folders: dict[str, Path]) -> None:
    for name in ("hubert", "wavlm-large", "whisper", "ast"):
        upstream = load_upstream(f"hf:{folders[name]}")
        clean = torch.nn.utils.rnn.pad_sequence(testing.speech_like([9000, 7000]), batch_first=True)
        dirty = clean.clone()
        dirty[1, 7000:] = 0.5
        lengths = torch.tensor([9000, 7000])
        first, second = upstream(clean, lengths), upstream(dirty, lengths)
        row = slice(0, int(first.lengths[1]))
        assert largest(first.hidden_states[-1][1, row], second.hidden_states[-1][1, row]) == 0


def test_whisper_equals_the_library_on_the_frames_of_each_utterance(folders: dict[str, Path]) -> None:
    upstream = load_upstream(f"hf:{folders['whisper']}")
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folders["whisper"])
    waveforms = testing.speech_like([15000, 321, 16000])
    states, lengths = upstream(waveforms)
    assert lengths.tolist() == [47, 2, 50]
    for row, waveform in enumerate(waveforms):
        mel = extractor(waveform.numpy(), sampling_rate=16000, return_tensors="pt")["input_features"]
        padded = torch.nn.functional.pad(waveform, (0, upstream.window_samples - len(waveform)))
        assert largest(upstream.log_mel(padded[None]), mel) < 1e-5
        for state, expected in zip(states, directly(folders["whisper"], waveform), strict=True):
            assert largest(state[row, : lengths[row]], expected[0, : lengths[row]]) < 1e-5


def test_long_audio_is_divided_evenly_among_windows(folders: dict[str, Path]) -> None:
    upstream = load_upstream(f"hf:{folders['whisper']}")  # 50 frames of 320 samples
    waveforms = testing.speech_like([40000, 5000])
    states, lengths = upstream(waveforms)
    assert lengths.tolist() == [125, 16]
    for first, count in [(0, 42), (42, 42), (84, 41)]:
        piece = waveforms[0][first * 320 : first * 320 + 16000]
        expected = directly(folders["whisper"], piece)[-1][0, :count]
        assert largest(states[-1][0, first : first + count], expected) < 1e-5


def test_ast_is_the_mean_of_patches_at_one_time(folders: dict[str, Path]) -> None:
    upstream = load_upstream(f"hf:{folders['ast']}")
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folders["ast"])
    waveforms = testing.speech_like([16000, 400, 9000])
    states, lengths = upstream(waveforms)
    assert lengths.tolist() == [10, 1, 6]  # 98, 1 and 54 frames of the spectrogram, 10 to a patch
    assert upstream.rows == 12
    assert upstream.window_frames == 13
    for row, waveform in enumerate(waveforms):
        fbank = extractor(waveform.numpy(), sampling_rate=16000, return_tensors="pt")["input_values"]
        padded = torch.nn.functional.pad(waveform, (0, upstream.window_samples - len(waveform)))
        own = upstream.spectrogram(padded[None], torch.tensor([len(waveform)]))
        assert largest(own, fbank) < 1e-4
        for state, tokens in zip(states, directly(folders["ast"], waveform), strict=True):
            assert tokens.shape == (1, 2 + 12 * 13, 32)
            expected = torch.stack([tokens[0, 2 + time :: 13].mean(0) for time in range(int(lengths[row]))])
            assert largest(state[row, : lengths[row]], expected) < 1e-5


def test_ast_takes_a_full_input_as_one_window_and_divides_more(folders: dict[str, Path]) -> None:
    upstream = load_upstream(f"hf:{folders['ast']}")
    samples = torch.tensor([upstream.window_samples, upstream.window_samples + 160, 1600 * 27 + 400])
    assert upstream.num_frames(samples).tolist() == [13, 14, 28]
    waveform = testing.speech_like([1600 * 27 + 400])[0]
    states, lengths = upstream([waveform])
    assert lengths.tolist() == [28]
    last = upstream([waveform[1600 * 20 :]]).hidden_states[-1][0]
    assert largest(states[-1][0, 20:], last) < 1e-5


def test_config_tells_the_model_and_no_path(folders: dict[str, Path]) -> None:
    upstream = load_upstream(f"hf:{folders['hubert']}")
    assert upstream.family == "hf"
    assert upstream.config["model"] == "hubert"
    assert upstream.config["architecture"]["model_type"] == "hubert"
    assert upstream.config["frontend"] == {"normalize": True}
    assert str(folders["hubert"].parent) not in repr(upstream.config)
    assert not upstream.training
    assert not any(parameter.requires_grad for parameter in upstream.parameters())
    assert weights_sha256(upstream) == weights_sha256(load_upstream(f"hf:{folders['hubert']}"))


def test_training_mode_drops_no_layer_and_masks_nothing(tmp_path: Path) -> None:
    dropping = {"layerdrop": 1.0, "mask_time_prob": 0.9, "hidden_dropout": 0.0, "attention_dropout": 0.0}
    settings = WAVES | dropping | {"feat_proj_dropout": 0.0, "activation_dropout": 0.0}
    transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**settings)).save_pretrained(tmp_path)
    upstream = load_upstream(f"hf:{tmp_path}", normalize=False)
    waveforms = testing.speech_like([16000])
    expected = upstream(waveforms).hidden_states
    trained: Upstream = upstream.train()
    assert all(torch.equal(a, b) for a, b in zip(trained(waveforms).hidden_states, expected, strict=True))


def test_weights_of_a_recogniser_in_older_spelling_and_half_precision(tmp_path: Path) -> None:
    model = transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**WAVES, vocab_size=40)).eval()
    model.save_pretrained(tmp_path / "new")
    model.config.save_pretrained(tmp_path / "old")
    spelling = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    state = {}
    for key, tensor in model.state_dict().items():
        for new, old in spelling.items():
            key = key.replace(new, old)
        state[key] = tensor.half()
    torch.save(state, tmp_path / "old" / "pytorch_model.bin")
    new = load_upstream(f"hf:{tmp_path / 'new'}", normalize=True)
    old = load_upstream(f"hf:{tmp_path / 'old'}", normalize=True)
    assert all(tensor.dtype == torch.float32 for tensor in old.state_dict().values())
    assert 0 < testing.largest_difference(new, old) < 1e-2


class Executes:
    """Unpickles by making a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_damaged_incomplete_and_executable_weights_are_refused(hubert: Path, tmp_path: Path) -> None:
    loaded = transformers.AutoModel.from_pretrained(hubert).state_dict()
    state = {key: tensor.clone() for key, tensor in loaded.items()}  # not mapped from the file that changes
    (hubert / "model.safetensors").write_bytes(b"not a file of tensors")
    with pytest.raises(UserError, match="cannot read the file of weights"):
        load_upstream(f"hf:{hubert}")
    (hubert / "model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot read the file of weights"):
        load_upstream(f"hf:{hubert}")
    key, weights = "encoder.layers.1.attention.k_proj.weight", hubert / "pytorch_model.bin"
    for change in ({}, {key: torch.zeros(3, 3)}):
        torch.save({k: v for k, v in state.items() if k != key} | change, weights)
        with pytest.raises(UserError, match=f"1 tensors of a hubert encoder.*{key}"):
            load_upstream(f"hf:{hubert}")
    torch.save(state | {"more": Executes(tmp_path / "executed")}, weights)
    with pytest.raises(UserError, match="never run"):
        load_upstream(f"hf:{hubert}")
    assert not (tmp_path / "executed").exists()


def test_wrong_names_and_settings_are_one_clear_line(hubert: Path, folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    transformers.BertConfig().save_pretrained(tmp_path / "bert")
    for name, text in [
        ("no such model, surely", "neither a folder"),
        (tmp_path / "absent", "neither a folder"),
        (tmp_path / "empty", "config.json"),
        (tmp_path / "bert", "kind 'bert'; expected one that reads audio: wav2vec2"),
    ]:
        with pytest.raises(UserError, match=text) as caught:
            check_name(f"hf:{name}")
        assert "\n" not in str(caught.value)
    for settings, text in [
        ({"normalise": True}, "no setting 'normalise'.*nearest: 'normalize'"),
        ({"normalize": "no"}, "normalize=false, found 'no'"),
        ({"revision": "main"}, "is a folder; revision is for repositories"),
    ]:
        with pytest.raises(UserError, match=text):
            load_upstream(f"hf:{hubert}", **settings)
    with pytest.raises(UserError, match="reads a spectrogram"):
        load_upstream(f"hf:{folders['ast']}", normalize=True)


def test_missing_library(monkeypatch: pytest.MonkeyPatch, folders: dict[str, Path]) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    for call in (check_name, load_upstream):
        with pytest.raises(UserError, match=r"pip install 'speechssl\[hf\]'"):
            call(f"hf:{folders['hubert']}")


def test_repositories_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hubert: Path) -> None:
    commit = "0123456789" * 4
    repository = tmp_path / "cache" / "models--someone--hubert-tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    hubert.rename(repository / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    upstream = load_upstream("hf:someone/hubert-tiny")
    assert upstream.config["model"] == "someone/hubert-tiny"
    assert upstream.config["commit"] == commit
    same = load_upstream("hf:someone/hubert-tiny", revision=commit)
    assert weights_sha256(same) == weights_sha256(upstream)
    with pytest.raises(UserError, match=r"cannot read config\.json of hf:someone/hubert-tiny"):
        load_upstream("hf:someone/hubert-tiny", revision="another")
    with pytest.raises(UserError, match=r"cannot read config\.json of hf:someone/else.*no folder here"):
        check_name("hf:someone/else")
