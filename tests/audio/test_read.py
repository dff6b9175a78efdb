"""Reading: formats, rates, channels, excerpts, and files that must not be read."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechssl.audio import AudioInfo, audio_info, read_audio
from speechssl.errors import AudioError

RATE = 16000


def tone(seconds: float = 0.5, rate: int = RATE, hertz: float = 440.0) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = RATE, subtype: str | None = None) -> Path:
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "PCM_16", 2**-15),
        ("a.wav", "PCM_24", 2**-23),
        ("a.wav", "PCM_U8", 2**-7),
        ("a.wav", "FLOAT", 0),
        ("a.wav", "DOUBLE", 0),
        ("a.flac", "PCM_16", 2**-15),
    ],
)
def test_lossless_formats_keep_the_samples(tmp_path: Path, name: str, subtype: str, tolerance: float) -> None:
    path = write(tmp_path / name, tone(), subtype=subtype)
    samples = read_audio(path)
    assert samples.dtype == np.float32
    assert samples.shape == (8000,)
    assert np.abs(samples - tone()).max() <= tolerance
    assert audio_info(path) == AudioInfo(RATE, 8000, 1)
    assert audio_info(path).seconds == 0.5


@pytest.mark.parametrize("name", ["a.ogg", "a.mp3"])
def test_lossy_formats_keep_length_and_shape(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, tone(2.0))
    samples = read_audio(path)
    assert abs(len(samples) - 32000) <= 1152  # an MP3 encoder may pad by up to one frame
    inner = slice(4000, 28000)
    assert np.corrcoef(samples[inner], tone(2.0)[inner])[0, 1] > 0.99


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_other_rates_are_resampled(tmp_path: Path, rate: int) -> None:
    samples = read_audio(write(tmp_path / "a.wav", tone(1.0, rate), rate, "FLOAT"))
    assert samples.shape == (RATE,)
    inner = slice(1000, 15000)
    assert np.abs(samples[inner] - tone(1.0)[inner]).max() < 1e-3


def test_sample_rate_of_the_result_can_be_chosen(tmp_path: Path) -> None:
    assert read_audio(write(tmp_path / "a.wav", tone()), sample_rate=8000).shape == (4000,)


def test_channels_are_averaged_or_chosen(tmp_path: Path) -> None:
    left, right = tone(hertz=300), tone(hertz=700)
    path = write(tmp_path / "a.wav", np.stack([left, right], axis=1), subtype="FLOAT")
    np.testing.assert_allclose(read_audio(path), (left + right) / 2, atol=1e-7)
    np.testing.assert_array_equal(read_audio(path, channel=0), left)
    np.testing.assert_array_equal(read_audio(path, channel=1), right)
    with pytest.raises(AudioError, match=r"channels 0\.\.1"):
        read_audio(path, channel=2)
    with pytest.raises(AudioError, match="'left'"):
        read_audio(path, channel="left")


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_an_excerpt_equals_the_same_part_of_the_whole(tmp_path: Path, name: str) -> None:
    noise = (0.1 * np.random.default_rng(0).standard_normal(5 * RATE)).astype(np.float32)
    path = write(tmp_path / name, noise)
    whole = read_audio(path)
    part = read_audio(path, start_seconds=2.5, duration_seconds=1.25)
    assert part.shape == (20000,)
    # A decoder that enters an MP3 in the middle lacks the bits an earlier frame lent to the first ones.
    settled = slice(2400, None) if name == "a.mp3" else slice(None)
    np.testing.assert_allclose(part[settled], whole[40000:60000][settled], atol=1e-4)
    np.testing.assert_allclose(read_audio(path, start_seconds=4.5)[2400:], whole[72000:][2400:], atol=1e-4)


def test_an_excerpt_beyond_the_end_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone())
    for start, duration in [(0.6, None), (0.5, 0.1), (-0.1, 0.1), (0.1, 0.0), (0.25, 0.5)]:
        with pytest.raises(AudioError, match=r"a\.wav"):
            read_audio(path, start_seconds=start, duration_seconds=duration)


def test_rounding_in_a_manifest_is_forgiven(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone()[:7993])
    assert read_audio(path, duration_seconds=0.5).shape == (7993,)  # 0.49956 s, rounded to 0.500


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    samples = tone()
    samples[123] = value
    with pytest.raises(AudioError, match="NaN or infinite"):
        read_audio(write(tmp_path / "a.wav", samples, subtype="FLOAT"))


def test_a_file_without_samples_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone()[:0])
    for function in (audio_info, read_audio):
        with pytest.raises(AudioError, match="holds no samples"):
            function(path)


def test_fewer_samples_than_one_after_resampling_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no samples"):
        read_audio(write(tmp_path / "a.wav", tone(1 / 48000, 48000), 48000))


@pytest.mark.parametrize("content", [b"", b"not audio at all", bytes(range(256)) * 20])
@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "raw"])
def test_files_that_are_not_audio_are_refused_in_one_line(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    for function in (audio_info, read_audio):
        with pytest.raises(AudioError) as caught:
            function(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="does not exist"):
        read_audio(tmp_path / "absent.wav")
    with pytest.raises(AudioError, match="cannot be opened"):
        read_audio(tmp_path)
