"""QUESST 2014: languages, which documents hold a query, download."""

import hashlib
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechssl import registry
from speechssl.data.corpora import quesst
from speechssl.data.cuts import open_corpus
from speechssl.data.items import Preparation
from speechssl.data.prepare import prepare
from speechssl.errors import UserError

LISTS = {
    "utterances": [
        ("Audio/quesst14_00001.wav", "nnenglish"),
        ("Audio/quesst14_00002.wav", "czech"),
        ("Audio/quesst14_00003.wav", "nnenglish"),
        ("Audio/quesst14_00004.wav", "nnenglish"),
    ],
    "dev": [
        ("dev_queries/quesst14_dev_0001.wav", "nnenglish"),
        ("dev_queries/quesst14_dev_0002.wav", "czech"),
        ("dev_queries/quesst14_dev_0003.wav", "nnenglish"),
    ],
    "eval": [("eval_queries/quesst14_eval_0001.wav", "nnenglish"), ("eval_queries/quesst14_eval_0002.wav", "basque")],
}
TERMS = {
    "dev": """SPKR-INFO quesst14_00001 1 <NA> <NA> <NA> unknown spk <NA>
LEXEME quesst14_00004 1 0.00 7.83 quesst14_dev_0001 lex <NA> <NA>
LEXEME quesst14_00001 1 0.00 5.10 quesst14_dev_0001 lex <NA> <NA>
LEXEME quesst14_00002 1 0.00 5.10 quesst14_dev_0002 lex <NA> <NA>
""",
    "eval": "LEXEME quesst14_00003 1 0.00 5.10 quesst14_eval_0001 lex <NA> <NA>\n",
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small copy with the published layout, at 8 kHz."""
    folder = tmp_path_factory.mktemp("quesst") / "quesst14Database"
    rng = np.random.default_rng(0)
    (folder / "scoring").mkdir(parents=True)
    for name, files in LISTS.items():
        lines = [f"quesst14Database/{path} {language}" for path, language in files]
        (folder / "scoring" / f"language_key_{name}.lst").write_text("\n".join(lines) + "\n")
        for path, _ in files:
            (folder / path).parent.mkdir(exist_ok=True)
            soundfile.write(folder / path, 0.1 * rng.standard_normal(8000), 8000, subtype="PCM_16")
    for name, text in TERMS.items():
        (folder / "scoring" / f"groundtruth_quesst14_{name}").mkdir()
        (folder / "scoring" / f"groundtruth_quesst14_{name}" / f"quesst14_{name}.rttm").write_text(text)
    return folder


@pytest.fixture(scope="module")
def plan(source: Path) -> Preparation:
    return quesst.plan(source)


def test_the_english_part(plan: Preparation) -> None:
    assert {item.id: item.split for item in plan.items} == {
        "quesst14_00001": "train",
        "quesst14_00003": "train",
        "quesst14_00004": "train",
        "quesst14_dev_0001": "dev",
        "quesst14_dev_0003": "dev",
        "quesst14_eval_0001": "test",
    }
    assert {(item.language, item.custom["accent"]) for item in plan.items} == {("en", "non-native")}
    assert plan.coverage["utterances"] == {"found": 3, "published": 3}


def test_queries_and_documents(plan: Preparation) -> None:
    (view,) = plan.views
    documents = ["quesst14_00001", "quesst14_00003", "quesst14_00004"]
    assert view.folder == "qbe"
    assert view.splits == {
        "dev": ["quesst14_dev_0001", "quesst14_dev_0003", *documents],
        "test": ["quesst14_eval_0001", *documents],
    }
    assert view.columns["relevant"] == {
        "quesst14_dev_0001": ["quesst14_00001", "quesst14_00004"],
        "quesst14_dev_0003": [],  # in no document: documents have no entry at all
        "quesst14_eval_0001": ["quesst14_00003"],
    }


def test_other_languages(source: Path) -> None:
    everything = quesst.plan(source, language=None)
    assert len(everything.items) == 9
    assert everything.views[0].columns["relevant"]["quesst14_dev_0002"] == ["quesst14_00002"]
    with pytest.raises(UserError, match=r"no language 'english'; it has albanian, .*nearest: 'nnenglish'"):
        quesst.plan(source, language="english")
    with pytest.raises(UserError, match=r"language_key_utterances.lst names no file of the language basque"):
        quesst.plan(source, language="basque")


def test_prepared(source: Path, tmp_path: Path) -> None:
    out = prepare("quesst", source.parent, tmp_path / "out", progress=False)
    corpus = open_corpus(out / "qbe")
    assert corpus.splits == ["dev", "test"]
    dev = corpus.table("dev")
    relevant = dict(zip(dev.ids, dev.column("relevant"), strict=True))
    assert relevant["quesst14_dev_0003"] == []
    assert relevant["quesst14_00001"] is None
    assert set(dev.num_samples) == {16000}  # a second, from 8 kHz
    registry.module("downstream", "qbe").TASK(corpus).check()
    assert set(corpus.table("test").ids) & set(dev.ids) == {"quesst14_00001", "quesst14_00003", "quesst14_00004"}


def test_missing_files_are_counted_and_left_out(source: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(source, tmp_path / "quesst14Database")
    (copy / "Audio/quesst14_00004.wav").unlink()
    assert quesst.plan(copy).coverage["utterances"] == {"found": 2, "published": 3}
    out = prepare("quesst", copy, tmp_path / "out", progress=False)
    corpus = open_corpus(out / "qbe")
    assert corpus.left_out == {"quesst14_00004"}
    registry.module("downstream", "qbe").TASK(corpus).check()  # though a query names it
    (copy / "scoring/groundtruth_quesst14_eval/quesst14_eval.rttm").unlink()
    with pytest.raises(UserError, match=r"quesst14_eval.rttm cannot be read .*unpack all of QUESST 2014"):
        quesst.plan(copy)
    (copy / "scoring/language_key_dev.lst").write_text("quesst14Database/dev_queries/quesst14_dev_0001.wav\n")
    with pytest.raises(UserError, match=r"language_key_dev.lst, line 1: expected a file and its language"):
        quesst.plan(copy)


def test_a_wrong_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no copy of QUESST 2014; expected the folder quesst14Database"):
        quesst.plan(tmp_path)


def test_without_any_copy_it_is_fetched_once(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "quesst14Database.tgz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(source, "quesst14Database")
    monkeypatch.delenv("SPEECHSSL_DATA", raising=False)
    monkeypatch.setenv("SPEECHSSL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(quesst, "URL", archive.as_uri())
    with pytest.raises(UserError, match=r"has digest .*, expected 4f869e06"):
        quesst.plan()
    monkeypatch.setattr(quesst, "SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())
    assert len(quesst.plan().items) == 6
    archive.unlink()
    assert len(quesst.plan().items) == 6  # now from the cache
