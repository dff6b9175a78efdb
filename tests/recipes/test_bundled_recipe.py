"""The recipe of the bundled weights: all its commands are valid, and what is bundled is what it would make."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from speechssl import configs, registry
from speechssl.files import read_json, sha256
from speechssl.hub import load_upstream

SCRIPT = Path(__file__).parents[2] / "recipes/bundled/run.sh"
BUNDLED = {"tera/tiny": "tera", "ssast/patch_tiny": "ssast", "beats/tiny": "beats"}  # and the recipe's run directory
LARGEST = 12_000_000  # bytes of one model in the package


def run(*arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(["bash", SCRIPT, *arguments], capture_output=True, text=True, env=environment, check=False)


def commands(*arguments: str) -> list[list[str]]:
    done = run("dry=1", *arguments)
    assert done.returncode == 0, done.stderr
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    return [words[1:] for words in lines if words[0] == "speechssl"]


def test_every_command_is_valid() -> None:
    found = commands("out=/nowhere/with space")
    assert {words[0] for words in found} == {"prepare", "pretrain", "export", "benchmark", "card"}
    for verb, *keys in found:
        configs.compose(verb, keys)


def test_steps_are_scaled() -> None:
    full, short = ([word for words in commands(f"scale={scale}") for word in words] for scale in (1, 0.01))
    assert "trainer.max_steps=10000" in full
    assert "trainer.max_steps=100" in short
    assert "task.tokenizer_steps=5" in short


def test_unknown_arguments_end_the_script() -> None:
    done = run("stepps=3")
    assert done.returncode == 2
    assert "unknown argument stepps=3; known: out= source=" in done.stderr


@pytest.mark.parametrize("name", BUNDLED)
def test_what_is_bundled_is_what_the_recipe_makes(name: str) -> None:
    family, size = name.split("/")
    folder = registry.bundled(family)[size]
    content = read_json(folder / "config.json")
    assert content["weights_sha256"] == sha256(folder / "model.safetensors")
    assert sum(file.stat().st_size for file in folder.iterdir()) < LARGEST
    pretraining = [words for words in commands("out=runs/bundled") if f"run_dir=runs/bundled/{BUNDLED[name]}" in words]
    composed = configs.compose(*_split(pretraining[0]))
    expected = {key: value for key, value in composed.upstream.items() if not key.startswith("_")}
    assert {key: content["config"][key] for key in expected} == expected
    assert content["training"]["step"] == composed.trainer.max_steps
    card = (folder / "README.md").read_text(encoding="utf-8")
    for text in ("speechssl pretrain", "## Evaluation", 'license: "apache-2.0"', content["weights_sha256"]):
        assert text in card
    assert "CC0" in card
    assert (folder / "LICENSE.md").read_text() == SCRIPT.with_name("LICENSE.md").read_text()
    assert list(folder.glob("training*.jsonl"))


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_weights_are_trained_ones(name: str) -> None:
    trained, untrained = load_upstream(name), load_upstream(f"{name}@random")
    assert trained.config.keys() == untrained.config.keys()
    moved = [
        key
        for key, tensor in trained.state_dict().items()
        if tensor.dim() == 2 and (tensor - untrained.state_dict()[key]).norm() > 0.1 * tensor.norm()
    ]
    assert len(moved) >= trained.num_layers


def _split(words: list[str]) -> tuple[str, list[str]]:
    return words[0], words[1:]
