"""Exported programs give what the model gives: for any batch and length, in a process that knows nothing of us."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import venv
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from speechssl import configs
from speechssl.data.cuts import Corpus
from speechssl.deploy import export as exporting
from speechssl.deploy.export import export
from speechssl.deploy.onnx_file import dft_matrix
from speechssl.deploy.program import Exportable, Program, exportable, trace
from speechssl.deploy.program_file import ABOUT
from speechssl.deploy.runtime import onnx_runner
from speechssl.deploy.trained import load_trained
from speechssl.errors import UserError
from speechssl.hub import load_upstream, weights_sha256
from speechssl.interfaces import Features, Upstream
from speechssl.testing import speech_like

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

Rows = dict[str, dict[str, Any]]
ROOT = Path(__file__).parents[2]
LENGTHS = (16000, 5003, 23456, 400)  # samples

REFUSING = """
import importlib.abc, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "speechssl", "onnx", "scipy"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
"""
ANSWERING = """
import json, sys
from answer import answer, load, read, run
session, about = load(sys.argv[1])
waveforms = [read(path, about) for path in sys.argv[2:]]
outputs = run(session, about, waveforms)
alone = [run(session, about, [waveform])[0] for waveform in waveforms]
print(json.dumps({"outputs": [o.tolist() for o in outputs], "alone": [o.tolist() for o in alone],
                  "answers": [answer(o, about) for o in outputs], "modules": sorted(sys.modules)}))
"""


@pytest.fixture(scope="session")
def words_program(rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keyword spotting on filter banks, as an ONNX file."""
    out = tmp_path_factory.mktemp("programs") / "words.onnx"
    written = export(str(rows["ks"]["folder"]), "onnx", out)
    assert written.agreement[0].relative < 1e-4
    assert written.size == out.stat().st_size
    return out


@pytest.fixture
def recorded(tmp_path: Path) -> list[Path]:
    """WAV files of several lengths, written by the standard library."""
    paths = []
    for number, waveform in enumerate(speech_like(list(LENGTHS), seed=3)):
        paths.append(tmp_path / f"{number}.wav")
        with wave.open(str(paths[-1]), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes((waveform * 32767).round().to(torch.int16).numpy().tobytes())
    return paths


def read(path: Path) -> torch.Tensor:
    with wave.open(str(path)) as file:
        return torch.from_numpy(np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768)


def answers_of(python: str, prelude: str, program: Path, paths: list[Path], folder: Path) -> dict[str, Any]:
    """Run the program of docs/export.md in another process."""
    code = re.search(r"```python file=answer.py\n(.*?)```", (ROOT / "docs" / "export.md").read_text(), re.S)[1]
    (folder / "answer.py").write_text(prelude + code)
    (folder / "ask.py").write_text(prelude + ANSWERING)
    command = [python, str(folder / "ask.py"), str(program), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_answers(said: dict[str, Any], folder: Path, paths: list[Path]) -> None:
    """Assert that another process gave the outputs and labels of the trained task."""
    trained = load_trained(folder)
    assert not {"torch", "speechssl"} & set(said["modules"])
    for number, path in enumerate(paths):
        with torch.no_grad():
            expected, valid = trained.model(*trained.upstream.checked([read(path)]))
        expected = expected[0, : int(valid)] if expected.dim() == 3 else expected[0]
        for kind in ("outputs", "alone"):
            assert np.abs(np.array(said[kind][number]) - expected.numpy()).max() < 1e-4, (kind, path)
        answer = trained.predict([read(path)])[0]
        if "label" in answer:
            assert said["answers"][number] == answer["label"]
        else:
            assert "".join(said["answers"][number]).replace("|", " ").split() == answer["text"].split()
    assert len({str(answer) for answer in said["answers"]}) > 1, "one answer to all tests nothing"


def test_a_process_with_onnxruntime_and_numpy_gives_the_same(
    rows: Rows, words_program: Path, recorded: list[Path], tmp_path: Path
) -> None:
    said = answers_of(sys.executable, REFUSING, words_program, recorded, tmp_path)
    assert_answers(said, rows["ks"]["folder"], recorded)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["ks", "asr"])
def test_an_environment_with_onnxruntime_and_numpy_gives_the_same(
    rows: Rows, task: str, recorded: list[Path], tmp_path: Path
) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    install = [python, "-m", "pip", "install", "-q", "onnxruntime", "numpy"]
    if subprocess.run(install, capture_output=True, check=False).returncode:
        pytest.skip("onnxruntime cannot be installed here")
    export(str(rows[task]["folder"]), "onnx", tmp_path / "program.onnx")
    said = answers_of(python, "", tmp_path / "program.onnx", recorded, tmp_path)
    assert_answers(said, rows[task]["folder"], recorded)


def test_the_file_says_how_it_is_read_and_nothing_of_this_machine(rows: Rows, words_program: Path) -> None:
    session = onnxruntime.InferenceSession(str(words_program))
    about = json.loads(session.get_modelmeta().custom_metadata_map["speechssl"])
    assert about["classes"] == load_trained(rows["ks"]["folder"]).task.classes
    assert about["upstream_sha256"] == rows["ks"]["upstream_sha256"]
    assert (about["sample_rate"], about["min_samples"], about["frame_seconds"]) == (16000, 800, 0.01)
    assert [entry.name for entry in session.get_inputs()] == ["waveforms", "lengths"]
    assert [entry.name for entry in session.get_outputs()] == ["outputs", "valid"]
    content = words_program.read_bytes()
    assert str(ROOT).encode() not in content
    assert sys.prefix.encode() not in content


def test_a_program_that_differs_is_not_written(rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = exporting.write_program

    def another(program: Any, exported: Any, path: Path) -> None:
        written(program, exported, path)
        exported.program.model.head.probe.head.classifier.bias += 0.01

    monkeypatch.setattr(exporting, "write_program", another)
    folder = tmp_path / "place"
    with pytest.raises(UserError, match=r"differs from the model's by 1.0e-02.*tolerance=0.0001"):
        export(str(rows["ks"]["folder"]), "torch", folder / "words.pt2")
    assert not list(folder.iterdir())


@pytest.mark.slow
def test_a_program_of_pytorch_has_its_lstms(rows: Rows, tmp_path: Path) -> None:
    written = export(str(rows["asr"]["folder"]), "torch", tmp_path / "text.pt2")
    assert written.agreement[0].relative < 1e-5
    files = {ABOUT: ""}
    loaded = torch.export.load(tmp_path / "text.pt2", extra_files=files)
    assert json.loads(files[ABOUT])["frames_per_output"] == written.about["frames_per_output"]
    assert not [node for node in loaded.graph.nodes if "speechssl" in str(node.target)]


def test_wrong_keys_are_one_line(rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words, encoder = str(rows["ks"]["folder"]), "fbank"
    for run, form, out, keys, expected in (
        (encoder, "onx", "a.onnx", {}, "format expects onnx, torch, hub"),
        (encoder, "torch", "a.pt", {}, "end in .pt2"),
        (encoder, "onnx", "a.pt2", {}, "say format=torch"),
        (encoder, "onnx", "a.onnx", {"layers": 0}, "expects a list of numbers"),
        (encoder, "onnx", "a.onnx", {"layers": ["last"]}, "expects a list of numbers"),
        (encoder, "torch", "a.pt2", {"quantise": "int8"}, "goes with format=onnx"),
        (encoder, "onnx", ".", {}, "is a folder"),
        (encoder, "onnx", "a.onnx", {"layers": [1]}, "different ones from 0 to 0"),
        (encoder, "onnx", "a.onnx", {"upstream": "fbank"}, "leave it out"),
        (encoder, "onnx", "a.onnx", {"opset": 3}, "opset expects 18 to 22"),
        (words, "onnx", "a.onnx", {"layers": [0]}, "layers= is for encoders"),
        (words, "hub", "a", {"layers": [0]}, "publishes the model as it is"),
        (str(rows["qbe"]["folder"]), "onnx", "a.onnx", {}, "trains nothing"),
        ("nothing/there", "onnx", "a.onnx", {}, "unknown upstream"),
        ("tera/tiny@random", "onnx", "a.onnx", {"quantise": "int8"}, "has none yet"),
        (encoder, "onnx", "a.onnx", {"quantise": "int4"}, "quantise expects int8"),
    ):
        with pytest.raises(UserError, match=expected):
            export(run, form, tmp_path / out, **keys)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'speechssl\[export\]'"):
        export(encoder, "onnx", tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


class OneByOne(Upstream):
    """An encoder that looks at every length."""

    downsample_rate, hidden_size, num_layers, family = 160, 1, 0, "mine"

    def encode(self, waveforms: torch.Tensor, lengths: torch.Tensor) -> Features:
        means = [waveform[: int(length)].mean() for waveform, length in zip(waveforms, lengths, strict=True)]
        return Features([torch.stack(means)[:, None, None]], torch.ones_like(lengths))


def test_a_model_that_cannot_be_traced_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    exported = Exportable(Program(OneByOne(), [0]), OneByOne(), ("hidden_state_0", "valid"), {})
    with pytest.raises(UserError, match="this mine model cannot become a program for any length"):
        trace(exported)
    assert not capfd.readouterr().err


def test_a_folder_to_publish(rows: Rows, small_tera: Path, tmp_path: Path) -> None:
    export(str(small_tera), "hub", tmp_path / "mine")
    assert weights_sha256(load_upstream(str(tmp_path / "mine"))) == weights_sha256(load_upstream(str(small_tera)))
    assert (tmp_path / "mine" / "README.md").read_text().startswith("---\n")
    export(str(rows["ks"]["folder"]), "hub", tmp_path / "words")
    assert load_trained(tmp_path / "words").task.name == "ks"
    assert "ks" in (tmp_path / "words" / "README.md").read_text()


def test_the_folder_of_a_task_is_enough_where_it_has_one_result(rows: Rows, tmp_path: Path) -> None:
    task = rows["ks"]["folder"].parent
    written = export(str(task), "hub", tmp_path / "publish")
    assert {file.name for file in written.path.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    two = tmp_path / "er"
    for number in "12":
        shutil.copytree(rows["er"]["folder"] / "export", two / f"fold{number}" / "export")
    with pytest.raises(UserError, match="has 2 results that can be used; choose one as run="):
        export(str(two), "onnx", tmp_path / "a.onnx")


def test_embeddings_are_no_scores_of_the_classes_of_training(rows: Rows) -> None:
    assert load_trained(rows["asv"]["folder"]).about["classes"]
    assert exportable(str(rows["asv"]["folder"])).about["classes"] is None
    assert exportable(str(rows["ic"]["folder"])).about["classes"]


@pytest.mark.parametrize("task", ["ic", "aec", "asv", "sd"])
def test_the_program_of_the_guide_reads_outputs_of_every_kind(rows: Rows, task: str) -> None:
    """What it says of the model's outputs is what `predict` says."""
    namespace: dict[str, Any] = {"__name__": "answer"}
    code = re.search(r"```python file=answer.py\n(.*?)```", (ROOT / "docs" / "export.md").read_text(), re.S)[1]
    exec(code, namespace)
    trained, exported = load_trained(rows[task]["folder"]), exportable(str(rows[task]["folder"]))
    for waveform in speech_like(list(LENGTHS), seed=3):
        (output,), (known,) = exported.reference(waveform), trained.predict([waveform])
        said = namespace["answer"](output.numpy(), exported.about)
        if task == "ic":
            assert said == {slot: found["label"] for slot, found in known["slots"].items()}
        elif task == "aec":
            assert set(said) == set(known["labels"])
        elif task == "asv":
            np.testing.assert_allclose(said, known["embedding"], atol=1e-5)
        else:
            assert np.shape(said) == tuple(output.shape)


def test_what_onnxruntime_refuses_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"")
    with pytest.raises(UserError, match="onnxruntime cannot load this program"):
        onnx_runner(tmp_path / "a.onnx")


def test_the_fourier_matrix_is_the_transform() -> None:
    signal = np.random.default_rng(0).standard_normal(400)
    found = np.einsum("n,nkc->kc", signal, dft_matrix(400).astype(np.float64))
    expected = np.fft.rfft(signal)
    assert np.abs(found[:, 0] + 1j * found[:, 1] - expected).max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("task", ["sid", "er", "ic", "classify", "pr", "sd", "asv", "aec", "asr", "sf"])
def test_heads_of_every_kind(rows: Rows, task: str, tmp_path: Path) -> None:
    written = export(str(rows[task]["folder"]), "onnx", tmp_path / "a.onnx")
    assert written.agreement[0].relative < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"task": {"pooling": "mean_std"}, "probe": {"standardize": True}},
        {"finetune": True, "finetuning": {"lrs": [2e-3], "steps": 10, "eval_every": 10, "layers": "mix"}},
    ],
    ids=["mean_std", "fine-tuned"],
)
def test_other_ways_to_train(
    bench: Callable[..., list[dict]], words: Corpus, small_tera: Path, settings: dict, tmp_path: Path
) -> None:
    if "finetuning" in settings:
        keys = ["upstream=a", "tasks=b", "data=c", "run_dir=d"]
        defaults = OmegaConf.to_container(configs.compose("benchmark", keys).finetuning)
        settings = settings | {"finetuning": defaults | settings["finetuning"]}
    (row,) = bench(words, ["ks"], str(small_tera), **settings)
    written = export(str(row["folder"]), "onnx", tmp_path / "a.onnx")
    assert written.agreement[0].relative < 1e-4
    assert str(small_tera) not in json.dumps(written.about)


ENCODERS = {
    "tera": ("tera/debug@random", {"normalization": "utterance"}),
    "tera of Kaldi's filters": ("tera/debug@random", {"frontend": "kaldi_fbank", "normalization": "none", "deltas": 2}),
    "ssast, patches": ("ssast/patch_debug@random", {}),
    "ssast, overlapping, concatenated": (
        "ssast/patch_debug@random",
        {"frequency_stride": 10, "time_stride": 10, "frequency_pooling": "concat"},
    ),
    "ssast, aligned, all tokens": ("ssast/patch_debug@random", {"positions": "aligned", "frequency_pooling": "none"}),
    "ssast, frames": ("ssast/frame_debug@random", {"time_stride": 1}),
    "ssast, fixed length": ("ssast/patch_debug@random", {"target_frames": 512}),
    "beats": ("beats/debug@random", {}),
    "beats, plain": ("beats/debug@random", {"frequency_pooling": "none", "gated": False, "deep_norm": False}),
    "fbank": ("fbank", {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_of_every_kind(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upstream, settings = ENCODERS[name]
    monkeypatch.setattr("speechssl.deploy.program.load_upstream", lambda name: ready(load_upstream(name, **settings)))
    layers = [0, -1] if upstream != "fbank" else None
    written = export(upstream, "onnx", tmp_path / "a.onnx", layers=layers)
    assert written.agreement[0].name == "hidden_state_0"
    assert max(found.relative for found in written.agreement) < 1e-4


def ready(upstream: Any) -> Any:
    """Return an upstream with corpus statistics, where it wants some."""
    frontend = upstream.statistics_frontend()
    if frontend is not None:
        upstream.set_statistics(torch.zeros(frontend.num_features), 3 * torch.ones(frontend.num_features))
    return upstream


@pytest.mark.slow
def test_eight_bits_are_smaller_and_close(rows: Rows, tmp_path: Path) -> None:
    run = str(rows["asr"]["folder"])
    written = export(run, "onnx", tmp_path / "a.onnx", quantise="int8")
    assert written.size < written.full_size
    assert 1e-4 < written.quantised[0].error < 0.2
    assert json.loads(
        onnxruntime.InferenceSession(str(tmp_path / "a.onnx")).get_modelmeta().custom_metadata_map["speechssl"]
    )
    with pytest.raises(UserError, match=r"max_error=1e-06.*nothing written"):
        export(run, "onnx", tmp_path / "b.onnx", quantise="int8", max_error=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]
