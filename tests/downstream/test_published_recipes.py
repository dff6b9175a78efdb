"""SUPERB's heads and recipes, from the `base.yaml` of every task: sizes for 768 channels, steps, batches, clipping."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from speechssl import configs, registry

# task: parameters of the head, steps, batch size, clipping norm, steps between evaluations
RECIPES = {
    "pr": (215_882, 100_000, 32, 1.0, 1000),
    "asr": (42_828_832, 200_000, 16, 1.0, 2000),
    "ks": (199_948, 200_000, 32, 1.0, 5000),
    "sid": (518_371, 200_000, 32, 1.0, 5000),
    "asv": (6_110_172 + 620_032, 200_000, 50, 1000.0, 20_000),
    "sd": (2_626_562, 30_000, 32, 1.0, 500),
    "ic": (203_032, 200_000, 32, 1.0, 5000),
    "sf": (42_828_832 + (109 - 32) * 2049, 200_000, 32, 1.0, 2000),
    "er": (197_892, 30_000, 32, 1.0, 1000),
}


def labels(name: str) -> dict[str, list]:
    """Return columns with as many classes as the corpus that SUPERB uses."""
    return {
        "pr": {"phones": [["K"]]},
        "asr": {"text": ["ONE"]},
        "ks": {"keyword": [f"word{n}" for n in range(12)]},
        "sid": {"speaker": [f"id{n}" for n in range(1251)]},
        "asv": {"speaker": [f"id{n}" for n in range(1211)], "num_samples": [48_000] * 1211},
        "sd": {"activity": [[["a", 0.0, 1.0], ["b", 0.5, 1.0]]]},
        "ic": {"intent": [{"action": f"a{n % 6}", "object": f"o{n}", "location": f"l{n % 4}"} for n in range(14)]},
        "sf": {"text": ["a"] * 39, "slots": [[[f"slot{n}", 0, 1]] for n in range(39)]},
        "er": {"emotion": ["neu", "hap", "ang", "sad"]},
    }[name]


@pytest.mark.parametrize("name", list(RECIPES))
def test_published_recipe(make_corpus: Callable[..., Any], name: str) -> None:
    corpus = make_corpus(labels(name))
    corpus.table("train").num_samples = [48_000] * len(corpus.table("train"))
    arguments = configs.load("downstream", f"{name}/base")[1]
    task = registry.module("downstream", name).TASK(corpus, **arguments)
    with torch.device("meta"):
        head = task.head(768, 320)
    size = sum(parameter.numel() for parameter in head.parameters())
    assert (size, task.steps, task.batch_size, task.clip_norm, task.eval_every) == RECIPES[name]
