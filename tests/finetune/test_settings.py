"""Wrong settings are one clear line; presets hold what exists."""

import inspect
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from speechssl import configs, registry
from speechssl.errors import UserError
from speechssl.finetune.settings import read_settings

COMMON = ["upstream=fbank", "tasks=ks", "data=folder", "run_dir=out"]
PRESETS = [f"{family}/{name}" for family in registry.names("upstream") for name in configs.presets(family)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"select": "best"}, "expects one of dev, last, average"),
        ({"optimizer": "adamv"}, "nearest: 'adam"),
        ({"schedule": "cosin"}, "nearest: 'cosine'"),
        ({"precision": "bf16"}, "nearest: 'bf16-mixed'"),
        ({"lrs": 1e-3}, "a list of numbers such as"),
        ({"betas": [0.9]}, "two numbers"),
        ({"lrs": []}, "different numbers above 0"),
        ({"lrs": [1e-3, 1e-3]}, "different numbers above 0"),
        ({"mixup": 1.5}, "probability"),
        ({"mixup": 0.5, "loss": "task"}, "loss=ce"),
        ({"select": "average"}, "needs finetuning.average_from"),
        ({"average_from": 3}, "select=average"),
        ({"select": "average", "average_from": 9}, "an epoch in 1..6"),
        ({"milestones": {"start": 3}}, "start and every"),
        ({"batch_size": 0}, "batch_size expects more than 0"),
        ({"time_mask": -1}, "time_mask expects 0 or more"),
        ({"crop_seconds": 0.0}, "crop_seconds expects more than 0"),
        ({"steps": 0}, "at least 1"),
        ({"roll": -1.0}, "roll expects seconds, 0 for any sample, or null"),
        ({"roll": True}, "roll expects seconds"),
        ({"time_mask": 3, "time_mask_share": 0.1}, "not both"),
        ({"time_mask_share": 1.1}, "share of a clip's frames, at most 1"),
        ({"time_warp": -2}, "time_warp expects 0 or more"),
        ({"label_smoothing": 0.1, "loss": "bce"}, "loss=ce, found loss=bce"),
        ({"label_smoothing": -0.1}, "label_smoothing expects 0 or more"),
        ({"layer_decay": 0.0}, "layer_decay expects more than 0"),
        ({"layer_decay": 1.2}, "factor on the learning rate per layer, at most 1"),
    ],
)
def test_wrong_settings_are_explained(settings: Callable[..., Any], wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        settings(**wrong)


def test_names_are_checked(settings: Callable[..., Any]) -> None:
    values = asdict(settings())
    assert read_settings(values) == settings()
    with pytest.raises(UserError, match="nearest: 'epochs'"):
        read_settings(values | {"epoch": 3})
    values.pop("gamma")
    with pytest.raises(UserError, match="needs the setting 'gamma'"):
        read_settings(values)


def test_the_defaults_are_a_whole_recipe() -> None:
    config = OmegaConf.to_container(configs.compose("benchmark", COMMON))
    assert read_settings(config["finetuning"]).select == "dev"
    assert config["finetune"] is False


@pytest.mark.parametrize("name", PRESETS)
def test_presets_compose_and_name_real_arguments(name: str) -> None:
    config = OmegaConf.to_container(configs.compose("benchmark", [*COMMON, "finetune=true", f"preset={name}"]))
    found, content = read_settings(config["finetuning"]), configs.preset(name)
    for key, value in content["finetuning"].items():
        assert getattr(found, key) == value, key
    upstream = registry.module("upstream", name.split("/")[0]).UPSTREAM
    assert config["settings"] == content["settings"]
    registry.check_arguments(upstream, content["settings"], name)
    task = inspect.signature(registry.module("downstream", "ks").TASK).parameters
    assert set(content.get("task", {})) <= set(task)


def test_there_are_presets() -> None:
    assert {"ssast/audioset20k", "ssast/audioset", "ssast/esc50_patch", "ssast/esc50_frame"} <= set(PRESETS)
    assert {"ssast/speech_commands", "ssast/superb_ks", "ssast/superb_er", "ssast/superb_sid"} <= set(PRESETS)
    assert {"beats/audioset20k", "beats/audioset", "beats/esc50"} <= set(PRESETS)
    assert {"beats/speech_commands", "beats/superb_ks", "beats/superb_er"} <= set(PRESETS)


@pytest.mark.parametrize(("name", "floor"), [("audioset20k", 5e-6), ("audioset", 5e-6), ("esc50", 5e-6)])
def test_floors_are_the_published_rates(name: str, floor: float) -> None:
    content = configs.preset(f"beats/{name}")["finetuning"]
    assert content["lrs"][0] * content["lr_floor"] == pytest.approx(floor, rel=1e-5)


def test_the_command_line_has_the_last_word() -> None:
    given = [
        "finetuning.epochs=7",
        "preset=ssast/esc50_patch",
        "settings.target_frames=64",
        "finetuning.lrs=[1e-5,1e-6]",
    ]
    for order in (given, given[::-1]):
        config = configs.compose("benchmark", [*COMMON, "finetune=true", *order])
        assert config.finetuning.epochs == 7
        assert list(config.finetuning.lrs) == [1e-5, 1e-6]
        assert config.settings.target_frames == 64
        assert config.settings.time_stride == 10
        assert config.finetuning.batch_size == 48


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        ("ssast/esc50_path", "nearest: 'esc50_patch'"),
        ("sast/esc50_patch", "nearest: 'ssast'"),
        ("fbank/anything", "no preset 'anything' to benchmark with; known: none"),
        ("beats/paper", "no preset 'paper' to benchmark with"),
    ],
)
def test_unknown_presets_are_explained(preset: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        configs.compose("benchmark", [*COMMON, f"preset={preset}"])


def test_a_preset_holds_known_groups_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "finetune").mkdir()
    (tmp_path / "finetune" / "odd.yaml").write_text("trainer: {lr: 1}\n")
    monkeypatch.setattr(registry, "folder", lambda *_: tmp_path)
    with pytest.raises(UserError, match="holds 'trainer'"):
        configs.preset("any/odd")
