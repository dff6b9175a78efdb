"""Features on disk equal features in memory, whatever the format, and an interrupted extraction resumes."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechssl.data.cuts import open_corpus
from speechssl.data.prepare import prepare
from speechssl.errors import UserError
from speechssl.extract import run, writer
from speechssl.extract.index import ExtractedFeatures
from speechssl.hub import load_upstream
from speechssl.testing import speech_like

SETTINGS = {
    "split": "all",
    "layers": None,
    "pooling": "none",
    "format": "safetensors",
    "dtype": "float32",
    "device": "cpu",
    "max_seconds": 4.0,
    "num_workers": 0,
}
LENGTHS = [8000, 16000, 5000, 30000, 12000, 9000, 4000, 20000, 7000, 11000, 6000, 15000]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder of twelve short recordings, one of them unreadable."""
    folder = tmp_path_factory.mktemp("audio")
    for number, waveform in enumerate(speech_like(LENGTHS)):
        soundfile.write(folder / f"clip {number:02d}.wav", waveform.numpy(), 16000)
    (folder / "broken.wav").write_bytes(b"RIFF")
    return prepare("folder", folder, tmp_path_factory.mktemp("prepared") / "corpus", progress=False)


@pytest.mark.parametrize("form", ["safetensors", "npy"])
@pytest.mark.parametrize("upstream", ["tera/debug@random", "fbank_no_cmvn"])
def test_disk_equals_memory(corpus: Path, tmp_path: Path, form: str, upstream: str) -> None:
    summary = run.extract(upstream, str(corpus), str(tmp_path / "out"), **SETTINGS | {"format": form})
    features = ExtractedFeatures(tmp_path / "out")
    assert len(features) == summary["utterances"] == len(LENGTHS)
    model = load_upstream(upstream)
    opened = open_corpus(corpus)
    for split in opened.splits:
        table = opened.table(split)
        for i, name in enumerate(table.ids):
            states = torch.stack(model([torch.from_numpy(table.read(i))]).hidden_states, dim=1)[0]
            assert features[name].shape == states.shape
            torch.testing.assert_close(features[name], states, atol=1e-4, rtol=0)
            assert features.frames[name] == states.shape[1]


def test_layers_pooling_and_dtype(corpus: Path, tmp_path: Path) -> None:
    run.extract("tera/debug@random", str(corpus), str(tmp_path / "all"), **SETTINGS)
    chosen = SETTINGS | {"layers": [-1, 0], "pooling": "mean", "dtype": "float16"}
    run.extract("tera/debug@random", str(corpus), str(tmp_path / "few"), **chosen)
    everything, few = ExtractedFeatures(tmp_path / "all"), ExtractedFeatures(tmp_path / "few")
    for name in everything:
        expected = torch.stack([everything[name][-1].mean(0), everything[name][0].mean(0)])
        assert few[name].dtype == torch.float16
        torch.testing.assert_close(few[name].float(), expected, atol=2e-3, rtol=2e-3)


def test_deviations_follow_the_means(corpus: Path, tmp_path: Path) -> None:
    run.extract("fbank", str(corpus), str(tmp_path / "all"), **SETTINGS)
    run.extract("fbank", str(corpus), str(tmp_path / "few"), **SETTINGS | {"pooling": "mean_std"})
    everything, few = ExtractedFeatures(tmp_path / "all"), ExtractedFeatures(tmp_path / "few")
    for name in everything:
        frames = everything[name]
        expected = torch.cat([frames.mean(dim=1), frames.std(dim=1, correction=0)], dim=-1)
        torch.testing.assert_close(few[name], expected, atol=1e-5, rtol=1e-5)


def test_an_interrupted_extraction_makes_only_what_is_missing(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "SHARD_BYTES", 60_000)  # several shards
    run.extract("fbank", str(corpus), str(tmp_path / "whole"), **SETTINGS)
    real, made = writer.write_shard, []

    def die_at_the_third(out: Path, number: int, form: str, encoded: object) -> list:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(number)
        return real(out, number, form, encoded)

    monkeypatch.setattr(writer, "write_shard", die_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        run.extract("fbank", str(corpus), str(tmp_path / "torn"), **SETTINGS)
    with pytest.raises(UserError, match="no finished extraction"):
        ExtractedFeatures(tmp_path / "torn")
    again = []
    monkeypatch.setattr(writer, "write_shard", lambda *a: again.append(a[1]) or real(*a))
    run.extract("fbank", str(corpus), str(tmp_path / "torn"), **SETTINGS)
    assert again
    assert not set(again) & set(made)
    whole, torn = ExtractedFeatures(tmp_path / "whole"), ExtractedFeatures(tmp_path / "torn")
    assert list(whole) == list(torn)
    assert all(torch.equal(whole[name], torn[name]) for name in whole)
    again.clear()
    run.extract("fbank", str(corpus), str(tmp_path / "torn"), **SETTINGS)
    assert not again, "a finished extraction must return at once"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"pooling": "max"}, "pooling='max' is not known"),
        ({"layers": [9]}, "hidden states 0..0"),
        ({"format": "hdf"}, "format='hdf' is not known"),
        ({"dtype": "float23"}, "nearest: 'float32'"),
        ({"dtype": "bfloat16", "format": "npy"}, "npy has no bfloat16"),
    ],
)
def test_wrong_settings(corpus: Path, tmp_path: Path, change: dict, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        run.extract("fbank", str(corpus), str(tmp_path / "out"), **SETTINGS | change)


def test_other_settings_or_foreign_folders_are_refused(corpus: Path, tmp_path: Path) -> None:
    run.extract("fbank", str(corpus), str(tmp_path / "out"), **SETTINGS)
    with pytest.raises(UserError, match="begun with pooling='none', now pooling='mean'"):
        run.extract("fbank", str(corpus), str(tmp_path / "out"), **SETTINGS | {"pooling": "mean"})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="not empty"):
        run.extract("fbank", str(corpus), str(tmp_path / "mine"), **SETTINGS)


def test_unknown_utterance(corpus: Path, tmp_path: Path) -> None:
    run.extract("fbank", str(corpus), str(tmp_path / "out"), **SETTINGS | {"pooling": "mean"})
    with pytest.raises(UserError, match="has no utterance 'nothing'"):
        ExtractedFeatures(tmp_path / "out")["nothing"]


def test_shards_are_consecutive_and_bounded() -> None:
    from speechssl.extract.encode import parts

    class Table:
        num_samples = np.array([16000, 16000, 16000, 160000, 16000, 16000])

    ranges = parts(Table(), 3.0)
    assert [i for part in ranges for i in part] == list(range(6))
    assert [list(part) for part in ranges] == [[0, 1, 2], [3], [4, 5]]
