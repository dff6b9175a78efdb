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


def test_numbers_of_a_family_shrink_with_the_minutes() -> None:
    whole, half = (demo.plan(Path("o"), "beats", minutes, 0)[2] for minutes in (5.0, 2.5))
    assert int(value(whole, "task.tokenizer_steps")) == 2 * int(value(half, "task.tokenizer_steps"))


def test_every_family_that_pretrains_has_a_demo() -> None:
    assert configs.trainable() == FAMILIES
    assert demo.plan(Path("o"), "tera", 5.0, 0) == demo.plan(Path("o"), "tera/tiny", 5.0, 0)
    with pytest.raises(UserError, match=r"no demo; try another of: .*tera"):
        demo.plan(Path("o"), "fbank", 5.0, 0)
    with pytest.raises(UserError, match="nearest: 'tiny'"):
        demo.plan(Path("o"), "tera/tinny", 5.0, 0)


def test_a_family_can_have_keys_of_its_own_per_task(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = {
        "size": "tiny",
        "steps": 100,
        "pretrain": ["iterations=2"],
        "untrained": ["iterations=1"],
        "benchmark": {"asr": ["settings.frequency_pooling=none"], "sid": ["probe.steps=9"]},
    }
    monkeypatch.setattr(configs, "demo", lambda name: ("tera/tiny", recipe))
    _, untrained, trained, recognise, classify = demo.plan(Path("o"), "tera", 5.0, 0)
    assert [configs.compose(c[0], c[1:]).iterations for c in (untrained, trained)] == [1, 2]
    assert "settings.frequency_pooling=none" in recognise
    assert "tasks=asr/debug" in recognise
    assert classify[-1] == "probe.steps=9"
    assert "settings.frequency_pooling=none" not in classify


def test_pictures_are_those_of_the_last_stage(tmp_path: Path) -> None:
    assert demo.pictures(tmp_path) == tmp_path
    for name in ("01-tokenizer-1", "02-encoder-1", "03-labels-2", "10-encoder-2", "11-labels-3"):
        (tmp_path / "stages" / name).mkdir(parents=True)
        if "encoder" in name:
            (tmp_path / "stages" / name / "curve.png").touch()
    assert demo.pictures(tmp_path) == tmp_path / "stages" / "10-encoder-2"
    (tmp_path / "curve.png").touch()  # a run of one stage
    assert demo.pictures(tmp_path) == tmp_path


def test_unknown_tasks_in_a_demo_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = {"size": "tiny", "steps": 3, "pretrain": [], "benchmark": {"asrr": []}}
    monkeypatch.setattr(configs, "demo", lambda name: ("tera/tiny", recipe))
    with pytest.raises(UserError, match=r"benchmarks 'asrr', the demo has .*nearest: 'asr'"):
        demo.plan(Path("o"), "tera", 5.0, 0)


def test_no_time_is_an_error() -> None:
    with pytest.raises(UserError, match="must be above 0"):
        demo.run(configs.compose("demo", ["minutes=0.0"]))
