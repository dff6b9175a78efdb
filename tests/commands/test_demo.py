"""The demo types commands that exist, and its sizes follow the minutes it is given."""

from pathlib import Path

import pytest

from speechssl import configs, registry
from speechssl.commands import demo
from speechssl.errors import UserError


def value(arguments: list[str], key: str) -> str:
    return next(a.removeprefix(f"{key}=") for a in arguments if a.startswith(f"{key}="))


FAMILIES = [name for name in registry.names("upstream") if (registry.folder("upstream", name) / "demo.yaml").is_file()]


@pytest.mark.parametrize("minutes", [0.1, 5.0, 20.0])
@pytest.mark.parametrize("upstream", [*FAMILIES, "tera/tiny", "ssast/patch_tiny"])
def test_every_command_composes(minutes: float, upstream: str) -> None:
    commands = demo.plan(Path("out"), upstream, minutes, 0)
    assert [verb for verb, *_ in commands] == ["prepare", "pretrain", "pretrain", "benchmark", "benchmark"]
    for verb, *arguments in commands:
        configs.compose(verb, arguments)


def test_more_minutes_mean_more_steps() -> None:
    steps = [int(value(demo.plan(Path("o"), "tera/tiny", m, 0)[2], "trainer.max_steps")) for m in (0.5, 2.0, 5.0)]
    assert steps[0] < steps[1] < steps[2]


def test_every_family_that_pretrains_has_a_demo() -> None:
    assert configs.trainable() == FAMILIES
    assert demo.plan(Path("o"), "tera", 5.0, 0) == demo.plan(Path("o"), "tera/tiny", 5.0, 0)
    with pytest.raises(UserError, match=r"no demo; try another of: .*tera"):
        demo.plan(Path("o"), "fbank", 5.0, 0)
    with pytest.raises(UserError, match="nearest: 'tiny'"):
        demo.plan(Path("o"), "tera/tinny", 5.0, 0)


def test_no_time_is_an_error() -> None:
    with pytest.raises(UserError, match="must be above 0"):
        demo.run(configs.compose("demo", ["minutes=0.0"]))
