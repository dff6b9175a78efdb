from pathlib import Path

import pytest

from speechssl.errors import UserError
from speechssl.probe.plan import read_data, read_tasks, read_upstreams


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
