"""Every family and task folder is tested the day it appears."""

import inspect

import pytest
import torch

from speechssl import configs, registry, testing
from speechssl.errors import UserError
from speechssl.hub import check_name, list_tasks, list_upstreams, load_upstream
from speechssl.interfaces import BenchmarkTask, PretrainTask, Upstream

FAMILIES = [name for name in registry.names("upstream") if not registry.is_foreign(name)]
FOREIGN = [name for name in registry.names("upstream") if registry.is_foreign(name)]
TASKS = registry.names("downstream")
TRAINABLE = configs.trainable()


@pytest.mark.parametrize("family", FAMILIES)
def test_family_folder(family: str) -> None:
    folder = registry.folder("upstream", family)
    assert (folder / "README.md").is_file()
    assert {"base", "debug"} <= set(registry.sizes("upstream", family))
    assert registry.summary("upstream", family)
    assert issubclass(registry.module("upstream", family).UPSTREAM, Upstream)


@pytest.mark.parametrize("family", FOREIGN)
def test_foreign_family_folder(family: str) -> None:
    assert (registry.folder("upstream", family) / "README.md").is_file()
    assert registry.summary("upstream", family)
    assert not registry.sizes("upstream", family)
    with pytest.raises(UserError, match=f"{family}:NAME"):
        check_name(family)
    with pytest.raises(UserError):
        check_name(f"{family}:no such model, surely")


@pytest.mark.parametrize("name", list_upstreams())
def test_every_configuration_names_arguments_of_its_class(name: str) -> None:
    family, config = configs.load("upstream", name)
    registry.check_arguments(registry.module("upstream", family).UPSTREAM, config, name)


@pytest.mark.parametrize("family", FAMILIES)
def test_upstream_contract(family: str) -> None:
    testing.check_upstream(load_upstream(f"{family}/debug@random"))


@pytest.mark.parametrize("family", FAMILIES)
def test_upstream_initialisation_follows_the_seed_alone(family: str) -> None:
    torch.manual_seed(1)
    first = load_upstream(f"{family}/debug@random").state_dict()
    torch.manual_seed(2)
    again = load_upstream(f"{family}/debug@random").state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("family", TRAINABLE)
def test_pretraining_contract(family: str) -> None:
    module = registry.module("upstream", family)
    assert issubclass(module.PRETRAIN_TASK, PretrainTask)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        upstream = registry.build_upstream(family, configs.load("upstream", f"{family}/debug")[1])
        values = configs.arguments(configs.compose("pretrain", [f"upstream={family}/debug", *GIVEN]).task)
        testing.check_pretrain_task(module.PRETRAIN_TASK(upstream=upstream, **values))


GIVEN = ["data=somewhere", "run_dir=elsewhere"]


@pytest.mark.parametrize("name", TASKS)
def test_task_folder(name: str) -> None:
    folder = registry.folder("downstream", name)
    assert (folder / "README.md").is_file()
    assert {"base", "debug"} <= set(registry.sizes("downstream", name))
    task = registry.module("downstream", name).TASK
    assert issubclass(task, BenchmarkTask)
    assert task.mode in ("max", "min")
    assert task.monitor
    assert "label" in inspect.signature(task).parameters


def test_lists() -> None:
    assert list_tasks() == TASKS
    assert {"fbank/base", "fbank_no_cmvn/base", "tera/tiny", "tera/base"} <= set(list_upstreams())
