"""Exported folders as repositories: written, uploaded and fetched over HTTP, from a hub on this machine."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from speechssl import testing
from speechssl.bridges import repository
from speechssl.deploy.conversion import convert
from speechssl.errors import UserError
from speechssl.files import load_safetensors, read_json, sha256, write_json
from speechssl.hub import load_upstream, weights_sha256

WAVEFORMS = testing.speech_like([8000, 5000])


def test_what_is_saved_is_what_load_upstream_reads(run_directories: dict[str, Path], tmp_path: Path) -> None:
    for family, run in run_directories.items():
        upstream = load_upstream(str(run))
        for number, source in enumerate((upstream, run, run / "export")):
            folder = repository.save_pretrained(source, tmp_path / f"{family}-{number}")
            again = repository.from_pretrained(folder)
            assert weights_sha256(again) == weights_sha256(upstream) == weights_sha256(load_upstream(str(folder)))
            for ours, theirs in zip(again(WAVEFORMS).hidden_states, upstream(WAVEFORMS).hidden_states, strict=True):
                assert torch.equal(ours, theirs)


def test_what_lies_in_a_saved_folder(run_dir: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(run_dir, run)
    (run / "export" / "README.md").write_text("# a card\n")
    (run / "export" / "notes.txt").write_text("of nobody's business\n")
    folder = repository.save_pretrained(run, tmp_path / "saved")
    names = {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"}
    assert {file.name for file in folder.iterdir()} == names
    assert (folder / "README.md").read_text() == "# a card\n"
    content, exported = read_json(folder / "config.json"), read_json(run_dir / "export" / "config.json")
    assert exported.items() <= content.items()
    assert content["model_type"] == "speechssl"
    assert (content["hidden_size"], content["num_hidden_layers"]) == (32, 2)
    repository.save_pretrained(load_upstream(str(run)), folder)  # another model in its place: the card is not its own
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name:")
    for file in ("config.json", "model.safetensors"):  # the card is about the files as they lie there
        assert sha256(folder / file) in card


def test_half_precision_is_of_matrices_only(run_directories: dict[str, Path], tmp_path: Path) -> None:
    for family, run in run_directories.items():
        upstream, folder = load_upstream(str(run)), repository.save_pretrained(run, tmp_path / family, "float16")
        stored = load_safetensors(folder / "model.safetensors")
        for name, tensor in upstream.state_dict().items():
            kept = tensor.dim() < 2 or not tensor.is_floating_point()
            assert torch.equal(stored[name], tensor if kept else tensor.half()), name
        again = load_upstream(str(folder))
        assert {tensor.dtype for tensor in again.state_dict().values()} <= {torch.float32, torch.int64}
        for ours, theirs in zip(again(WAVEFORMS).hidden_states, upstream(WAVEFORMS).hidden_states, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-2, rtol=1e-2)
        content = read_json(folder / "config.json")
        assert content["weights_sha256"] == sha256(folder / "model.safetensors")
        assert sha256(folder / "model.safetensors") in (folder / "README.md").read_text()


def test_what_half_precision_cannot_hold_is_refused(run_dir: Path, tmp_path: Path) -> None:
    upstream = load_upstream(str(run_dir))
    next(p for p in upstream.parameters() if p.dim() == 2)[0, 0] = 1e6
    with pytest.raises(UserError, match=r"values up to 1e\+06 does not fit float16"):
        repository.save_pretrained(upstream, tmp_path / "out", "float16")
    with pytest.raises(UserError, match="dtype expects float32 or float16, found 'half'"):
        repository.save_pretrained(upstream, tmp_path / "out", "half")


def test_a_baseline_is_a_model_too(tmp_path: Path) -> None:
    folder = repository.save_pretrained(load_upstream("fbank"), tmp_path)
    assert repository.from_pretrained(folder).hidden_size == 240


def test_names_of_encoders_are_saved_too(tmp_path: Path) -> None:
    assert repository.from_pretrained(repository.save_pretrained("fbank", tmp_path / "fbank")).family == "fbank"
    with pytest.raises(UserError, match="unknown upstream 'runs/mien'"):
        repository.save_pretrained("runs/mien", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_model_is_not_made_coarser_in_its_place(run_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir / "export", tmp_path / "export")
    before = sha256(tmp_path / "export" / "model.safetensors")
    with pytest.raises(UserError, match="is the model itself, which float16 would make coarser"):
        repository.save_pretrained(tmp_path, tmp_path / "export", "float16")
    assert sha256(tmp_path / "export" / "model.safetensors") == before


def test_other_files_of_a_folder_stay(run_dir: Path, tmp_path: Path) -> None:
    for name in ("adapter.safetensors", "pretraining.safetensors"):  # somebody's, and of an older model there
        (tmp_path / name).write_bytes(b"x")
    for source in (run_dir, load_upstream(str(run_dir))):
        repository.save_pretrained(source, tmp_path)
        assert {file.name for file in tmp_path.glob("*.safetensors")} == {"adapter.safetensors", "model.safetensors"}
        (tmp_path / "pretraining.safetensors").write_bytes(b"x")


def test_the_record_of_a_conversion_comes_along(run_dir: Path, tmp_path: Path) -> None:
    convert("tera", run_dir, tmp_path / "published.ckpt", against="none")
    convert("tera", tmp_path / "published.ckpt", tmp_path / "ours", against="none")
    folder = repository.save_pretrained(tmp_path / "ours", tmp_path / "saved")
    assert "`parity.json`" in (folder / "README.md").read_text()
    assert (folder / "parity.json").is_file()
    folder = repository.save_pretrained(tmp_path / "ours", tmp_path / "saved", "float16")  # these were not compared
    assert "`parity.json`" not in (folder / "README.md").read_text()
    assert not (folder / "parity.json").exists()


def test_settings_replace_those_of_the_folder(run_directories: dict[str, Path]) -> None:
    run = run_directories["ssast"]
    wide, mean = repository.from_pretrained(run, frequency_pooling="concat"), repository.from_pretrained(run)
    assert wide.hidden_size > mean.hidden_size


def test_there_and_back(run_dir: Path, local_hub, tmp_path: Path) -> None:
    address = repository.push_to_hub(run_dir, "me/tera", private=True, commit_message="first")
    assert address == f"{local_hub.address}/me/tera"
    assert local_hub.created[0]["name"] == "tera"
    assert "private" in json.dumps(local_hub.created[0])
    local_hub.files["me/tera"] |= {"pytorch_model.bin": b"code", "modeling.py": b"raise SystemExit"}
    again = repository.from_pretrained("me/tera")
    assert weights_sha256(again) == weights_sha256(load_upstream(str(run_dir)))
    fetched = {request.rpartition("/")[2] for request in local_hub.requests if "/resolve/" in request}
    assert fetched == {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"}
    assert repository.fetch("me/tera", "main") == repository.fetch("me/tera")


def test_once_fetched_no_network_is_needed(run_dir: Path, local_hub, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.push_to_hub(load_upstream(str(run_dir)), "me/tera")
    folder = repository.fetch("me/tera")
    asked = len(local_hub.requests)
    assert repository.fetch("me/tera", local_files_only=True) == folder
    assert len(local_hub.requests) == asked


def test_what_the_hub_does_not_have(local_hub) -> None:
    local_hub.files["me/hubert"] = {"config.json": json.dumps({"model_type": "hubert"}).encode()}
    local_hub.files["me/empty"] = {"README.md": b"nothing"}
    for name, revision, message in [
        ("me/nothing", None, "there is no repository me/nothing on the Hugging Face Hub"),
        ("me/hubert", "v2", "me/hubert has no such revision"),
        ("me/hubert", None, r"not a model of speechssl.*transformers \(hubert\): load_upstream\('hf:me/hubert'\)"),
        ("me/empty", None, "me/empty is not a model of speechssl"),
        ("not a name", None, "neither a folder nor the name of a repository"),
    ]:
        with pytest.raises(UserError, match=message) as caught:
            repository.from_pretrained(name, revision)
        assert "\n" not in str(caught.value)


def test_without_a_network(run_dir: Path, local_hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    for call in (lambda: repository.from_pretrained("me/tera"), lambda: repository.push_to_hub(run_dir, "me/tera")):
        with pytest.raises(UserError, match="the repository me/tera cannot be reached") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_folders_that_are_none_of_ours(run_dir: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"model_type": "wav2vec2", "hidden_size": 768})
    with pytest.raises(
        UserError, match=r"is not a model of speechssl \(no config\.json that names a family\).*wav2vec2"
    ):
        repository.from_pretrained(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no exported model"):
        repository.from_pretrained(tmp_path / "empty")
    with pytest.raises(UserError, match="is a folder; revision=v1 is for repositories"):
        repository.from_pretrained(run_dir, revision="v1")


def test_models_of_other_libraries_are_not_saved(tmp_path: Path) -> None:
    upstream = load_upstream("fbank")
    upstream.family = "hf"
    with pytest.raises(UserError, match="Fbank is a model of another library"):
        repository.save_pretrained(upstream, tmp_path)
