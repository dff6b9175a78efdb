import gzip
from pathlib import Path

import pytest

from speechssl import registry
from speechssl.data.cuts import Corpus, open_corpus
from speechssl.errors import UserError
from speechssl.probe.encoders import EncodingSettings
from speechssl.probe.modes import Finetuned, require_audio, require_splits
from speechssl.probe.plan import finetuning_mode, read_data, read_settings, read_tasks, read_upstreams


def tasks(value: str | list[str], **settings: object) -> list:
    given = {"probe": {"standardize": False}, "label": None, "extra": {}} | settings
    return read_tasks(value, **given)


def test_upstreams_are_named_after_themselves_or_by_the_user(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert read_upstreams("tera/tiny@random") == {"tera/tiny@random": "tera/tiny@random"}
    assert read_upstreams(["fbank", str(tmp_path / "mine")]) == {
        "fbank": "fbank",
        "mine": str(tmp_path / "mine"),
    }
    assert read_upstreams("tera:folder/states.ckpt") == {"tera:states.ckpt": "tera:folder/states.ckpt"}
    assert read_upstreams({"a": "fbank", "b": "fbank"}) == {"a": "fbank", "b": "fbank"}
    with pytest.raises(UserError, match="name them yourself"):
        read_upstreams([str(tmp_path / "mine"), f"{tmp_path}/../{tmp_path.name}/mine"])


def test_command_line_settings_replace_those_of_the_task() -> None:
    plan = tasks("ks/debug", probe={"standardize": False, "steps": 7, "lrs": None, "batch_size": None})[0]
    assert plan.arguments["steps"] == 7
    assert plan.arguments["lrs"] == [0.1, 0.01, 0.001]
    assert "batch_size" not in plan.arguments
    assert plan.pooled


def test_the_protocol_names_what_is_not_plain() -> None:
    assert [plan.protocol for plan in tasks(["ks", "asr/debug"])] == ["base", "debug"]
    plan = tasks("ks", probe={"standardize": True}, label={"ks": "digit"})[0]
    assert plan.protocol == "base+standardize+label=digit"
    assert plan.arguments["label"] == "digit"
    plan = tasks("sid", probe={"standardize": True}, extra={"pooling": "mean_std"})[0]
    assert plan.protocol == "base+mean_std+standardize"
    assert tasks("sid", extra={"pooling": "mean"})[0].protocol == "base"


def test_tasks_on_frames_come_first_in_every_folder() -> None:
    plans = tasks(["ks", "asr", "sid"])
    found = read_data(["a", "b"], plans)
    assert {folder: [plan.name for plan in on_it] for folder, on_it in found.items()} == {
        "a": ["asr", "ks", "sid"],
        "b": ["asr", "ks", "sid"],
    }
    found = read_data({"ks": ["a", "b"], "sid": "a", "asr": "c"}, plans)
    assert {folder: [plan.name for plan in on_it] for folder, on_it in found.items()} == {
        "c": ["asr"],
        "a": ["ks", "sid"],
        "b": ["ks"],
    }
    with pytest.raises(UserError, match="nothing of the task 'asr'"):
        read_data({"ks": "a", "sid": "a"}, plans)


def test_fine_tuning_is_a_protocol_of_its_own() -> None:
    frozen = {"standardize": False, "steps": None}
    assert finetuning_mode(False, None, frozen) == ""
    assert finetuning_mode(True, None, frozen) == "finetune"
    assert finetuning_mode(True, "ssast/esc50_patch", frozen) == "finetune=ssast/esc50_patch"
    assert tasks("ks", label="digit", mode="finetune")[0].protocol == "base+finetune+label=digit"
    with pytest.raises(UserError, match="use finetuning"):
        finetuning_mode(True, None, frozen | {"steps": 7})
    with pytest.raises(UserError, match="add finetune=true"):
        finetuning_mode(False, "ssast/esc50_patch", frozen)


def test_settings_go_to_the_upstreams_that_have_them() -> None:
    named = {"mine": "tera/debug@random", "base": "fbank", "file": "tera:states.ckpt"}
    found = read_settings(named, {"dropout": 0.3, "num_layers": 2})
    assert found == {"mine": {"dropout": 0.3, "num_layers": 2}, "base": {}, "file": {"dropout": 0.3, "num_layers": 2}}
    assert read_settings({"any": "not looked at"}, {}) == {"any": {}}
    with pytest.raises(UserError, match="nearest: 'dropout'"):
        read_settings(named, {"dropoutt": 0.3})


def test_a_folder_of_folds_stands_for_all_of_them(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        (tmp_path / f"fold{number}").mkdir()
        (tmp_path / f"fold{number}" / "corpus.json").write_text("{}")
    assert list(read_data(str(tmp_path), tasks("ks"))) == [str(tmp_path / f"fold{number}") for number in (1, 2, 10)]


def test_a_corpus_without_dev_is_refused_before_anything_is_encoded(tmp_path: Path) -> None:
    fold = tmp_path / "folds" / "fold1"
    fold.mkdir(parents=True)
    for split in ("train", "dev", "test"):
        (fold / f"{split}.jsonl.gz").touch()
    whole = Corpus(tmp_path, "sounds", "", "", ["train"], {}, {})
    with pytest.raises(UserError, match=r"has no split 'dev' \(it has train\); try data=.*/folds$"):
        require_splits(whole, "train", "dev", "test")
    require_splits(whole, "train")
    with pytest.raises(
        UserError, match=r"no split 'test' \(it has train\); prepare it again, .*options.test_share=0.2$"
    ):
        require_splits(Corpus(tmp_path / "own", "own", "", "", ["train"], {}, {}), "test")


@pytest.mark.parametrize(("name", "reason"), [("qbe", "trains nothing"), ("sd", "learns from labels of frames")])
def test_tasks_that_cannot_be_fine_tuned_say_why(name: str, reason: str, tmp_path: Path) -> None:
    task = object.__new__(registry.module("downstream", name).TASK)
    mode = Finetuned(EncodingSettings("cpu", tmp_path, "float16", 60.0, 0), object())  # settings are not looked at
    with pytest.raises(UserError, match=f"finetune=true is not for task {name}, which {reason}; leave it out"):
        mode.check(task, Corpus(tmp_path, "own", "", "", ["train", "dev", "test"], {}, {}))


def test_audio_that_was_moved_is_noticed_before_any_work(words: Corpus, tmp_path: Path) -> None:
    require_audio(words, words.splits)
    text = gzip.decompress((words.path / "train.jsonl.gz").read_bytes()).decode()
    (tmp_path / "train.jsonl.gz").write_bytes(gzip.compress(text.replace(str(words.path), "/gone").encode()))
    with pytest.raises(UserError, match=r"the audio of train in .* is not where its manifest says \(for example /gone"):
        require_audio(open_corpus(tmp_path), ["train"])
