"""Wrong labels and lists: `speechssl benchmark` ends with one line and status 2 before an upstream is even loaded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from speechssl.commands.main import main
from speechssl.data.cuts import Corpus

pytestmark = pytest.mark.usefixtures("undrawn")
Change = Callable[[dict, dict], None]


def unknown_speaker(supervision: dict, custom: dict) -> None:
    supervision["speaker"] = "eve"


def drop(column: str) -> Change:
    return lambda supervision, custom: custom.pop(column)


def put(column: str, value: Any) -> Change:
    return lambda supervision, custom: custom.__setitem__(column, value)


REFUSED: dict[str, tuple[str, str, Change | None, list[str], list[str]]] = {  # task, split, change, keys, said
    "a lexicon that is not there": ("pr", "test", None, ["task.lexicon=nowhere.txt"], ["nowhere.txt"]),
    "a lexicon without a model": ("asr", "test", None, ["task.lexicon=nowhere.txt"], ["task.lm"]),
    "a language model that is not there": (
        "asr",
        "test",
        None,
        ["task.lm=nowhere.arpa", "task.lexicon=words.txt"],
        ["nowhere.arpa"],
    ),
    "a keyword only in dev": ("ks", "dev", put("keyword", "never"), [], ["dev of", "never"]),
    "a keyword only in test": ("ks", "test", put("keyword", "never"), [], ["test of", "never"]),
    "a keyword without a name": ("ks", "train", put("keyword", ""), [], ["is empty"]),
    "an emotion only in test": ("er", "test", put("emotion", "ang"), [], ["test of", "ang"]),
    "a slot value only in test": ("ic", "test", put("intent", {"first": "Q", "last": "A"}), [], ["first=Q"]),
    "a slot only in test": ("sf", "test", put("slots", [["when", 0, 1]]), [], ["when", "task.unseen=count"]),
    "an entity only in dev": ("ner", "dev", put("entities", [["DATE", 0, 1]]), [], ["DATE", "task.unseen=count"]),
    "a speaker only in test": ("sid", "test", unknown_speaker, [], ["test of", "eve"]),
    "a trial of an absent utterance": ("asv", "test", put("trials", [["gone", 0]]), [], ["gone"]),
    "a query for an absent document": ("qbe", "test", put("relevant", ["gone"]), [], ["gone"]),
    "speech after the end of a recording": ("sd", "train", put("activity", [["a", 0.0, 99.0]]), [], ["99.0"]),
    "a phone that is none": ("pr", "dev", put("phones", ["XX"]), [], ["XX"]),
}


def refused(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    """Return the one line that a benchmark stops with."""
    with pytest.raises(SystemExit) as stopped:
        main(["benchmark", "upstream=toy", *arguments])
    said = capsys.readouterr().err.strip()
    assert stopped.value.code == 2
    assert said.startswith("speechssl: error: ")
    assert "\n" not in said
    return said


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_would_fail_later_stops_at_once(
    everything: Corpus, toys: dict, edited: Callable, tmp_path: Path, capsys: pytest.CaptureFixture, case: str
) -> None:
    task, split, change, given, expected = REFUSED[case]
    data = everything.path if change is None else edited(everything, split, change)
    said = refused(capsys, f"tasks={task}/debug", f"data={data}", f"run_dir={tmp_path / 'bench'}", *given)
    assert all(part in said for part in expected), said
    assert not toys  # nothing was loaded, so nothing was encoded
    assert not (tmp_path / "bench" / "cache").exists()


def test_a_missing_lexicon_stops_at_once(
    letters: Corpus, toys: dict, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    said = refused(capsys, "tasks=pr/debug", f"data={letters.path}", f"run_dir={tmp_path / 'bench'}")
    assert "a pronunciation lexicon: task.lexicon=FILE" in said
    assert not toys


def test_a_trial_list_that_names_absent_files_stops_at_once(
    everything: Corpus, toys: dict, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "list.txt").write_text("1 test-0 test-4\n0 test-0 id10001/abc/00001.wav\n")
    given = [f"data={everything.path}", f"run_dir={tmp_path / 'bench'}"]
    said = refused(capsys, "tasks=asv/debug", *given, f"task.trials={{test: {tmp_path / 'list.txt'}}}")
    assert "1 utterances that are not there, such as id10001/abc/00001.wav" in said
    said = refused(capsys, "tasks=asv/debug", *given, f"task.trials={{test: {tmp_path / 'none.txt'}}}")
    assert "none.txt cannot be read" in said
    assert not toys


def test_one_task_of_several_stops_all_of_them(
    everything: Corpus, toys: dict, edited: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Hours of the first task must not be spent before the second one is looked at."""
    data = edited(everything, "test", unknown_speaker)
    said = refused(capsys, "tasks=[ks/debug,sid/debug]", f"data={data}", f"run_dir={tmp_path / 'bench'}")
    assert "eve" in said
    assert not toys


def test_unseen_classes_can_be_let_pass(everything: Corpus, toys: dict, edited: Callable, tmp_path: Path) -> None:
    data = edited(everything, "test", unknown_speaker)
    short = ["probe.steps=2", "probe.eval_every=1", "probe.allow_unseen=true"]
    main(["benchmark", "upstream=toy", "tasks=sid/debug", f"data={data}", f"run_dir={tmp_path / 'bench'}", *short])
    assert (tmp_path / "bench" / "results.jsonl").is_file()
