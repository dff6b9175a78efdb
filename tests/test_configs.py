"""YAML beside the code, and the checks between the command line and Hydra."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

import speechssl.upstream
from speechssl import configs, registry
from speechssl.errors import UserError
from speechssl.hub import list_upstreams


def test_a_size_inherits_from_the_base() -> None:
    family, large = configs.load("upstream", "tera/large")
    assert (family, large["num_layers"]) == ("tera", 12)
    assert "upstream" not in large  # a missing `@_here_` would nest the base silently


def test_an_export_remembers_defaults_too() -> None:
    config = registry.build_upstream("tera", {"num_layers": 1, "hidden_size": 24, "num_heads": 2}).config
    assert config["hidden_size"] == 24
    assert config["num_mels"] == 80


@pytest.mark.parametrize("name", list_upstreams())
def test_every_upstream_yaml_targets_its_own_family(name: str) -> None:
    family, size = configs.split_name("upstream", name)
    with configs._hydra():
        config = configs.hydra_compose(overrides=[f"+upstream={family}/{size}"]).upstream
    cls = registry.module("upstream", family).UPSTREAM
    assert config._target_ == f"speechssl.upstream.{family}.{cls.__name__}"


@pytest.mark.parametrize("task", registry.names("downstream"))
def test_every_task_yaml_composes(task: str) -> None:
    for size in registry.sizes("downstream", task):
        name, values = configs.load("downstream", f"{task}/{size}")
        assert name == task
        assert isinstance(values, dict)


GIVEN = ["upstream=tera/debug", "data=d", "run_dir=r"]


def test_pretrain_composes_model_objective_and_trainer() -> None:
    config = configs.compose(
        "pretrain", [*GIVEN, "task.mask_proportion=0.3", "upstream.num_layers=1", "trainer.max_steps=5"]
    )
    assert config.task.mask_proportion == 0.3
    assert config.upstream.num_layers == 1
    assert config.trainer.max_steps == 5
    assert configs.arguments(config.upstream)["num_layers"] == 1


RECIPES = [f"{family}/{name}" for family in registry.names("upstream") for name in configs.presets(family, "pretrain")]


def test_there_are_recipes_for_pretraining() -> None:
    assert {"beats/paper", "beats/openbeats"} <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_compose_and_name_real_arguments(name: str) -> None:
    family = name.partition("/")[0]
    content = configs.preset(name, "pretrain")
    config = configs.compose("pretrain", [f"upstream={family}/debug", *GIVEN[1:], f"preset={name}"])
    for group, values in content.items():
        for key, value in values.items():
            assert OmegaConf.to_container(config)[group][key] == value, f"{group}.{key}"
    module = registry.module("upstream", family)
    registry.check_arguments(module.UPSTREAM, content.get("upstream", {}), name)
    registry.check_arguments(getattr(module, "STAGES", module.PRETRAIN_TASK), content.get("task", {}), name)


def test_the_command_line_wins_over_a_recipe() -> None:
    given = ["preset=beats/paper", "trainer.max_steps=7", "task.mask_ratio=0.5", "upstream.dropout=0.2"]
    for order in (given, given[::-1]):
        config = configs.compose("pretrain", ["upstream=beats/debug", *GIVEN[1:], *order])
        assert (config.trainer.max_steps, config.task.mask_ratio, config.upstream.dropout) == (7, 0.5, 0.2)
        assert config.optim.lr == 5e-4
        assert config.preset == "beats/paper"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["upstream=tera/debug", "preset=beats/paper"], "recipe of another family"),
        (["upstream=beats/debug", "preset=beats/papr"], "nearest: 'paper'"),
        (["upstream=beats/debug", "preset=beats/esc50"], "no preset 'esc50' to pretrain with; known: openbeats, paper"),
        (["upstream=tera/debug", "preset=tera/paper"], "known: none"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(given: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        configs.compose("pretrain", [*given, *GIVEN[1:]])


def test_numbers_are_checked_by_kind() -> None:
    assert configs.compose("pretrain", [*GIVEN, "optim.lr=1"]).optim.lr == 1
    with pytest.raises(UserError, match=r"optim.lr expects a number"):
        configs.compose("pretrain", [*GIVEN, "optim.lr=fast"])
    with pytest.raises(UserError, match="whole number"):
        configs.compose("pretrain", [*GIVEN, "trainer.max_steps=2.5"])
    with pytest.raises(UserError, match=r"seeds expects a list like \[0\], found 3"):
        configs.compose("benchmark", ["upstream=fbank", "tasks=ks", "data=d", "run_dir=r", "seeds=3"])


def test_comments_become_explanations() -> None:
    explained = configs.describe("pretrain")
    assert explained["data"][0] == "???"
    assert "second" in explained["trainer.max_seconds"][1]
    assert "optim.lr" in explained


def test_a_folder_beside_the_families_is_no_group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in an installed package, where `speechssl/data` lies beside `speechssl/upstream`, or a user's own `data/`."""
    (tmp_path / "upstream").symlink_to(next(iter(speechssl.upstream.__path__)))
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(speechssl.upstream, "__path__", [str(tmp_path / "upstream")])
    assert configs.compose("pretrain", ["upstream=tera/debug", "data=d", "run_dir=r"]).data == "d"


@pytest.mark.parametrize("value", ["runs/ks/base+finetune=beats_esc50-seed0/export", "a=b=c", "=", "'a=b'", '"a=b"'])
def test_values_may_hold_equals_signs(value: str) -> None:
    given = ["family=beats", f"source={value}", "out=plain"]
    assert configs.compose("convert", given).source == value.strip("'\"")


@pytest.mark.parametrize("value", ["1089", "007", "1_000", "1e3", "2.50", "-"])
def test_files_and_folders_may_be_called_like_numbers(value: str) -> None:
    config = configs.compose("predict", [f"run={value}", f"inputs={value}", f"out={value}"])
    assert (config.run, config.inputs, config.out) == (value, value, value)
