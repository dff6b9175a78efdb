"""Cards of results: a head on frozen features, a fine-tuned model, and a task that trains nothing."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from speechssl import configs
from speechssl.data.cuts import Corpus
from speechssl.deploy import card_result
from speechssl.deploy.card import write_card
from speechssl.errors import UserError
from speechssl.files import sha256


@pytest.fixture(scope="module")
def frozen(bench: Callable, words: Corpus) -> dict[str, Any]:
    (row,) = bench(words, ["ks"], "tera/debug@random")
    return row


def test_a_frozen_head(frozen: dict[str, Any]) -> None:
    path = write_card(frozen["folder"])
    assert path == frozen["folder"] / "export" / "README.md"
    text = path.read_text()
    value, low, high = frozen["metrics"]["acc"], *frozen["ci95"]
    for fact in (
        "Keyword spotting",
        f"| {value:.2f} | {low:.2f} to {high:.2f} |",
        f"{frozen['chance']:.2f} |",
        f"`{frozen['upstream_sha256']}`",
        f"fingerprint `{frozen['corpus_fingerprint']}`",
        f"| 2 | {frozen['layer_weights'][2]:.3f} |",
        f"| learning rate | {frozen['lr']:.4g} |",
        "The head is of no use without the upstream",
        f"`{sha256(frozen['folder'] / 'export' / 'model.safetensors')}`",
        "speechssl predict run=FOLDER",
    ):
        assert fact in text, fact
    assert "None" not in text
    assert write_card(frozen["folder"] / "export").read_text() == text
    with pytest.raises(UserError, match="results and origin are for encoders"):
        write_card(frozen["folder"], origin=frozen["folder"])


@pytest.mark.parametrize(
    ("upstream", "shown"),
    [
        ("/home/me/runs/mine", "mine"),
        ("runs/mine", "runs/mine"),
        ("tera:/home/me/states.ckpt", "tera:states.ckpt"),
        ("python:/home/me/code.py:Net:/data/weights.pt", "python:code.py:Net:weights.pt"),
        ("hf:OWNER/NAME", "hf:OWNER/NAME"),
    ],
)
def test_folders_of_a_disk_are_not_told(upstream: str, shown: str) -> None:
    assert card_result.named(upstream) == shown


def test_a_result_without_its_row(frozen: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(frozen["folder"], tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"has no row in a results.jsonl above it"):
        write_card(tmp_path / "elsewhere")


def test_a_fine_tuned_model(bench: Callable, words: Corpus) -> None:
    given = configs.compose("benchmark", ["upstream=a", "tasks=b", "data=c", "run_dir=d"]).finetuning
    short = {"lrs": [1e-3], "steps": 4, "eval_every": 4, "batch_size": 4}
    settings = OmegaConf.to_container(given) | short
    (row,) = bench(words, ["ks"], "tera/debug@random", finetune=True, finetuning=settings)
    text = write_card(row["folder"]).read_text()
    assert "A fine-tuned model" in text
    assert "trained along, in this folder" in text
    assert "of no use without" not in text
    assert f"`{sha256(row['folder'] / 'export' / 'head.safetensors')}`" in text
    named = text.split("Outputs, in their order: ")[1].splitlines()[0].count("`") // 2
    assert f"| outputs | {named} |" in text
    assert named > 1


def test_a_task_that_trains_nothing(bench: Callable, everything: Corpus) -> None:
    (row,) = bench(everything, ["qbe"])
    text = write_card(row["folder"]).read_text()
    assert "mtwv" in text
    assert "learning rate" not in text
