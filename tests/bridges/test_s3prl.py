"""s3prl's own classes and runner, given our encoders: the numbers that our API gives."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch

from speechssl import testing
from speechssl.bridges.s3prl import UpstreamExpert, register
from speechssl.bridges.s3prl import sound as sounds
from speechssl.bridges.s3prl.expert import repeated
from speechssl.bridges.s3prl.runner import surroundings
from speechssl.errors import UserError
from speechssl.hub import load_upstream
from speechssl.stand_ins import torchaudio_names
from speechssl.waveforms import pad_waveforms

LENGTHS = [16000, 12345, 8000, 801]
WAVEFORMS = testing.speech_like(LENGTHS)
TERA = Path(__file__).parents[1] / "fixtures" / "tera_published.pt"
FAMILIES = ["beats", "fbank", "fbank_no_cmvn", "ssast", "tera"]

needs_s3prl = pytest.mark.usefixtures("registered")


@pytest.fixture(scope="session")
def registered() -> list[str]:
    pytest.importorskip("torchaudio", exc_type=(ImportError, OSError))
    pytest.importorskip("s3prl", exc_type=ImportError)
    return register()


@pytest.fixture(params=FAMILIES)
def name(request: pytest.FixtureRequest, run_directories: dict[str, Path]) -> str:
    return str(run_directories.get(request.param, request.param))


def test_every_family_is_among_them(run_directories: dict[str, Path]) -> None:
    assert set(run_directories) <= set(FAMILIES)


@needs_s3prl
@torch.no_grad()
def test_s3prls_upstream_gives_what_our_api_gives(name: str) -> None:
    from s3prl.nn import S3PRLUpstream

    theirs, ours = S3PRLUpstream("speechssl_local", path_or_url=name).eval(), load_upstream(name)
    rate = ours.downsample_rate
    assert theirs.num_layers == ours.num_layers + 1
    assert set(theirs.hidden_sizes) == {ours.hidden_size}
    assert set(theirs.downsample_rates) == {rate}
    found, lengths = theirs(*pad_waveforms(WAVEFORMS))
    for row, waveform in enumerate(WAVEFORMS):
        wanted = -(-len(waveform) // rate)  # s3prl's own count
        alone = ours([waveform])
        frames = int(alone.lengths[0])
        for state, length, expected in zip(found, lengths, alone.hidden_states, strict=True):
            assert int(length[row]) == wanted
            both = min(wanted, frames)
            torch.testing.assert_close(state[row, :both], expected[0, :both], rtol=0, atol=1e-5)
            again = expected[0, frames - 1].expand(wanted - both, -1)  # what it repeats where it counts more frames
            torch.testing.assert_close(state[row, both:wanted], again, rtol=0, atol=1e-5)


@needs_s3prl
@torch.no_grad()
def test_our_tera_is_s3prls_tera_within_s3prl() -> None:
    from s3prl.nn import S3PRLUpstream

    with torchaudio_names():
        theirs = S3PRLUpstream("tera_local", path_or_url=str(TERA)).eval()
    ours = S3PRLUpstream("speechssl_local", path_or_url=f"tera:{TERA}").eval()
    for waveform in WAVEFORMS:
        one = waveform[None], torch.tensor([len(waveform)])
        (expected, frames), (found, lengths) = theirs(*one), ours(*one)
        assert torch.equal(torch.stack(frames), torch.stack(lengths))
        for state, peer in zip(found, expected, strict=True):
            torch.testing.assert_close(state, peer, rtol=0, atol=1e-4)


@needs_s3prl
@torch.no_grad()
def test_a_batch_gives_what_its_utterances_give(name: str) -> None:
    from s3prl.nn import S3PRLUpstream

    model = S3PRLUpstream("speechssl_local", path_or_url=name).eval()
    together, lengths = model(*pad_waveforms(WAVEFORMS))
    for row, waveform in enumerate(WAVEFORMS):
        alone, one = model(waveform[None], torch.tensor([len(waveform)]))
        assert one[0].tolist() == [int(lengths[0][row])]
        for state, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(state[row, : expected.shape[1]], expected[0], rtol=0, atol=1e-5)


@needs_s3prl
def test_both_featurizers(name: str) -> None:
    from s3prl.nn import Featurizer, S3PRLUpstream
    from s3prl.upstream.interfaces import Featurizer as RunnerFeaturizer

    model, ours = S3PRLUpstream("speechssl_local", path_or_url=name).eval(), load_upstream(name)
    with torch.no_grad():
        mixed, lengths = Featurizer(model)(*model(*pad_waveforms(WAVEFORMS)))
        expected = ours([WAVEFORMS[0]])
        frames = min(int(expected.lengths[0]), int(lengths[0]))
        mean = torch.stack(expected.hidden_states).mean(0)[0, :frames]
        torch.testing.assert_close(mixed[0, :frames], mean, rtol=0, atol=1e-5)
        features = RunnerFeaturizer(model.upstream, upstream_device="cpu")
        rows = features(WAVEFORMS, model.upstream(WAVEFORMS))
    assert [len(row) for row in rows] == [round(samples / ours.downsample_rate) for samples in LENGTHS]
    torch.testing.assert_close(rows[0][:frames], mean[: len(rows[0])], rtol=0, atol=1e-5)


def test_gradients_reach_the_encoder(run_dir: Path) -> None:
    expert = UpstreamExpert(str(run_dir)).train()
    expert(WAVEFORMS)["last_hidden_state"].square().sum().backward()
    assert all(p.grad is not None for p in expert.parameters())


def test_what_an_expert_gives(run_dir: Path) -> None:
    expert = UpstreamExpert(str(run_dir)).eval()
    given = expert(WAVEFORMS)
    assert len(given["hidden_states"]) == expert.upstream.num_layers + 1
    assert given["last_hidden_state"] is given["hidden_states"][-1]
    assert given["hidden_state_0"] is given["hidden_states"][0]
    assert given["hidden_states"][0].shape[:2] == (4, 100)
    assert expert.get_downsample_rates("hidden_states") == 160


def test_rows_repeat_their_last_frame() -> None:
    state = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 9.0]])[:, :, None]
    found = repeated(state, torch.tensor([3, 2]), 4)[:, :, 0]
    assert found.tolist() == [[1, 2, 3, 3], [4, 5, 5, 5]]
    assert repeated(state, torch.tensor([3, 2]), 2)[:, :, 0].tolist() == [[1, 2], [4, 5]]


def test_entries(registered: list[str]) -> None:
    from s3prl import hub
    from s3prl.nn import S3PRLUpstream

    assert {"speechssl", "speechssl_local", "speechssl_fbank_base"} <= set(registered)
    assert set(registered) <= set(S3PRLUpstream.available_names())
    assert S3PRLUpstream("speechssl_fbank_base").hidden_sizes == [240]
    assert S3PRLUpstream("speechssl", "tera/debug@random", extra_conf={"normalization": "utterance"}).num_layers > 1
    with pytest.raises(UserError, match="this entry is fbank/base itself; for runs/mine say speechssl_local"):
        hub.speechssl_fbank_base(ckpt="runs/mine")


@pytest.mark.parametrize("package", ["s3prl", "torchaudio"])
def test_without_the_library(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(UserError, match=rf"needs the package {package}.*pip install 'speechssl\[s3prl\]'"):
        register()


@needs_s3prl
def test_a_library_that_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3prl.nn", None)
    with pytest.raises(UserError, match=r"s3prl cannot be imported \(.*s3prl\.nn"):
        register()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "asks for an encoder: a run directory"),
        ({"ckpt": "nowhere"}, "unknown upstream 'nowhere'"),
        ({"ckpt": "fbank", "model_config": "some.yaml"}, "-g some.yaml.*leave -g out"),
        ({"ckpt": "fbank", "num_mel": 40}, "no setting 'num_mel'.*nearest: 'num_mels'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        UpstreamExpert(**settings)
    assert "\n" not in str(caught.value)


@needs_s3prl
def test_nothing_is_left_behind(tmp_path: Path) -> None:
    import huggingface_hub
    import torchaudio

    sound = torch.stack(testing.speech_like([8000, 8000])) * 3
    soundfile.write(tmp_path / "stereo.flac", sound.T.numpy() / 4, 8000)
    before, argv = (dict(vars(torchaudio)), set(vars(huggingface_hub)), set(sys.modules)), list(sys.argv)
    with surroundings():
        from torchaudio.sox_effects import apply_effects_file

        wav, rate = torchaudio.load(str(tmp_path / "stereo.flac"))
        assert (wav.shape, rate) == ((2, 8000), 8000)
        mono, rate = apply_effects_file(str(tmp_path / "stereo.flac"), [["channels", "1"], ["rate", "16000"], ["norm"]])
        assert (mono.shape, rate, float(mono.abs().max())) == ((1, 16000), 16000, 1.0)
    assert dict(vars(torchaudio)) == before[0]
    assert set(vars(huggingface_hub)) == before[1]
    assert "torchaudio.sox_effects" not in sys.modules
    assert sys.argv == argv


def test_effects() -> None:
    sound = torch.tensor([[0.5, -0.2], [0.1, 0.4]])
    mono, _ = sounds.apply_effects_tensor(sound, 16000, [["channels", "1"]])
    torch.testing.assert_close(mono, torch.tensor([[0.3, 0.1]]))
    quiet, _ = sounds.apply_effects_tensor(sound, 16000, [["gain", "-20"]])
    torch.testing.assert_close(quiet, sound / 10)
    loud, _ = sounds.apply_effects_tensor(sound, 16000, [["gain", "20"]])
    assert float(loud.max()) == 1.0  # sox clips
    with pytest.raises(UserError, match=r"effect 'vad -T 0\.25' has no stand-in"):
        sounds.apply_effects_tensor(sound, 16000, [["vad", "-T", "0.25"]])
    with pytest.raises(UserError, match=r"nowhere\.wav cannot be read as audio"):
        sounds.load("nowhere.wav")


CONFIG = """
runner:
  {total_steps: 2, gradient_clipping: 1, gradient_accumulate_steps: 1, log_step: 1, eval_step: 2, save_step: 2,
   max_keep: 1, eval_dataloaders: [dev], evaluate_ratio: 0.005}
optimizer: {name: TorchOptim, torch_optim_name: Adam, lr: 1.0e-3}
downstream_expert:
  datarc: {num_workers: 0, train_batch_size: 1, eval_batch_size: 1}
  modelrc: {input_dim: 8}
"""


def run_s3prl(*arguments: str, folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "speechssl.bridges.s3prl", *arguments, "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)


@pytest.mark.slow
@needs_s3prl
def test_the_runner_trains_and_evaluates(run_dir: Path, tmp_path: Path) -> None:
    """run_downstream.py itself, with its example task; then from its checkpoint, which holds its command line."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    shared = ("-u", "speechssl_local", "-k", str(run_dir), "-d", "example", "-c", "config.yaml", "-p", "out")
    done = run_s3prl("-m", "train", *shared, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"Take a list of {load_upstream(str(run_dir)).num_layers + 1} features" in done.stderr
    state = torch.load(tmp_path / "out" / "states-2.ckpt", map_location="cpu", weights_only=False)
    assert state["Step"] == 2
    assert state["Featurizer"]["weights"].abs().sum() > 0  # the mix of layers was trained
    done = run_s3prl("-m", "evaluate", "-t", "dev", "-e", "out/states-2.ckpt", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Loading Featurizer weights" in done.stdout + done.stderr


@pytest.mark.slow
@needs_s3prl
def test_the_runner_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    shared = ("-m", "train", "-u", "speechssl_local", "-d", "example", "-c", "config.yaml", "-p", "out")
    done = run_s3prl(*shared, "-k", "nowhere", folder=tmp_path)
    assert done.returncode == 2
    assert "speechssl: error: unknown upstream 'nowhere'" in done.stderr
    assert "Traceback" not in done.stderr
