"""Recognition of corpora that are not English: left out of tasks=all with a reason, run where the task is told so."""

import gzip
import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from speechssl.commands.main import main
from speechssl.data.cuts import Corpus
from speechssl.downstream.asr.task import SpeechRecognition
from speechssl.errors import UserError
from speechssl.probe import plan, runner
from speechssl.probe.rows import read_lines

PROBE = {"standardize": False}


def spoken_in(language: str, letters: Corpus, folder: Path) -> Path:
    """Copy the manifests of a corpus as a prepared one in a language, its T an Ü."""
    folder.mkdir(parents=True)
    for split in letters.splits:
        lines = gzip.decompress(letters.manifests[split].read_bytes()).decode().splitlines()
        cuts = [json.loads(line) for line in lines]
        for cut in cuts:
            own = cut["supervisions"][0]
            own |= {"language": language, "text": own["text"].replace("t", "ü")}
        (folder / f"{split}.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, cuts)).encode()))
    info = {"format": 1, "name": "letters", "view": f"asr-{language}", "fold": "", "fingerprint": language}
    (folder / "corpus.json").write_text(json.dumps(info))
    return folder


def bench(run_dir: Path) -> runner.Bench:
    return runner.Bench(run_dir, SimpleNamespace(check=lambda task, corpus: None))


def test_what_is_not_english_is_left_out_with_a_reason(
    letters: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="speechssl")
    for language in ("de", "en"):
        spoken_in(language, letters, tmp_path / "data" / "asr" / language)
    folders = plan.read_data(str(tmp_path / "data"), plan.read_tasks("asr/debug", PROBE, None, {}))
    assert [Path(folder).name for folder in folders] == ["de", "en"]
    (piece,) = bench(tmp_path / "bench").gather(folders, skip=True)
    assert piece.corpus.view == "asr-en"
    (left_out,) = [r.getMessage() for r in caplog.records if r.name == "speechssl.probe.runner"]
    assert left_out.startswith(f"task asr is left out on {tmp_path}/data/asr/de: speech recognition found no utterance")
    assert "language en, there: de); choose with label= and task.language=" in left_out
    with pytest.raises(UserError, match=r"no task fits .*there: de"):
        bench(tmp_path / "bench").gather({f: p for f, p in folders.items() if f.endswith("de")}, skip=True)
    with pytest.raises(UserError, match="there: de"):
        bench(tmp_path / "bench").gather(folders, skip=False)


def test_the_letters_of_the_corpus_are_another_protocol(letters: Corpus, tmp_path: Path) -> None:
    folder = spoken_in("de", letters, tmp_path / "de")
    (given,) = plan.read_tasks("asr/debug", PROBE, None, {"language": None, "alphabet": "corpus"})
    assert given.protocol == "debug+alphabet=corpus"
    (plain,) = plan.read_tasks("asr/debug", PROBE, None, {"alphabet": "english"})
    assert plain.protocol == "debug"
    (piece,) = bench(tmp_path / "bench").gather({str(folder): [given]}, skip=False)
    assert isinstance(piece.task, SpeechRecognition)
    assert piece.task.alphabet.symbols[4:] == ("|", "A", "E", "Ü")


def test_a_row_and_its_head_know_the_letters(letters: Corpus, toys: dict, tmp_path: Path) -> None:
    folder, out = spoken_in("de", letters, tmp_path / "de"), tmp_path / "bench"
    probe = ("probe.steps=200", "probe.eval_every=50", "probe.lrs=[2e-2]")
    task = ("task.language=null", "task.alphabet=corpus", "task.lstm_size=32", "task.spec_augment=false")
    where = (f"data={folder}", f"run_dir={out}", "device=cpu", "num_workers=0")
    main(["benchmark", "upstream=toy", "tasks=asr/debug", *task, *probe, *where])
    (row,) = read_lines(out / "results.jsonl")
    assert (row["protocol"], row["view"], row["main_metric"]) == ("debug+alphabet=corpus", "asr-de", "wer")
    head = json.loads((out / row["run"] / "export/config.json").read_text())
    assert head["classes"] == ["<s>", "<pad>", "</s>", "<unk>", "|", "A", "E", "Ü"]
    assert row["metrics"]["cer"] < 60.0  # 100 is the empty answer
    found = read_lines(out / row["run"] / "predictions.jsonl")
    assert any("Ü" in record["hypothesis"] for record in found)
