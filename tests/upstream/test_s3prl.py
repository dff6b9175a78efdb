"""s3prl's upstreams through our door: the values s3prl gives, lengths of one's own, and no code from checkpoints."""

import argparse
import dataclasses
import importlib.util
import os
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import soundfile
import torch
from torch import nn

from speechssl import configs, registry, testing
from speechssl.data.cuts import open_corpus
from speechssl.data.prepare import prepare
from speechssl.errors import UserError
from speechssl.extract.index import ExtractedFeatures
from speechssl.extract.run import extract
from speechssl.hub import check_name, load_upstream, weights_sha256
from speechssl.upstream.s3prl import library, stand_ins
from speechssl.upstream.s3prl.model import S3prl
from speechssl.upstream.s3prl.settings import accepted
from speechssl.upstream.ssast import SsastPretraining
from speechssl.upstream.ssast import convert as ssast_convert

FILE = Path(__file__).parents[1] / "fixtures" / "tera_published.pt"
LENGTHS = [16000, 12345, 8000]
WAVEFORMS = testing.speech_like(LENGTHS)
pytest.importorskip("torchaudio", exc_type=(ImportError, OSError))
pytest.importorskip("s3prl", exc_type=ImportError)


@pytest.fixture(scope="module")
def hub() -> ModuleType:
    """s3prl's own hub, as the reference."""
    with stand_ins.surroundings(trust=False):
        from s3prl import hub
    return hub


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from s3prl.util import download

    def unreachable(*arguments: Any, **settings: Any) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(download, "_download_dir", tmp_path / "downloads")
    monkeypatch.setattr(download, "_download_url_to_file", unreachable)
    monkeypatch.setattr(download, "_download_url_to_file_requests", unreachable)


@torch.no_grad()
def assert_equal_alone(ours: S3prl, theirs: nn.Module, frames: list[int]) -> None:
    """Every utterance of a batch has the states that s3prl gives for it alone."""
    found = ours(WAVEFORMS)
    assert found.lengths.tolist() == frames
    for row, waveform in enumerate(WAVEFORMS):
        expected = theirs.eval()([waveform])["hidden_states"]
        assert len(expected) == len(found.hidden_states) == ours.num_layers + 1
        for state, peer in zip(found.hidden_states, expected, strict=True):
            torch.testing.assert_close(state[row, : frames[row]], peer[0, : frames[row]], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "size", "window"),
    [
        ("fbank", 240, 400),
        ("fbank_no_cmvn", 240, 400),
        ("mfcc", 39, 400),
        ("spectrogram", 257, 400),
        ("mel", 80, 0),
        ("linear", 201, 0),
    ],
)
def test_baselines(hub: ModuleType, name: str, size: int, window: int) -> None:
    ours = load_upstream(f"s3prl:{name}")
    assert (ours.num_layers, ours.hidden_size, ours.downsample_rate, ours.family) == (0, size, 160, "s3prl")
    assert_equal_alone(ours, getattr(hub, name)(), [1 + (samples - window) // 160 for samples in LENGTHS])


def test_ours_and_s3prls_filter_banks_are_the_same_through_the_same_door() -> None:
    ours, theirs = load_upstream("fbank_no_cmvn")(WAVEFORMS), load_upstream("s3prl:fbank_no_cmvn")(WAVEFORMS)
    assert ours.lengths.tolist() == theirs.lengths.tolist()
    torch.testing.assert_close(ours.hidden_states[0], theirs.hidden_states[0], rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", ["s3prl:fbank_no_cmvn", f"s3prl:tera_local:{FILE}"])
def test_contract(name: str) -> None:
    testing.check_upstream(load_upstream(name))


@pytest.mark.parametrize("name", ["tera", "tera_local"])
def test_tera(hub: ModuleType, name: str) -> None:
    """Both the entry that asks for a file, and the one that would download its own."""
    ours = load_upstream(f"s3prl:{name}", ckpt=FILE)
    assert (ours.num_layers, ours.hidden_size, ours.downsample_rate) == (2, 48, 160)
    assert_equal_alone(ours, hub.tera_local(str(FILE)), [1 + samples // 160 for samples in LENGTHS])


def test_tera_is_our_tera(tera_golden: dict) -> None:
    waveforms = [tera_golden[f"wav{i}"] for i in range(3)]
    theirs = load_upstream(f"s3prl:tera:{FILE}")(waveforms)
    ours = load_upstream(f"tera:{FILE}")(waveforms)
    assert ours.lengths.tolist() == theirs.lengths.tolist()
    longest = max(range(3), key=lambda row: waveforms[row].shape[0])
    for layer, (peer, state) in enumerate(zip(theirs.hidden_states, ours.hidden_states, strict=True)):
        for row, frames in enumerate(ours.lengths.tolist()):
            torch.testing.assert_close(peer[row, :frames], state[row, :frames], rtol=0, atol=1e-4)
        golden = tera_golden["wav_hidden_states"][layer][longest, : peer.shape[1]]
        torch.testing.assert_close(peer[longest], golden, rtol=0, atol=1e-4)


def test_a_tera_that_s3prl_wrote(hub: ModuleType) -> None:
    folder = os.environ.get("SPEECHSSL_GOLDEN")
    if not folder:
        pytest.skip("SPEECHSSL_GOLDEN does not name the folder with the whole reference files")
    file = Path(folder) / "tera_tiny_s3prl.ckpt"
    ours = load_upstream(f"s3prl:tera_local:{file}")
    assert_equal_alone(ours, hub.tera_local(str(file)), [1 + samples // 160 for samples in LENGTHS])


def test_features_on_disk_are_those_of_s3prl(hub: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    for number, waveform in enumerate(WAVEFORMS * 2):
        soundfile.write(tmp_path / "audio" / f"{number}.wav", waveform.numpy(), 16000)
    corpus = prepare("folder", tmp_path / "audio", tmp_path / "corpus", progress=False)
    how = {"layers": None, "pooling": "none", "format": "npy", "dtype": "float32", "device": "cpu"}
    name = f"s3prl:tera:{FILE}"
    extract(name, str(corpus), str(tmp_path / "out"), split="all", max_seconds=4.0, num_workers=0, **how)
    features, theirs = ExtractedFeatures(tmp_path / "out"), hub.tera_local(str(FILE)).eval()
    opened = open_corpus(corpus)
    for table in map(opened.table, opened.splits):
        for row, utterance in enumerate(table.ids):
            with torch.no_grad():
                expected = theirs([torch.from_numpy(table.read(row))])["hidden_states"]
            torch.testing.assert_close(features[utterance], torch.stack(expected, dim=1)[0], rtol=0, atol=1e-5)


@pytest.fixture(scope="module", params=["default", "layer_norm"])
def hubert_file(request: pytest.FixtureRequest, hub: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small HuBERT with random weights in s3prl's own format, shaped like the base or like the large model."""
    from s3prl.upstream.hubert.hubert_model import HubertConfig, HubertModel, HubertPretrainingConfig

    large = request.param == "layer_norm"
    config = HubertConfig(
        label_rate=50.0,
        encoder_layers=2,
        encoder_embed_dim=32,
        encoder_ffn_embed_dim=64,
        encoder_attention_heads=2,
        final_dim=16,
        conv_feature_layers="[(24,10,5)] + [(24,3,2)] * 4 + [(24,2,2)] * 2",
        extractor_mode=request.param,
        layer_norm_first=large,
        conv_pos=16,
        conv_pos_groups=4,
    )
    task, symbols = HubertPretrainingConfig(normalize=large), [["a", "b", "c"]]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = HubertModel(config, task, symbols)
    content = {
        "task_cfg": dataclasses.asdict(task),
        "model_cfg": dataclasses.asdict(config),
        "model_weight": model.state_dict(),
        "dictionaries_symbols": symbols,
    }
    torch.save(content, tmp_path_factory.mktemp(request.param) / "hubert.pt")
    return tmp_path_factory.getbasetemp() / f"{request.param}0" / "hubert.pt"


@pytest.mark.parametrize("name", ["hubert", "hubert_local"])
def test_hubert(hub: ModuleType, hubert_file: Path, name: str) -> None:
    ours = load_upstream(f"s3prl:{name}:{hubert_file}")
    assert (ours.num_layers, ours.hidden_size, ours.downsample_rate) == (2, 32, 320)
    theirs = hub.hubert_local(str(hubert_file)).eval()
    assert_equal_alone(ours, theirs, [1 + (samples - 400) // 320 for samples in LENGTHS])
    testing.check_upstream(ours)


@torch.no_grad()
def test_padding_would_have_changed_hubert(hub: ModuleType, hubert_file: Path) -> None:
    """Why utterances are encoded one by one: the group norm of the base model averages over the padding."""
    if hubert_file.parent.name != "default0":
        pytest.skip("the large model has no group norm over time")
    theirs = hub.hubert_local(str(hubert_file)).eval()
    alone, batched = theirs([WAVEFORMS[2]])["hidden_states"][0], theirs(WAVEFORMS)["hidden_states"][0]
    assert (alone[0] - batched[2, : alone.shape[1]]).abs().max() > 1e-2


@torch.no_grad()
def test_ssast(timm: None, hub: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The entry that can only download, given the file instead; one window holds a second."""
    vision = sys.modules["timm"]
    tiny = vision.create_model
    monkeypatch.setattr(
        vision, "create_model", lambda name, pretrained: tiny("vit_deit_tiny_distilled_patch16_224", pretrained)
    )
    upstream = registry.build_upstream("ssast", configs.load("upstream", "ssast/patch_tiny")[1])
    task = SsastPretraining(upstream).eval()
    ssast_convert.write(task.upstream, tmp_path / "tiny.pth", task)
    from s3prl.upstream.ssast import expert

    ours = load_upstream("s3prl:ssast_patch_base", ckpt=tmp_path / "tiny.pth", window_secs=0.5)
    assert (ours.num_layers, ours.hidden_size, ours.downsample_rate) == (11, 12 * 192, 1600)
    theirs = expert.UpstreamExpert(str(tmp_path / "tiny.pth"), "base_p", 0.5)
    frames = [theirs.eval()([waveform])["hidden_states"][0].shape[1] for waveform in WAVEFORMS]
    assert_equal_alone(ours, theirs, frames)


def test_a_missing_package_of_an_upstream_is_named() -> None:
    if importlib.util.find_spec("timm") is not None:
        pytest.skip("timm is installed")
    with pytest.raises(UserError, match="ssast_patch_base needs timm"):
        load_upstream("s3prl:ssast_patch_base", ckpt=FILE)


def test_nothing_is_left_behind() -> None:
    import torchaudio

    names, environment = set(vars(torchaudio)), dict(os.environ)
    torch.manual_seed(7)
    random.seed(7)
    before = torch.get_rng_state(), random.getstate()
    load_upstream(f"s3prl:tera_local:{FILE}")
    with pytest.raises(UserError):
        load_upstream("s3prl:tera_local:tests/nowhere.ckpt")
    assert set(vars(torchaudio)) == names
    assert not {"torchaudio.sox_effects", "optimizers"} & sys.modules.keys()
    assert dict(os.environ) == environment
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_stand_ins_last_as_long_as_the_block() -> None:
    import torchaudio

    had = hasattr(torchaudio, "set_audio_backend")
    with stand_ins.torchaudio_names():
        from torchaudio.sox_effects import apply_effects_tensor

        torchaudio.set_audio_backend("soundfile")
        if not had:
            with pytest.raises(RuntimeError, match="no sox effects"):
                apply_effects_tensor(None, 16000, [])
    assert hasattr(torchaudio, "set_audio_backend") == had


class Malicious:
    """Asks whoever unpickles it to create a folder."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_code_in_a_checkpoint_runs_only_for_those_who_trust_it(tmp_path: Path) -> None:
    """s3prl itself would run it: its TERA asks for weights_only=False."""
    mark, file = tmp_path / "it-ran", tmp_path / "states.ckpt"
    torch.save(torch.load(FILE, weights_only=True) | {"Optimizer": Malicious(mark)}, file)
    with pytest.raises(UserError, match=r"carries code and was refused.*mkdir.*trust=true") as caught:
        load_upstream(f"s3prl:tera_local:{file}")
    assert "\n" not in str(caught.value)
    assert not mark.exists()
    load_upstream(f"s3prl:tera_local:{file}", trust=True)
    assert mark.is_dir()


@pytest.mark.parametrize("where", ["hubert", "tera"])
def test_code_in_a_configuration_runs_only_for_those_who_trust_it(
    hubert_file: Path, tmp_path: Path, where: str
) -> None:
    """s3prl evaluates HuBERT's list of convolutions, and the name of TERA's features."""
    mark, file = tmp_path / "it-ran", tmp_path / "states.ckpt"
    content = torch.load(hubert_file if where == "hubert" else FILE, weights_only=True)
    code = f"__import__('os').mkdir({str(mark)!r})"
    if where == "hubert":
        content["model_cfg"]["conv_feature_layers"] += f" + [{code}]"
    else:
        content["Upstream_Config"]["audio"]["kaldi"] = {"feat_type": f"fbank, {code}"}
    torch.save(content, file)
    with pytest.raises(UserError, match="inside the checkpoint is code and was refused"):
        load_upstream(f"s3prl:{where}_local:{file}")
    assert not mark.exists()
    with pytest.raises(UserError, match="cannot be made"):  # what is left after the code ran is no list of convolutions
        load_upstream(f"s3prl:{where}_local:{file}", trust=True)
    assert mark.is_dir()


def test_what_published_files_carry_beside_weights_is_not_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("optimizers")
    module.WarmupLinearSchedule = type("WarmupLinearSchedule", (), {"__module__": "optimizers"})
    monkeypatch.setitem(sys.modules, "optimizers", module)
    trained = {"Args": argparse.Namespace(seed=1337), "Optimizer": {"schedule": module.WarmupLinearSchedule()}}
    torch.save(torch.load(FILE, weights_only=True) | trained, tmp_path / "states.ckpt")
    monkeypatch.delitem(sys.modules, "optimizers")
    assert load_upstream(f"s3prl:tera_local:{tmp_path / 'states.ckpt'}").num_layers == 2


def test_what_tells_a_model_from_another(tmp_path: Path) -> None:
    first = load_upstream(f"s3prl:tera_local:{FILE}")
    (tmp_path / FILE.name).write_bytes(FILE.read_bytes())
    again = load_upstream("s3prl:tera_local", ckpt=tmp_path / FILE.name)
    assert first.config == {"name": "tera_local", "s3prl": library.metadata.version("s3prl"), "ckpt": FILE.name}
    assert weights_sha256(first) == weights_sha256(again)
    assert weights_sha256(load_upstream("s3prl:fbank")) != weights_sha256(load_upstream("s3prl:mfcc"))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("hubart", {}, "no entry 'hubart'; nearest: 'hubert'"),
        ("Path", {}, "no entry 'Path'"),
        ("fbank", {"num_mels": 40}, r"fbank has no setting 'num_mels' \(known: trust\)"),
        (f"fbank:{FILE}", {}, "fbank has no setting 'ckpt'"),
        ("hubert_local", {"chkpt": str(FILE)}, "no setting 'chkpt'.*nearest: 'ckpt'"),
        ("ssast_patch_base", {"model_size": "tiny_p"}, "no setting 'model_size'.*window_secs"),
        ("hubert_local", {}, "asks for a checkpoint; say s3prl:hubert_local:FILE"),
        ("hubert_local:nowhere.pt", {}, "checkpoint nowhere.pt of s3prl:hubert_local does not exist"),
        (f"hubert_local:{FILE}", {}, "cannot be made from these settings or this checkpoint.*task_cfg"),
        (f"tera_local:{__file__}", {}, "tera_local is not readable"),
        ("stft_mag", {}, "stft_mag cannot be made .*model_config"),
        ("fbank", {"trust": "yes"}, "trust of s3prl:fbank expects true or false, found 'yes'"),
        (f"wav2vec2_local:{FILE}", {"legacy": True}, "wav2vec2_local needs fairseq"),
        (f"espnet_hubert_base_iter1:{FILE}", {}, "espnet_hubert_base_iter1"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(name: str, settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_upstream(f"s3prl:{name}", **settings)
    assert "\n" not in str(caught.value)


def test_names_are_checked_before_anything_is_loaded() -> None:
    check_name("s3prl:hubert")
    check_name(f"s3prl:tera_local:{FILE}")
    with pytest.raises(UserError, match="no entry 'hubart'"):
        check_name("s3prl:hubart")
    with pytest.raises(UserError, match=r"checkpoint nowhere\.ckpt of s3prl:tera_local does not exist"):
        check_name("s3prl:tera_local:nowhere.ckpt")


@pytest.mark.parametrize("name", ["tera", "hubert", "ssast_frame_base", "vggish"])
def test_without_a_network(no_network: None, name: str) -> None:
    with pytest.raises(UserError, match=f"s3prl:{name} cannot be fetched.*no route to host.*{name}:FILE") as caught:
        load_upstream(f"s3prl:{name}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("package", ["s3prl", "torchaudio"])
def test_without_the_library(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    for call in (load_upstream, check_name):
        with pytest.raises(UserError, match=rf"need the package {package}.*pip install 'speechssl\[s3prl\]'"):
            call("s3prl:fbank")


def test_the_whole_hub_is_there(hub: ModuleType) -> None:
    found = set(library.names())
    assert {"apc", "hubert", "mfcc", "passt_base", "ssast_patch_base", "tera", "wav2vec2", "wavlm"} <= found
    assert set(hub.options()) - found == {"FileLock", "Path", "load_and_convert_fairseq_ckpt"}


def test_settings_that_reach_something(hub: ModuleType) -> None:
    assert accepted(hub.fbank) == set()
    assert accepted(hub.tera_local) == {"ckpt", "options_config"}
    assert accepted(hub.tera) == {"refresh", "options_config"}
    assert accepted(hub.ssast_patch_base) == {"refresh", "window_secs"}
    assert accepted(hub.hubert_local) == {"ckpt", "legacy", "fairseq", "refresh"}
