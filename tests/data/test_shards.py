import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from speechssl.data.shards import (
    ShardWriter,
    open_shard,
    pcm16_rms,
    resampled_length,
    to_float,
    to_pcm16,
    wav_layout,
)
from speechssl.errors import AudioError


def write_shard(path: Path, pieces: list[np.ndarray]) -> list[int]:
    writer = ShardWriter(path)
    starts = [writer.append(piece) for piece in pieces]
    writer.close()
    return starts


def test_every_int16_survives_the_round_trip() -> None:
    pcm = np.arange(-32768, 32768, dtype=np.int16)
    again, clipped = to_pcm16(to_float(pcm))
    assert clipped == 0
    np.testing.assert_array_equal(again, pcm)


def test_conversion_clips_and_counts_and_never_wraps() -> None:
    pcm, clipped = to_pcm16(np.array([1.0, 1.5, -1.0, -1.5, 0.99996948, 0.0], np.float32))
    assert pcm.tolist() == [32767, 32767, -32768, -32768, 32767, 0]
    assert clipped == 3


def test_conversion_rounds_half_to_even() -> None:
    pcm, _ = to_pcm16(np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32) / 32768)
    assert pcm.tolist() == [0, 2, 2, 0, -2]


def test_rms_of_a_square_wave_is_its_level() -> None:
    assert pcm16_rms(np.array([16384, -16384] * 50, np.int16)) == 0.5


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 32000, 44100, 48000])
def test_resampled_length_is_what_soxr_returns(rate: int) -> None:
    for count in (1, 7, 1000, 44103, 99999):
        assert resampled_length(count, rate) == len(soxr.resample(np.zeros(count, np.float32), rate, 16000))


def test_a_shard_is_a_plain_wav_file(tmp_path: Path) -> None:
    pieces = [np.arange(i, i + 100, dtype=np.int16) for i in range(3)]
    assert write_shard(tmp_path / "s.wav", pieces) == [0, 100, 200]
    samples, rate = soundfile.read(tmp_path / "s.wav", dtype="int16")
    assert rate == 16000
    np.testing.assert_array_equal(samples, np.concatenate(pieces))
    np.testing.assert_array_equal(open_shard(str(tmp_path / "s.wav")), samples)


def test_other_chunks_before_the_samples_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "s.wav"
    write_shard(path, [np.arange(50, dtype=np.int16)])
    plain = path.read_bytes()
    extra = b"LIST" + struct.pack("<I", 5) + b"12345\0"  # an odd size is padded to even
    (tmp_path / "t.wav").write_bytes(plain[:12] + extra + plain[12:])
    layout = wav_layout(tmp_path / "t.wav")
    assert layout is not None
    assert layout.offset == 44 + len(extra)
    np.testing.assert_array_equal(open_shard(str(tmp_path / "t.wav")), np.arange(50))


@pytest.mark.parametrize(
    ("rate", "channels", "subtype"),
    [(8000, 1, "PCM_16"), (16000, 2, "PCM_16"), (16000, 1, "PCM_24"), (16000, 1, "FLOAT")],
)
def test_only_16k_mono_pcm16_is_mapped(tmp_path: Path, rate: int, channels: int, subtype: str) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((100, channels)), rate, subtype=subtype)
    assert open_shard(str(tmp_path / "a.wav")) is None


def test_a_truncated_shard_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.wav"
    write_shard(path, [np.arange(500, dtype=np.int16)])
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(AudioError, match="truncated"):
        open_shard(str(path))


def test_a_missing_shard_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="cannot be read"):
        open_shard(str(tmp_path / "none.wav"))
