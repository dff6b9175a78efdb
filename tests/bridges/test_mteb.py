"""Encoders for MTEB: its protocol written out; and its own evaluation of a small task where the package is there."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from speechssl import testing
from speechssl.audio.resampling import resample
from speechssl.bridges.mteb import MtebEncoder
from speechssl.errors import UserError
from speechssl.hub import load_upstream

LENGTHS = [16000, 12345, 8000, 801]
WAVEFORMS = [w.numpy() for w in testing.speech_like(LENGTHS)]


def rows(waveforms: list[np.ndarray], rate: int = 16000) -> list[dict]:
    return [{"audio": {"array": w, "sampling_rate": rate}, "label": n % 2} for n, w in enumerate(waveforms)]


def encoded(encoder: MtebEncoder, recordings: list[dict], batch_size: int = 3) -> np.ndarray:
    """What MTEB calls, with its keywords."""
    inputs = DataLoader(recordings, batch_size=batch_size, collate_fn=list)
    context = {"task_metadata": None, "hf_split": "test", "hf_subset": "default", "prompt_type": None}
    return encoder.encode(inputs, **context, batch_size=batch_size, show_progress_bar=False)


@torch.no_grad()
def test_one_vector_per_recording(run_directories: dict[str, Path]) -> None:
    for name in ("fbank", *map(str, run_directories.values())):
        encoder, upstream = MtebEncoder(name, device="cpu"), load_upstream(name)
        found = encoded(encoder, rows(WAVEFORMS))
        assert (found.dtype, found.shape) == (np.float32, (4, upstream.hidden_size))
        for vector, waveform in zip(found, WAVEFORMS, strict=True):
            alone = upstream([torch.from_numpy(waveform)])
            expected = alone.hidden_states[-1][0, : int(alone.lengths[0])].mean(0)
            torch.testing.assert_close(torch.from_numpy(vector), expected, rtol=0, atol=1e-4)


def test_layers(run_dir: Path) -> None:
    first, last, mean = (encoded(MtebEncoder(str(run_dir), layer=layer), rows(WAVEFORMS)) for layer in (0, -1, "mean"))
    middle = encoded(MtebEncoder(str(run_dir), layer=1), rows(WAVEFORMS))
    np.testing.assert_allclose(mean, (first + middle + last) / 3, atol=1e-5)
    with pytest.raises(UserError, match="expected a layer from 0 to 2"):
        MtebEncoder(str(run_dir), layer=7)


def test_recordings_of_any_kind(run_dir: Path) -> None:
    encoder = MtebEncoder(str(run_dir), device="cpu")
    slow = [resample(w, 16000, 8000).astype(np.float64) for w in WAVEFORMS[:2]]
    found, again = encoded(encoder, rows(slow, 8000)), [resample(w.astype(np.float32), 8000, 16000) for w in slow]
    np.testing.assert_allclose(found, encoded(encoder, rows(again)), atol=1e-5)
    stereo = [np.stack([w + 0.01, w - 0.01]) for w in WAVEFORMS]
    np.testing.assert_allclose(encoded(encoder, rows(stereo)), encoded(encoder, rows(WAVEFORMS)), atol=1e-3)
    with pytest.raises(UserError, match="expected recordings in the column 'audio', found the columns text"):
        encoded(encoder, [{"text": "one"}])


def test_similarity() -> None:
    encoder = MtebEncoder("fbank_no_cmvn", device="cpu")
    a, b = np.array([[1.0, 0.0], [3.0, 4.0]]), np.array([[2.0, 0.0], [0.0, 5.0]])
    torch.testing.assert_close(encoder.similarity(a, b), torch.tensor([[1.0, 0.0], [0.6, 0.8]]))
    torch.testing.assert_close(encoder.similarity_pairwise(a, b), torch.tensor([1.0, 0.8]))


def test_the_benchmark_evaluates_it(run_dir: Path, tmp_path: Path) -> None:
    """MTEB's own classification of its own kind of data set, with files of results."""
    mteb = pytest.importorskip("mteb", reason="the package mteb is not installed")
    datasets = pytest.importorskip("datasets")
    from mteb.abstasks.classification import AbsTaskClassification
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models import EncoderProtocol

    class Pitches(AbsTaskClassification):
        metadata = TaskMetadata(
            name="Pitches",
            description="High or low.",
            dataset={"path": "none/none", "revision": "1"},
            type="AudioClassification",
            category="a2c",
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="accuracy",
            modalities=["audio"],
        )
        input_column_name, label_column_name, samples_per_label, n_experiments = "audio", "label", 4, 1

        def load_data(self, **settings: object) -> None:
            time = np.arange(8000) / 16000
            tones = [np.sin(2 * np.pi * (200 + 1500 * (n % 2) + 5 * n) * time).astype(np.float32) for n in range(16)]
            split = datasets.Dataset.from_list(rows(tones))
            self.dataset = datasets.DatasetDict(train=split, test=split)
            self.data_loaded = True

    encoder = MtebEncoder(str(run_dir), device="cpu", label="me/tera")
    assert isinstance(encoder, EncoderProtocol)
    cache = mteb.ResultCache(tmp_path)
    result = mteb.evaluate(encoder, Pitches(), cache=cache, co2_tracker=False, show_progress_bar=False)
    assert result.task_results[0].get_score() == 1.0
    assert result.model_name == "me/tera"
    assert list(tmp_path.rglob("Pitches.json"))
    assert encoder.mteb_model_meta.revision == encoder.sha256[:16]
    with pytest.raises(UserError, match="MTEB is missing"):
        _without_mteb(MtebEncoder("fbank"))


def _without_mteb(encoder: MtebEncoder) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "mteb.models", None)
        _ = encoder.mteb_model_meta
