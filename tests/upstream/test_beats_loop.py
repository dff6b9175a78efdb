"""The iterations as one command: what it leaves, killing it in every stage, extending it, teachers, mismatches."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import speechssl
from speechssl.commands.main import dispatch
from speechssl.data.cuts import open_corpus
from speechssl.data.labels import StoredLabels
from speechssl.data.prepare import prepare
from speechssl.errors import UserError
from speechssl.files import read_json
from speechssl.train.logging import read_metrics
from speechssl.train.stages import read_lineage
from speechssl.upstream.beats import PUBLISHED

COMMON = ["pretrain", "upstream=beats/debug", "upstream.mean=null", "upstream.std=null", "task.num_codes=8"]
COMMON += ["task.code_size=6", "task.predictor_layers=1", "task.estimator_layers=1", "task.initial_vectors=500"]
COMMON += ["trainer.max_steps=10", "trainer.save_every=2", "trainer.log_every=1", "trainer.eval_every=0"]
COMMON += ["trainer.max_seconds=4", "trainer.crop_seconds=0.7", "trainer.num_threads=1", "trainer.num_workers=0"]
STAGES = ["01-tokenizer-1", "02-encoder-1", "03-tokenizer-2", "04-labels-2", "05-encoder-2"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty tones in noise, 0.1 to 1.4 s long: some too short for a patch, some longer than a crop."""
    root = tmp_path_factory.mktemp("corpus")
    random = np.random.default_rng(0)
    for i in range(40):
        samples = int(random.integers(1600, 22400))
        moments = np.arange(samples) / 16000
        tone = np.sin(2 * np.pi * random.uniform(100, 3000) * moments) * random.uniform(0.05, 0.3)
        path = root / "audio" / f"speaker{i % 4}" / f"{i:02d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone + 0.01 * random.standard_normal(samples), 16000)
    prepare("folder", root / "audio", root / "prepared")
    return root / "prepared"


def command(corpus: Path, run_dir: Path, *more: str) -> list[str]:
    return [*COMMON, f"data={corpus}", f"run_dir={run_dir}", *more]


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    dispatch(command(corpus, run_dir, "iterations=2"))
    return run_dir


def outputs(run_dir: Path) -> dict[str, bytes]:
    files = [*run_dir.glob("stages/*/export/*.safetensors"), *run_dir.glob("stages/*/labels/*/*")]
    return {str(path.relative_to(run_dir)): path.read_bytes() for path in files}


def test_every_stage_leaves_its_part(trained: Path) -> None:
    assert sorted(path.name for path in (trained / "stages").iterdir()) == STAGES
    encoder = speechssl.load_upstream(str(trained))
    first = speechssl.load_upstream(str(trained / "stages" / "02-encoder-1" / "export"))
    assert encoder.width == first.width == 48
    assert not torch.equal(encoder.embedding.weight, first.embedding.weight), "every encoder starts anew"
    tokenizer = speechssl.load_tokenizer(str(trained))
    assert tokenizer.kind == "distilled"
    assert speechssl.load_tokenizer(str(trained), stage="tokenizer-1").kind == "random"
    assert speechssl.load_tokenizer(str(trained), stage=3).tokenize([torch.randn(8000)]).shape == (1, 24)


def test_the_lineage_tells_where_everything_comes_from(trained: Path, corpus: Path) -> None:
    content = read_json(trained / "lineage.json")
    assert content["data_fingerprint"] == open_corpus(corpus).fingerprint
    assert content["config"]["iterations"] == 2
    stages = {entry["name"]: entry for entry in read_lineage(trained)}
    assert list(stages) == [name.partition("-")[2] for name in STAGES]
    known = {entry["sha256"] for entry in stages.values()}
    for name, parent in (("encoder-1", "tokenizer-1"), ("tokenizer-2", "encoder-1"), ("encoder-2", "labels-2")):
        assert [(found["name"], found["sha256"]) for found in stages[name]["parents"]] == [
            (parent, stages[parent]["sha256"])
        ]
    assert len(known) == 5
    assert all(entry["facts"]["labels_seen"] is False for entry in stages.values())
    statistics = [entry["facts"]["statistics"] for entry in stages.values()]
    assert all(found == statistics[0] for found in statistics)
    assert all(entry["settings"]["data"]["fingerprint"] == content["data_fingerprint"] for entry in stages.values())
    assert stages["tokenizer-2"]["facts"]["teacher"]["sha256"] == stages["encoder-1"]["sha256"]
    assert 1 <= stages["labels-2"]["facts"]["codebook"]["perplexity"] <= 8
    assert {"dev_accuracy", "effective_rank"} <= stages["encoder-2"]["facts"].keys()
    training = read_json(trained / "stages" / "05-encoder-2" / "export" / "config.json")["training"]
    assert training["labels_seen"] is False


def test_stored_labels_are_those_of_the_tokenizer(trained: Path, corpus: Path) -> None:
    labels = StoredLabels(trained / "stages" / "04-labels-2" / "labels")
    tokenizer, table = speechssl.load_tokenizer(str(trained)), open_corpus(corpus).table("train")
    assert labels.tokenizer_sha256 == read_lineage(trained)[2]["sha256"]
    for index in range(0, len(table), 5):
        waveform = torch.from_numpy(table.read(index))
        if len(waveform) >= 2800:
            alone = tokenizer.tokenize([waveform])
            assert torch.equal(labels.rows([table.ids[index]], [0], [alone.shape[1]]), alone)


def test_killed_in_every_stage_it_ends_the_same(trained: Path, corpus: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "killed"
    program = [sys.executable, "-m", "speechssl.commands.main", *command(corpus, run_dir, "iterations=2")]
    for name in ("02-encoder-1", "03-tokenizer-2", "05-encoder-2"):
        process = subprocess.Popen(program, stderr=subprocess.DEVNULL)
        folder = run_dir / "stages" / name
        while process.poll() is None and sum(row["split"] == "train" for row in read_metrics(folder)) < 5:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (folder / "stage.json").exists(), "the process was too fast to be killed"
    dispatch(program[3:])
    assert outputs(run_dir) == outputs(trained)
    ours, whole = (read_lineage(path) for path in (run_dir, trained))
    assert [entry["sha256"] for entry in ours] == [entry["sha256"] for entry in whole]


def test_a_finished_run_is_left_alone_and_can_be_extended(trained: Path, corpus: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    dispatch(command(corpus, run_dir, "iterations=1"))
    times = {path: path.stat().st_mtime_ns for path in run_dir.glob("stages/**/*.safetensors")}
    dispatch(command(corpus, run_dir, "iterations=1"))
    assert times == {path: path.stat().st_mtime_ns for path in run_dir.glob("stages/**/*.safetensors")}
    dispatch(command(corpus, run_dir, "iterations=2"))
    assert outputs(run_dir) == outputs(trained)


def test_other_settings_and_swapped_files_are_refused(trained: Path, corpus: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(trained, run_dir)
    with pytest.raises(UserError, match=r"task.mask_ratio was 0.75, is 0.5"):
        dispatch(command(corpus, run_dir, "iterations=2", "task.mask_ratio=0.5"))
    with pytest.raises(UserError, match="num_codes was 8, is 9"):
        dispatch(command(corpus, run_dir, "iterations=2", "task.num_codes=9"))
    folder = run_dir / "stages" / "03-tokenizer-2"
    shutil.copy(run_dir / "stages/01-tokenizer-1/export/tokenizer.safetensors", folder / "export")
    with pytest.raises(UserError, match="03-tokenizer-2 holds is not what it was"):
        dispatch(command(corpus, run_dir, "iterations=2"))


def test_labels_of_another_tokenizer_are_refused(trained: Path, corpus: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(trained, run_dir)
    record = run_dir / "stages" / "04-labels-2" / "stage.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"parents": {"tokenizer-2": "another"}}))
    with pytest.raises(UserError, match="04-labels-2 was made from another tokenizer-2"):
        dispatch(command(corpus, run_dir, "iterations=2"))


def test_an_unfinished_encoder_does_not_go_on_with_other_labels(trained: Path, corpus: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(trained, run_dir)
    (run_dir / "stages" / "05-encoder-2" / "stage.json").unlink()  # as if it had been interrupted
    for name in ("03-tokenizer-2", "04-labels-2"):
        shutil.rmtree(run_dir / "stages" / name)
    with pytest.raises(UserError, match=r"05-encoder-2 holds a run with other settings: parents.labels-2 was"):
        dispatch(command(corpus, run_dir, "iterations=2", "task.beta=5"))


def test_a_teacher_takes_the_place_of_the_first_tokenizer(trained: Path, corpus: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "third"
    dispatch(command(corpus, run_dir, f"teacher={trained}", "task.store_labels=false"))
    names = [entry["name"] for entry in read_lineage(run_dir)]
    assert names == ["tokenizer-1", "encoder-1"], "labels are computed on the fly"
    facts = read_lineage(run_dir)[0]["facts"]
    assert facts["teacher"]["name"] == str(trained)
    assert facts["labels_seen"] is False
    with pytest.raises(UserError, match="was made for spectrograms with mean and std"):
        dispatch(command(corpus, tmp_path / "other", f"teacher={trained}", "upstream.mean=1.0", "upstream.std=2.0"))


def test_a_teacher_that_has_seen_labels_marks_all_that_follow(corpus: Path, tmp_path: Path) -> None:
    common = command(corpus, tmp_path / "run", "iterations=2", "trainer.max_steps=2", "task.target=patch_logits")
    published = tmp_path / "finetuned.pt"
    upstream = speechssl.load_upstream("beats/debug@random", num_classes=5)
    PUBLISHED.write(upstream, published)
    dispatch([*common, f"teacher=beats:{published}", "upstream.mean=15.41663", "upstream.std=6.55582"])
    stages = read_lineage(tmp_path / "run")
    assert [entry["facts"]["labels_seen"] for entry in stages] == [True] * 6
    assert stages[0]["facts"]["teacher"]["target"] == "patch_logits"
    assert stages[3]["facts"]["teacher"]["target"] == "hidden"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["iterations=0"], "at least 1, found 0"),
        (["iterations=two"], "a whole number, found 'two'"),
        (["task.tokenizer=kmean"], "unknown first tokenizer 'kmean'; known: random, kmeans; nearest: 'kmeans'"),
        (["task.num_code=3"], "no setting 'num_code'"),
        (["teacher=nowhere"], "nowhere"),
        (["trainer.crop_seconds=0.1"], "shorter than the 0.175 s that beats needs"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_wrong_settings_are_one_clear_line(corpus: Path, tmp_path: Path, more: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        dispatch(command(corpus, tmp_path / "run", *more))


def test_one_stage_families_know_no_iterations(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pretraining of tera has no setting 'iterations'"):
        dispatch(["pretrain", "upstream=tera/debug", f"data={corpus}", f"run_dir={tmp_path}", "iterations=2"])


def test_kmeans_begins_with_clusters_of_patches(corpus: Path, tmp_path: Path) -> None:
    dispatch(command(corpus, tmp_path / "run", "task.tokenizer=kmeans", "trainer.max_steps=0"))
    tokenizer = speechssl.load_tokenizer(str(tmp_path / "run"))
    assert (tokenizer.kind, tokenizer.num_codes) == ("kmeans", 8)
    first = read_lineage(tmp_path / "run")[0]["facts"]
    assert first["codebook"]["used"] == 8
