"""A result read back says of the test split what the benchmark said of it."""

import json
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from speechssl import configs, registry
from speechssl.data.cuts import Corpus, open_corpus
from speechssl.deploy.trained import TrainedTask, load_trained
from speechssl.errors import UserError
from speechssl.files import read_json, write_json
from speechssl.hub import load_upstream
from speechssl.probe import result
from speechssl.probe.rows import PREDICTIONS, read_lines

Rows = dict[str, dict[str, Any]]

ANSWERS: dict[str, Callable[[dict], Any]] = {
    "ic": lambda answer: {slot: value["label"] for slot, value in answer["slots"].items()},
    "asr": lambda answer: answer["text"],
    "pr": lambda answer: [one["label"] for one in answer["segments"]],
    "sf": lambda answer: answer["tagged"],
    "ner": lambda answer: answer["tagged"],
    "sd": lambda answer: sorted([one["label"], one["start"], one["end"]] for one in answer["segments"]),
}


def answers(trained: TrainedTask, corpus: Corpus) -> dict[str, dict[str, Any]]:
    """What is said of every utterance of test, three at a time."""
    table = corpus.table("test")
    found: dict[str, dict[str, Any]] = {}
    for first in range(0, len(table), 3):
        part = range(first, min(first + 3, len(table)))
        said = trained.predict([torch.from_numpy(table.read(row)) for row in part])
        found |= zip([table.ids[row] for row in part], said, strict=True)
    return found


def assert_agrees(row: dict[str, Any], trained: TrainedTask) -> None:
    """Assert that answers are the hypotheses of the written predictions."""
    found = answers(trained, open_corpus(row["config"]["data"]))
    records = read_lines(row["folder"] / PREDICTIONS)
    said = ANSWERS.get(row["task"], lambda answer: answer["label"])
    for record in records:
        hypothesis = record["hypothesis"]
        if row["task"] == "pr" and isinstance(hypothesis, str):
            hypothesis = hypothesis.split()
        assert said(found[record["id"]]) == (sorted(hypothesis) if row["task"] == "sd" else hypothesis), record
    assert len({json.dumps(record["hypothesis"]) for record in records}) > 1, "one answer to all tests nothing"


def test_every_task_is_tried(rows: Rows) -> None:
    assert set(rows) == set(registry.names("downstream"))


@pytest.mark.parametrize(
    "task", ["ks", "sid", "er", "lid", "ic", "sentiment", "classify", "asr", "pr", "sf", "ner", "sd"]
)
def test_answers_are_those_of_the_benchmark(rows: Rows, task: str) -> None:
    assert_agrees(rows[task], load_trained(rows[task]["folder"]))


def test_scores_of_several_labels_are_those_of_the_benchmark(rows: Rows, chords: Corpus) -> None:
    trained = load_trained(rows["aec"]["folder"])
    found = answers(trained, chords)
    for record in read_lines(rows["aec"]["folder"] / PREDICTIONS):
        scores = found[record["id"]]["scores"]
        expected = torch.tensor(record["scores"]).sigmoid().tolist()
        assert [scores[name] for name in trained.task.classes] == pytest.approx(expected, abs=1e-5)
        assert found[record["id"]]["labels"] == [name for name, score in scores.items() if score > 0.5]


def test_cosines_of_embeddings_are_the_scores_of_trials(rows: Rows, everything: Corpus) -> None:
    trained = load_trained(rows["asv"]["folder"])
    embeddings = {name: np.array(said["embedding"]) for name, said in answers(trained, everything).items()}
    records = read_lines(rows["asv"]["folder"] / PREDICTIONS)
    for record in records:
        first, second = record["utterances"]
        assert embeddings[first] @ embeddings[second] == pytest.approx(record["hypothesis"], abs=2e-5)
    assert 0.0 < trained.choices["threshold"] <= 1.0


def test_search_gives_the_scores_of_the_benchmark(rows: Rows, everything: Corpus) -> None:
    trained, table = load_trained(rows["qbe"]["folder"]), everything.table("test")
    assert trained.model is None
    queries = [row for row, names in enumerate(table.column("relevant")) if names is not None]
    documents = [row for row in range(len(table)) if row not in queries]
    frames = trained.features([torch.from_numpy(table.read(row)) for row in (*queries, *documents)])
    found = trained.task.search(frames[: len(queries)], frames[len(queries) :], trained.frame_seconds)
    scores = {
        f"{table.ids[query]} {table.ids[document]}": found[column][line]["score"]
        for column, document in enumerate(documents)
        for line, query in enumerate(queries)
    }
    for record in read_lines(rows["qbe"]["folder"] / PREDICTIONS):
        assert scores[record["id"]] == pytest.approx(record["hypothesis"], abs=2e-4)
    with pytest.raises(UserError, match="trains nothing"):
        trained.predict([torch.zeros(16000)])


@pytest.mark.parametrize(
    ("upstream", "settings"),
    [
        ("fbank_no_cmvn", {"probe": {"standardize": True}}),
        ("fbank_no_cmvn", {"task": {"pooling": "mean_std"}, "probe": {"standardize": True}}),
        ("tera/debug@random", {"settings": {"normalization": "corpus"}}),
    ],
    ids=["standardize", "mean_std", "corpus statistics"],
)
def test_variants_of_frozen_heads_agree(bench: Callable, words: Corpus, upstream: str, settings: dict) -> None:
    (row,) = bench(words, ["ks"], upstream, **settings)
    trained = load_trained(row["folder"])
    assert ("statistics" in trained.about) == (upstream != "fbank_no_cmvn")
    assert_agrees(row, trained)


def test_text_with_a_language_model_is_that_of_the_benchmark(
    bench: Callable, everything: Corpus, small_heads: dict, tmp_path: Path
) -> None:
    """Where its files are gone, answers come without it."""
    pytest.importorskip("flashlight.lib.text.decoder")
    words = ["".join(pair) for pair in product("ETA", repeat=2)]
    ones = [f"-1.0\t{word}\t0.0" for word in ("<unk>", "<s>", "</s>", *words)]
    counts = ["\\data\\", f"ngram 1={len(ones)}", "ngram 2=1", ""]
    lines = [*counts, "\\1-grams:", *ones, "", "\\2-grams:", "-0.5\tTA ET", "", "\\end\\", ""]
    model, lexicon = tmp_path / "words.arpa", tmp_path / "words.txt"
    model.write_text("\n".join(lines))
    lexicon.write_text("".join(f"{word} {' '.join(word)} |\n" for word in words))
    heads = small_heads | {"task": small_heads["task"] | {"lm": str(model), "lexicon": str(lexicon)}}
    (row,) = bench(everything, ["asr"], **heads)
    found = answers(load_trained(row["folder"]), everything)
    records = read_lines(row["folder"] / PREDICTIONS)
    assert {record["id"]: found[record["id"]]["text_lm"] for record in records} == {
        record["id"]: record["hypothesis_lm"] for record in records
    }
    assert any(record["hypothesis_lm"] != record["hypothesis"] for record in records)
    model.unlink()
    assert all("text_lm" not in answer for answer in answers(load_trained(row["folder"]), everything).values())


@pytest.fixture(scope="session")
def tuned(bench: Callable, words: Corpus, small_tera: Path) -> dict[str, Any]:
    """A fine-tuned result."""
    made = {"lrs": [2e-3], "steps": 40, "eval_every": 40, "batch_size": 8, "layers": "mix"}
    (row,) = bench(words, ["ks"], str(small_tera), finetune=True, finetuning=full_settings() | made)
    return row


def full_settings() -> dict[str, Any]:
    """All keys of fine-tuning with their defaults."""
    return OmegaConf.to_container(
        configs.compose("benchmark", ["upstream=a", "tasks=b", "data=c", "run_dir=d"]).finetuning
    )


def test_fine_tuned_models_agree_and_need_no_upstream(tuned: dict[str, Any], tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(tuned["folder"], moved)
    assert_agrees(tuned, load_trained(moved))
    with pytest.raises(UserError, match="leave upstream= out"):
        load_trained(moved, upstream="fbank")


def test_a_moved_result_finds_its_upstream_from_anywhere(
    bench: Callable, words: Corpus, small_tera: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upstream was named relative to another working directory; then it moves, and has to be named anew."""
    place, new_place = tmp_path / "mine", tmp_path / "mine-2"
    shutil.copytree(small_tera, place)
    monkeypatch.chdir(tmp_path)
    (row,) = bench(words, ["ks"], "mine")
    moved = tmp_path / "moved"
    shutil.copytree(row["folder"], moved)
    monkeypatch.chdir(moved)
    assert_agrees(row, load_trained(moved))
    place.rename(new_place)
    with pytest.raises(UserError, match=r"cannot be loaded any more .* say where it is now: upstream=NAME"):
        load_trained(moved)
    assert_agrees(row, load_trained(moved, upstream=str(new_place)))
    with pytest.raises(UserError, match="say where the right one is"):
        load_trained(moved, upstream="fbank")


def test_a_published_file_is_found_from_anywhere(
    bench: Callable, words: Corpus, small_tera: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    upstream = load_upstream(str(small_tera))
    registry.module("upstream", "tera").PUBLISHED.write(upstream, tmp_path / "there" / "states.ckpt", None)
    monkeypatch.chdir(tmp_path / "there")
    (row,) = bench(words, ["ks"], "tera:states.ckpt")
    monkeypatch.chdir(tmp_path)
    assert_agrees(row, load_trained(row["folder"]))


def test_a_model_folder_of_another_library_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is called like the library, or like one of its models, is none."""
    monkeypatch.chdir(tmp_path)
    for name in ("hf", "fbank", "models/mine"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "models" / "mine" / "config.json").write_text("{}")
    assert result._from_anywhere("hf:models/mine") == f"hf:{tmp_path}/models/mine"
    assert result._from_anywhere("hf:models/other") == ""
    assert result._from_anywhere("s3prl:fbank") == ""


def test_results_are_found_by_folder_export_and_row(rows: Rows) -> None:
    row = rows["ks"]
    run_dir = Path(str(row["folder"]).removesuffix(row["run"]))
    for name in (row["folder"], row["folder"] / "export", f"{run_dir}/results.jsonl:{row['settings']}"):
        assert load_trained(name).task.name == "ks"
    with pytest.raises(UserError, match="results that can be used; choose one"):
        load_trained(run_dir)
    for name in (run_dir, Path(run_dir) / "fbank_no_cmvn", "nowhere"):
        with pytest.raises(UserError, match=r"choose one|holds no result"):
            load_trained(name)
    assert load_trained(row["folder"].parent).task.name == "ks"  # the only result of its task
    assert load_trained(run_dir_of(rows["aec"])).task.name == "aec"


def run_dir_of(row: dict[str, Any]) -> str:
    return str(row["folder"]).removesuffix(row["run"])


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda export: _forget(export, "facts"), "earlier version"),
        (lambda export: (export / "model.safetensors").write_bytes(b"x"), "not a readable safetensors"),
        (lambda export: (export / "config.json").write_text("{"), "not valid JSON"),
        (lambda export: (export / "model.safetensors").unlink(), "do not exist"),
        (lambda export: shutil.rmtree(export), "holds no result"),
    ],
    ids=["old", "damaged weights", "damaged config", "no weights", "no export"],
)
def test_broken_exports_are_one_clear_error(rows: Rows, tmp_path: Path, harm: Callable, message: str) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(rows["ks"]["folder"], folder)
    harm(folder / "export")
    with pytest.raises(UserError, match=message):
        load_trained(folder)


def _forget(export: Path, name: str) -> None:
    about = read_json(export / "config.json")
    del about[name]
    write_json(export / "config.json", about)


def test_there_is_no_such_device(rows: Rows) -> None:
    with pytest.raises(UserError, match="device=abacus cannot be used"):
        load_trained(rows["ks"]["folder"]).to("abacus")
