"""Truncated files are found out, whole ones of every flavour are not."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from speechssl.audio import audio_info, read_audio
from speechssl.audio.containers import check_complete
from speechssl.errors import AudioError

NOISE = (0.1 * np.random.default_rng(0).standard_normal(3 * 16000)).astype(np.float32)


def written(path: Path, **options: str) -> bytes:
    soundfile.write(path, NOISE, 16000, **options)
    return path.read_bytes()


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95, 0.9999])
@pytest.mark.parametrize("name", ["a.wav", "a.ogg"])
def test_a_file_cut_short_is_refused_by_its_header(tmp_path: Path, name: str, share: float) -> None:
    content = written(tmp_path / name)
    path = tmp_path / f"cut-{name}"
    path.write_bytes(content[: int(len(content) * share)])
    for function in (audio_info, read_audio):
        with pytest.raises(AudioError, match=r"truncated|without its"):
            function(path)


@pytest.mark.parametrize("share", [0.5, 0.95])
@pytest.mark.parametrize("name", ["a.flac", "a.mp3"])
def test_a_file_cut_short_is_refused_when_decoded(tmp_path: Path, name: str, share: float) -> None:
    content = written(tmp_path / name)
    path = tmp_path / f"cut-{name}"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(AudioError):
        read_audio(path)


WAV = {}


@settings(max_examples=40, deadline=None)
@given(missing=st.integers(1, 2000))
def test_any_missing_byte_of_a_wav_is_noticed(missing: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = WAV.setdefault("folder", tmp_path_factory.mktemp("wav"))
    content = WAV.setdefault("content", written(folder / "whole.wav"))
    (folder / "cut.wav").write_bytes(content[:-missing])
    with pytest.raises(AudioError, match=rf"{96000 - missing} of 96000 bytes"):
        check_complete(folder / "cut.wav")


@pytest.mark.parametrize("container", ["WAV", "RF64", "WAVEX", "AIFF", "FLAC", "OGG", "MP3"])
def test_whole_files_pass(tmp_path: Path, container: str) -> None:
    path = tmp_path / f"a.{container.lower()}"
    soundfile.write(path, NOISE, 16000, format=container)
    check_complete(path)
    assert abs(audio_info(path).num_samples - len(NOISE)) <= 1152


def test_big_endian_wav_passes_and_is_cut(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", NOISE, 16000, endian="BIG", subtype="PCM_16")
    content = (tmp_path / "a.wav").read_bytes()
    assert content[:4] == b"RIFX"
    check_complete(tmp_path / "a.wav")
    (tmp_path / "b.wav").write_bytes(content[:-100])
    with pytest.raises(AudioError, match="truncated"):
        check_complete(tmp_path / "b.wav")


def test_a_long_wav_that_keeps_its_size_elsewhere_is_checked(tmp_path: Path) -> None:
    content = written(tmp_path / "a.rf64", format="RF64")
    assert content[:4] == b"RF64"
    (tmp_path / "b.rf64").write_bytes(content[:-10])
    with pytest.raises(AudioError, match="truncated"):
        check_complete(tmp_path / "b.rf64")


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_wav_written_to_a_pipe_passes(tmp_path: Path, size: int) -> None:
    content = bytearray(written(tmp_path / "a.wav"))
    at = content.index(b"data")
    content[at + 4 : at + 8] = struct.pack("<I", size)
    (tmp_path / "b.wav").write_bytes(content)
    assert read_audio(tmp_path / "b.wav").shape == NOISE.shape


def test_other_chunks_before_and_after_the_data_do_not_matter(tmp_path: Path) -> None:
    content = written(tmp_path / "a.wav")
    at = content.index(b"data")
    extra = b"LIST" + struct.pack("<I", 5) + b"abcde\0"  # odd length, one byte of padding
    body = content[8:at] + extra + content[at:] + extra
    (tmp_path / "b.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    np.testing.assert_array_equal(read_audio(tmp_path / "b.wav"), read_audio(tmp_path / "a.wav"))


def test_chained_ogg_streams_pass(tmp_path: Path) -> None:
    content = written(tmp_path / "a.ogg")
    (tmp_path / "b.ogg").write_bytes(content + content)
    check_complete(tmp_path / "b.ogg")


@pytest.mark.skipif("SPEECHSSL_DATA" not in os.environ, reason="SPEECHSSL_DATA (with fsdd/, esc10/) is not set")
def test_real_recordings_pass() -> None:
    root = Path(os.environ["SPEECHSSL_DATA"])
    files = sorted(root.rglob("*.ogg"))[::8] + sorted(root.rglob("*.wav"))[::60]
    assert files
    for path in files:
        assert read_audio(path).size > 1000
