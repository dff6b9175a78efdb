"""Files are whole or absent, and loading one never runs code from it."""

import errno
import os
import pickle
from pathlib import Path

import pytest
import torch

from speechssl.errors import UserError
from speechssl.files import (
    atomic_path,
    digest,
    load_safetensors,
    load_torch,
    read_json,
    remove_leftovers,
    sha256,
    write_json,
)
from speechssl.train.checkpoint import write_tensors


class Malicious:
    """Creates a file when unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker),)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "value.json"
    write_json(target, {"a": 1})
    with pytest.raises(RuntimeError, match="half way"), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("half way")
    assert read_json(target) == {"a": 1}
    assert [p.name for p in target.parent.iterdir()] == ["value.json"]


def test_folders_that_cannot_be_made_are_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file cannot be made a folder .*choose another place"):
        write_json(tmp_path / "file" / "value.json", {})


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), OSError("Not enough free space to write 80 bytes after 0")],
)
def test_a_full_disk_is_one_clear_line_and_leaves_the_old_file(tmp_path: Path, error: OSError) -> None:
    write_json(tmp_path / "value.json", {"a": 1})
    message = r"value.json cannot be written \(.* space .*; make room"
    with pytest.raises(UserError, match=message), atomic_path(tmp_path / "value.json") as temporary:
        temporary.write_text("half")
        raise error
    assert read_json(tmp_path / "value.json") == {"a": 1}
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "value.json"):  # of another file: a fault of ours
        (tmp_path / "none").read_text()


def test_what_killed_writers_left_is_removed_after_an_hour(tmp_path: Path) -> None:
    for name in (".old.npy.1.tmp", ".new.npy.2.tmp", "mine.tmp"):
        (tmp_path / name).touch()
    for name in (".old.npy.1.tmp", "mine.tmp"):
        os.utime(tmp_path / name, (0, 0))
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".new.npy.2.tmp", "mine.tmp"]
    remove_leftovers(tmp_path / "none")


def test_json_errors_are_clear(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_json(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        read_json(tmp_path / "bad.json")
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "nan.json", {"a": float("nan")})


@pytest.mark.parametrize("container", ["torch", "pickle 2", "pickle 4"])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path, container: str) -> None:
    path, marker = tmp_path / "evil.ckpt", tmp_path / "ran"
    value = {"Transformer": {}, "extra": Malicious(marker)}
    if container == "torch":
        torch.save(value, path)
    else:
        path.write_bytes(pickle.dumps(value, protocol=int(container[-1])))
    with pytest.raises(UserError) as caught:
        load_torch(path)
    assert not marker.exists()
    message = str(caught.value)
    assert "\n" not in message
    if container != "pickle 4":  # of which the safe reader does not even know the instructions
        assert "carries code and was refused" in message
        assert "mkdir" in message


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"PK\x03\x04 torn zip"])
def test_corrupt_checkpoints(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.ckpt"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a readable checkpoint"):
        load_torch(path)
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load_safetensors(path)


def test_truncated_checkpoint(tmp_path: Path) -> None:
    whole, torn = tmp_path / "whole.pt", tmp_path / "torn.pt"
    torch.save({"w": torch.randn(100, 100)}, whole)
    torn.write_bytes(whole.read_bytes()[:20000])
    with pytest.raises(UserError, match="not a readable checkpoint"):
        load_torch(torn)


def test_digests(tmp_path: Path) -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_an_exported_model_can_be_read_by_whom_other_files_can(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_tensors(tmp_path / "model.safetensors", {"a": torch.zeros(2)})
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
