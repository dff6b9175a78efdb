import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from speechssl.audio import LogMel
from speechssl.data import statistics as statistics_module
from speechssl.data.cuts import Corpus, open_corpus
from speechssl.data.prepare import prepare
from speechssl.data.statistics import corpus_statistics, hashed_subset
from speechssl.errors import UserError


class Powers(nn.Module):
    """Frames of 160 samples and, per frame, three numbers that numpy computes as easily."""

    key = "powers-3"

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def unnormalized(self, waveforms: Tensor, lengths: Tensor, rms: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.calls += 1
        frames = waveforms[:, : waveforms.shape[1] // 160 * 160].unflatten(1, (-1, 160))
        level = rms[:, None].expand(frames.shape[:2])
        return torch.stack([frames.square().mean(2), 1e4 + frames.mean(2), level], 2), lengths // 160


@pytest.fixture
def corpus(audio_tree: Callable[..., Path], tmp_path: Path) -> Corpus:
    return open_corpus(prepare("folder", audio_tree(14), tmp_path / "out", progress=False))


def by_hand(corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
    table, rows = corpus.table("train"), []
    for i in range(len(table)):
        samples = table.read(i).astype(np.float64)
        frames = samples[: len(samples) // 160 * 160].reshape(-1, 160)
        level = np.full(len(frames), table.rms(i))
        rows.append(np.stack([(frames**2).mean(1), 1e4 + frames.mean(1), level], 1))
    return np.concatenate(rows).mean(0), np.concatenate(rows).std(0)


def test_mean_and_std_are_those_of_all_valid_frames(corpus: Corpus) -> None:
    mean, std = corpus.statistics(Powers())
    expected_mean, expected_std = by_hand(corpus)
    assert mean.dtype == std.dtype == torch.float64
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-6)
    np.testing.assert_allclose(std[[0, 2]], expected_std[[0, 2]], rtol=1e-5)
    assert std[1] == pytest.approx(expected_std[1], rel=0.2)  # float32 features around 10 000 hold no more


def test_computed_once_and_other_keys_are_kept(corpus: Corpus) -> None:
    first, other = Powers(), Powers()
    other.key = "other"
    mean, _ = corpus.statistics(first)
    before = json.loads((corpus.path / "corpus.json").read_text())
    corpus.statistics(other)
    assert first.calls > 0
    again = Powers()
    stored, _ = open_corpus(corpus.path).statistics(again)
    assert again.calls == 0
    assert torch.equal(stored, mean)
    after = json.loads((corpus.path / "corpus.json").read_text())
    assert set(after["statistics"]) == {"powers-3", "other"}
    assert after["statistics"]["powers-3"] == before["statistics"]["powers-3"]
    assert {k: v for k, v in after.items() if k != "statistics"} == {
        k: v for k, v in before.items() if k != "statistics"
    }


def test_a_bare_manifest_has_a_side_file_that_notices_changes(corpus: Corpus) -> None:
    (corpus.path / "corpus.json").rename(corpus.path / "gone.json")
    path = corpus.path / "train.jsonl.gz"
    bare, frontend = open_corpus(path), Powers()
    np.testing.assert_allclose(bare.statistics(frontend)[0], by_hand(corpus)[0], rtol=1e-6)
    assert (corpus.path / "train.statistics.json").is_file()
    calls = frontend.calls
    open_corpus(path).statistics(frontend)
    assert frontend.calls == calls
    (corpus.path / "dev.jsonl.gz").replace(path)  # another manifest under the same name
    open_corpus(path).statistics(frontend)
    assert frontend.calls > calls


def test_a_folder_that_cannot_be_written_only_costs_time(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path, value: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(statistics_module, "write_json", refuse)
    corpus.statistics(Powers())
    assert "cannot be written (Permission denied)" in caplog.text


def test_the_subset_is_bounded_and_independent_of_order(corpus: Corpus) -> None:
    table = corpus.table("train")
    hours = float(table.num_samples.sum()) / 16000 / 3600
    some = hashed_subset(table, hours / 2)
    assert 0 < len(some) < len(table)
    assert table.num_samples[some].sum() / 16000 / 3600 <= hours / 2
    backwards = table.select(np.arange(len(table))[::-1])
    assert [backwards.ids[i] for i in hashed_subset(backwards, hours / 2)] == [table.ids[i] for i in some]
    assert len(hashed_subset(table, 1e-9)) == 1
    assert corpus_statistics(table, Powers(), hours / 2)["utterances"] == len(some)


def test_our_frontend(corpus: Corpus) -> None:
    frontend = LogMel(normalization="corpus")
    mean, std = corpus.statistics(frontend)
    frontend.set_statistics(mean, std)
    table = corpus.table("train")
    waveforms, lengths = zip(
        *((torch.from_numpy(table.read(i)), int(table.num_samples[i])) for i in range(len(table))),
        strict=True,
    )
    rms = torch.tensor([table.rms(i) for i in range(len(table))])
    features, frames = frontend(
        nn.utils.rnn.pad_sequence(list(waveforms), batch_first=True), torch.tensor(lengths), rms
    )
    valid = torch.cat([f[:n] for f, n in zip(features, frames, strict=True)])
    torch.testing.assert_close(valid.mean(0), torch.zeros(80), atol=1e-4, rtol=0)
    torch.testing.assert_close(valid.std(0, unbiased=False), torch.ones(80), atol=1e-4, rtol=0)


def test_nothing_readable_is_one_line(corpus: Corpus) -> None:
    corpus.table("train")
    for path in (corpus.path / "audio").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="not one of"):
        corpus_statistics(corpus.table("train"), Powers())


def test_without_a_train_split_dev_stands_in_and_test_never_does(corpus: Corpus, tmp_path: Path) -> None:
    content = (corpus.path / "train.jsonl.gz").read_bytes()
    expected, _ = by_hand(corpus)
    for name, splits in (("search", ("dev", "test")), ("nothing", ("test",))):
        folder = corpus.path / name  # as a view: sources are named relative to the corpus
        folder.mkdir()
        for split in splits:
            text = gzip.decompress(content).decode().replace('"source": "audio/', '"source": "../audio/')
            (folder / f"{split}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    mean, _ = open_corpus(corpus.path / "search").statistics(Powers())
    np.testing.assert_allclose(mean.numpy(), expected, rtol=1e-5)
    with pytest.raises(UserError, match="neither a train nor a dev split"):
        open_corpus(corpus.path / "nothing").statistics(Powers())
