"""Stored labels: what is written is read, crops of it too, and nothing that does not fit is handed out."""

import json
from pathlib import Path

import numpy as np
import pytest

from speechssl.data.labels import StoredLabels, finish, has_shard, label_type, write_shard
from speechssl.errors import UserError


def stored(folder: Path, num_codes: int = 300) -> StoredLabels:
    write_shard(folder / "train", 0, {"a": np.arange(16), "short": np.zeros(0, np.int64)}, num_codes)
    write_shard(folder / "train", 1, {"b": np.array([299, 0, 7, 7])}, num_codes)
    write_shard(folder / "dev", 0, {"c": np.array([5])}, num_codes)
    header = {"tokenizer_sha256": "t", "num_codes": num_codes, "mask_rule": "exact"}
    finish(folder, header, {"train": 2, "dev": 1})
    return StoredLabels(folder)


def test_rows_are_parts_of_what_was_written(tmp_path: Path) -> None:
    labels = stored(tmp_path)
    assert len(labels) == 4
    rows = labels.rows(["b", "a", "short"], [1, 8, 0], [2, 4, 0])
    assert rows.tolist() == [[0, 7, -1, -1], [8, 9, 10, 11], [-1, -1, -1, -1]]
    assert (labels.num_codes, labels.tokenizer_sha256) == (300, "t")


def test_codes_take_as_few_bytes_as_they_can(tmp_path: Path) -> None:
    assert [label_type(n).itemsize for n in (256, 257, 65536, 65537)] == [1, 2, 2, 4]
    stored(tmp_path)
    assert np.load(tmp_path / "train" / "00000.npy").dtype == np.uint16


def test_histogram_counts_all_splits(tmp_path: Path) -> None:
    histogram = stored(tmp_path).histogram()
    assert histogram.sum() == 21
    assert histogram[[0, 5, 7, 299, 20]].tolist() == [2, 2, 3, 1, 0]


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    labels = stored(tmp_path)
    with pytest.raises(UserError, match="no labels of d"):
        labels.rows(["d"], [0], [1])
    with pytest.raises(UserError, match="has 4 labels of b, expected 5"):
        labels.rows(["b"], [1], [4])


def test_unfinished_damaged_and_newer_folders_are_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "half" / "train", 0, {"a": np.arange(3)}, 10)
    assert has_shard(tmp_path / "half" / "train", 0)
    assert not has_shard(tmp_path / "half" / "train", 1)
    with pytest.raises(UserError, match="does not exist"):
        StoredLabels(tmp_path / "half")
    stored(tmp_path / "cut")
    np.save(tmp_path / "cut" / "train" / "00001.npy", np.zeros(3, np.uint16))
    with pytest.raises(UserError, match="holds 3 labels, its index 4"):
        StoredLabels(tmp_path / "cut")
    stored(tmp_path / "other")
    header = json.loads((tmp_path / "other" / "labels.json").read_text())
    (tmp_path / "other" / "labels.json").write_text(json.dumps(header | {"tokenizer_sha256": "u"}))
    with pytest.raises(UserError, match="not what was written"):
        StoredLabels(tmp_path / "other")
    (tmp_path / "other" / "labels.json").write_text(json.dumps(header | {"format": 99}))
    with pytest.raises(UserError, match="upgrade speechssl"):
        StoredLabels(tmp_path / "other")
