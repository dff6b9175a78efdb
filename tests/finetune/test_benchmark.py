"""Fine-tuning as a mode of the benchmark: from the command line to rows, tables and exported folders."""

from pathlib import Path
from typing import Any

import pytest
import torch

from speechssl.commands.main import main
from speechssl.data.cuts import Corpus
from speechssl.downstream.ks import TASK
from speechssl.files import load_safetensors, read_json
from speechssl.finetune.model import build_model
from speechssl.hub import load_upstream, load_weights, weights_sha256
from speechssl.probe.rows import read_lines

QUICK = ["finetuning.epochs=2", "finetuning.batch_size=10", "finetuning.lrs=[1e-3]"]


def run(tones: Corpus, folder: Path, *arguments: str, upstream: str = "tera/debug@random") -> dict[str, Any]:
    """Return the last row."""
    given = [f"upstream={upstream}", "tasks=ks", f"data={tones.path}", f"run_dir={folder}", *arguments]
    main(["benchmark", *given])
    return read_lines(folder / "results.jsonl")[-1]


def test_rows_stand_beside_frozen_ones(tones: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    frozen = run(tones, tmp_path, "probe.steps=4", "probe.eval_every=2")
    row = run(tones, tmp_path, "finetune=true", *QUICK)
    assert (frozen["protocol"], row["protocol"]) == ("base", "base+finetune")
    assert frozen["upstream_sha256"] == row["upstream_sha256"]
    assert set(frozen) - set(row) == set()
    assert row["config"]["finetuning"]["epochs"] == row["epochs"] == 2
    assert row["steps"] == 6
    assert row["layer_weights"] is None
    assert row["trained_on"] == "train"
    assert "ks ACC ↑ (tones, base+finetune)" in (tmp_path / "results.md").read_text()
    again = run(tones, tmp_path, "finetune=true", *QUICK, "finetuning.num_workers=1")
    assert again["seconds"] == row["seconds"]  # finished; what only changes speed makes no other result
    changed = run(tones, tmp_path, "finetune=true", *QUICK, "finetuning.mixup=0.5", "finetuning.loss=bce")
    assert len(read_lines(tmp_path / "results.jsonl")) == 2
    assert changed["settings"] != row["settings"]
    run(tones, tmp_path, "finetune=true", *QUICK, upstream="fbank_no_cmvn")  # nothing to tune but the head
    main(["compare", f"runs={tmp_path}", "baseline=fbank_no_cmvn", f"out={tmp_path / 'out'}"])
    assert "finetune" in capsys.readouterr().out


def test_the_export_is_a_model_of_its_own(tones: Corpus, tmp_path: Path) -> None:
    row = run(tones, tmp_path, "finetune=true", *QUICK, "finetuning.layers=mix", "settings.dropout=0.0")
    folder = tmp_path / row["run"]
    assert not list(folder.rglob("checkpoints"))
    tuned = load_upstream(str(folder))
    assert weights_sha256(tuned) != row["upstream_sha256"]
    assert tuned.config["dropout"] == 0.0
    about = read_json(folder / "export" / "head.json")
    assert about["classes"] == ["high", "low", "middle"]
    model = build_model(tuned, TASK(tones), layers="mix", head="task", seed=9).eval()
    load_weights(model.head, load_safetensors(folder / "export" / "head.safetensors"), folder)
    predicted = {line["id"]: line["hypothesis"] for line in read_lines(folder / "predictions.jsonl")}
    table = tones.table("test")
    for index, name in enumerate(table.ids):
        waveform = torch.from_numpy(table.read(index))[None]
        with torch.no_grad():
            scores, _ = model(waveform, torch.tensor([waveform.shape[1]]))
        assert about["classes"][int(scores.argmax())] == predicted[name]


def test_a_preset_names_the_protocol_and_settings_reach_the_model(tones: Corpus, tmp_path: Path) -> None:
    recipe = ["finetune=true", "preset=ssast/esc50_patch", *QUICK, "settings.target_frames=48"]
    row = run(tones, tmp_path, *recipe, upstream="ssast/patch_debug@random")
    assert row["protocol"] == "base+finetune=ssast/esc50_patch"
    assert row["config"]["finetuning"]["gamma"] == 0.85
    exported = read_json(tmp_path / row["run"] / "export" / "config.json")
    assert exported["config"]["target_frames"] == 48
    assert exported["config"]["time_stride"] == 10


def test_a_preset_of_beats_trains_its_model(tones: Corpus, tmp_path: Path) -> None:
    short = [
        "finetuning.steps=3",
        "finetuning.warmup_steps=1",
        "finetuning.batch_size=10",
        "finetuning.layer_decay=0.8",
    ]
    recipe = ["finetune=true", "preset=beats/esc50", *short]
    row = run(tones, tmp_path, *recipe, upstream="beats/debug@random")
    assert row["protocol"] == "base+finetune=beats/esc50"
    assert (row["steps"], row["config"]["finetuning"]["roll"]) == (3, 1.0)
    exported = read_json(tmp_path / row["run"] / "export" / "config.json")["config"]
    assert (exported["gradient_decay"], exported["layer_drop"], exported["mean"]) == (0.2, 0.1, 11.72215)
    (logged,) = read_lines(tmp_path / row["run"] / "lr-5e-05" / "metrics.jsonl")
    assert logged["lr"] == pytest.approx(5e-5 * (0.1 + 0.9 / 2))  # of the top layer, half way down to the floor


def test_settings_belong_to_the_upstreams_that_have_them(tones: Corpus, tmp_path: Path) -> None:
    run(
        tones,
        tmp_path,
        "probe.steps=2",
        "probe.eval_every=1",
        "settings.dropout=0.3",
        upstream="[tera/debug@random,fbank]",
    )
    rows = {row["upstream"]: row for row in read_lines(tmp_path / "results.jsonl")}
    assert rows["tera/debug@random"]["config"]["settings"] == {"dropout": 0.3}
    assert "settings" not in rows["fbank"]["config"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["preset=ssast/esc50_patch"], "add finetune=true"),
        (["finetuning.epochs=3"], "counts only with finetune=true"),
        (["finetune=true", "probe.steps=3"], "use finetuning.steps"),
        (["finetune=true", "probe.standardize=true"], "leave it out"),
        (["finetune=true", "settings.dropoutt=0.1"], "nearest: 'dropout'"),
        (["finetune=true", "finetuning.epoch=1"], "nearest: 'finetuning.epochs'"),
        (["finetune=true", "finetuning.epochs=many"], "a whole number"),
        (["finetune=true", "finetuning.lrs=1e-3"], "a list like [0.0001]"),
        (["finetune=true", "finetuning.lrs=[fast]"], "a list of numbers"),
        (["finetune=true", "finetuning.warmup_steps=1000"], "leaves nothing of 60 steps"),
        (["finetune=true", "tasks=asr", "label=keyword", "finetuning.head=linear"], "needs a task with classes"),
    ],
)
def test_wrong_input_is_one_line(
    tones: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture, arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(tones, tmp_path, *arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
