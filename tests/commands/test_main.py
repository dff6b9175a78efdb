"""The command line: help, lists, and one clear line with exit status 2 for wrong input."""

import subprocess
import sys
from pathlib import Path

import pytest

from speechssl.commands import main as cli


def call(arguments: list[str], capsys: pytest.CaptureFixture) -> tuple[int, str, str]:
    """Run a command in this process; return exit status, standard output and standard error."""
    status = 0
    try:
        cli.main(arguments)
    except SystemExit as stop:
        status = int(stop.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["pretrian"], "nearest: 'pretrain'"),
        (["pretrain", "upstream=tero/tiny", "data=x", "run_dir=y"], "nearest: 'tera'"),
        (["pretrain", "upstream=tera/tinny", "data=x", "run_dir=y"], "nearest: 'tiny'"),
        (["pretrain", "upstream=fbank", "data=x", "run_dir=y"], "nothing to pretrain"),
        (
            ["pretrain", "upstream=tera/debug", "data=x", "run_dir=y", "trainer.max_step=3"],
            "'trainer.max_steps'",
        ),
        (
            ["pretrain", "upstream=tera/debug", "data=x", "run_dir=y", "trainer.max_steps=many"],
            "whole number",
        ),
        (["pretrain", "upstream=tera/debug", "data=x", "run_dir=y", "trainer.max_steps=1.5"], "whole number"),
        (["pretrain", "upstream=tera/debug", "run_dir=y"], "needs data="),
        (["pretrain", "upstream=tera/debug", "data=/nowhere/at/all", "run_dir=y"], "/nowhere/at/all"),
        (["extract", "upstream=nothing", "data=/nowhere/at/all", "out=z"], "/nowhere/at/all"),
        (["extract", "upstream=fbank", "data=/nowhere/at/all", "out=z", "poolng=mean"], "nearest: 'pooling'"),
        (["extract", "upstream=fbank", "data=/nowhere/at/all", "out=z", "a=="], "cannot read|has no key"),
        (["prepare", "corpus=foldr", "source=.", "out=z"], "nearest: 'folder'"),
        (["prepare", "corpus=folder", "source=/nowhere/at/all", "out=z"], "/nowhere/at/all"),
        (["convert", "family=tera", "source=/nowhere/at/all.ckpt", "out=z"], "does not exist"),
        (["list", "what=upstream"], "nearest: 'upstreams'"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: list[str],
    expected: str,
    capsys: pytest.CaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, err = call(arguments, capsys)
    assert status == 2, err
    lines = [line for line in err.splitlines() if line.startswith("speechssl: error:")]
    assert len(lines) == 1
    assert any(part in lines[0] for part in expected.split("|")), lines[0]
    assert "Traceback" not in err


def test_overview_names_every_verb(capsys: pytest.CaptureFixture) -> None:
    status, out, _ = call(["--help"], capsys)
    assert status == 0
    for verb in (
        "doctor",
        "list",
        "demo",
        "prepare",
        "pretrain",
        "extract",
        "benchmark",
        "compare",
        "convert",
    ):
        assert f"\n  {verb} " in out


@pytest.mark.parametrize("verb", [v for v in cli.verbs() if v not in ("list", "doctor")])
def test_help_explains_every_key(verb: str, capsys: pytest.CaptureFixture) -> None:
    from speechssl import configs

    status, out, _ = call([verb, "--help"], capsys)
    assert status == 0
    with configs._hydra():
        config = configs.hydra_compose(config_name=verb)
    explained = configs.describe(verb)
    for key in configs.flatten(config):
        leaf = not any(other.startswith(f"{key}.") for other in explained)
        if leaf and not key.endswith("_target_") and key.split(".")[0] not in configs.OPEN_NODES:
            assert key in explained, f"{verb}: {key} has no comment"
            assert f"  {key}=" in out


def test_list_and_doctor_start_without_torch() -> None:
    code = (
        "import sys\nfrom speechssl.commands.main import dispatch\n"
        "try:\n    dispatch([sys.argv[1]])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'hydra', 'lhotse', 'matplotlib'} & set(sys.modules)\nsys.exit(str(heavy) if heavy else 0)"
    )
    for verb in ("list", "doctor"):
        done = subprocess.run([sys.executable, "-c", code, verb], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_list_shows_folders(capsys: pytest.CaptureFixture) -> None:
    status, out, _ = call(["list"], capsys)
    assert status == 0
    for name in ("tera", "fbank_no_cmvn", "ks", "sid", "asr", "fsdd", "folder", "synthetic", "lhotse"):
        assert f"\n  {name} " in out
    assert "tiny" in call(["list", "what=upstreams"], capsys)[1]
    assert "\n  tera " not in call(["list", "what=tasks"], capsys)[1]
