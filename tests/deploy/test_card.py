"""Cards of pretrained models: what they say is in the files, and what is in no file they do not say."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from speechssl import registry
from speechssl.commands.main import dispatch
from speechssl.data.prepare import prepare
from speechssl.deploy import card_facts
from speechssl.deploy.card import write_card, write_cards
from speechssl.deploy.card_facts import Facts
from speechssl.errors import UserError
from speechssl.files import sha256
from speechssl.hub import load_upstream, weights_sha256
from speechssl.train import snapshots
from speechssl.train.checkpoint import export_tokenizer, export_upstream
from speechssl.train.logging import RunLog

SHORT = ["trainer.max_steps=2", "trainer.eval_every=1", "trainer.log_every=1", "trainer.max_seconds=4", "seed=7"]
SHORT += ["trainer.crop_seconds=0.9", "trainer.num_threads=1", "trainer.num_workers=0", "trainer.precision=32-true"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tones of a few speakers, with a licence that has a name."""
    root = tmp_path_factory.mktemp("corpus")
    random = np.random.default_rng(0)
    for i in range(16):
        time = np.arange(random.integers(15000, 20000)) / 16000
        path = root / "audio" / f"speaker{i % 4}" / f"{i:02d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.2 * np.sin(2 * np.pi * 100 * (i + 1) * time), 16000)
    prepare("folder", root / "audio", root / "prepared", licence="CC0 | by nobody_at_all", name="tones")
    return root / "prepared"


def pretrained(family: str, corpus: Path, run_dir: Path, *others: str) -> Path:
    with pytest.MonkeyPatch.context() as patch:  # pictures take longer than all the rest
        patch.setattr(RunLog, "draw", lambda log: None)
        patch.setattr(snapshots, "save_snapshot", lambda *arguments: None)
        dispatch(["pretrain", f"upstream={family}", f"data={corpus}", f"run_dir={run_dir}", *SHORT, *others])
    return run_dir


@pytest.fixture(scope="module")
def tera(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained("tera/debug", corpus, tmp_path_factory.mktemp("runs") / "tera")


def front(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def sections(text: str) -> list[str]:
    return [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]


def test_pretraining_leaves_a_card(tera: Path, corpus: Path) -> None:
    text = (tera / "export" / "README.md").read_text()
    about = json.loads((tera / "export" / "config.json").read_text())
    info = json.loads((corpus / "corpus.json").read_text())
    assert front(text) == {
        "library_name": "speechssl",
        "pipeline_tag": "feature-extraction",
        "tags": ["speechssl", "tera", "audio", "self-supervised"],
    }
    assert "# TERA encoder (tera/debug)" in text
    assert sections(text) == [
        "The model", "How to use it", "Training data", "Training", "Losses", "Limits", "Files"
    ]  # fmt: skip
    for fact in (
        f"| parameters | {about['parameters']:,} |",
        "| frame rate | 100 per second (160 samples, 10 ms) |",
        "| input | mono, 16,000 Hz",
        f"| tones | {info['splits']['train']['hours']:.4g} | {info['splits']['train']['utterances']} |",
        r"CC0 \| by nobody\_at\_all",
        info["fingerprint"],
        "| steps | 2 |",
        "| seed | 7 |",
        "| precision | `32-true` |",
        f"`{sha256(tera / 'export' / 'model.safetensors')}`",
        f"{about['training']['dev_loss']:.4g}",
        "No licence of these weights has been named.",
    ):
        assert fact in text, fact


def test_the_same_files_give_the_same_card(tera: Path, tmp_path: Path) -> None:
    first, again = (write_card(tera, out=tmp_path / name).read_text() for name in ("a.md", "b.md"))
    assert first == again == (tera / "export" / "README.md").read_text()


def test_sizes_are_composed_once(tera: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Facts(tera / "export").size == "debug"
    monkeypatch.delattr(card_facts.configs, "load")
    assert Facts(tera / "export").size == "debug"


def test_a_card_that_somebody_made_stays(tera: Path) -> None:
    path = tera / "export" / "README.md"
    automatic = path.read_text()
    path.write_text(automatic + "\nIts makers thank their cats.\n")
    write_cards(tera)
    assert "cats" in path.read_text()
    path.write_text("# of another model\n")
    write_cards(tera)
    assert path.read_text() == automatic


def test_what_no_file_tells_is_left_out(tera: Path, tmp_path: Path) -> None:
    export_upstream(load_upstream(str(tera)), tmp_path / "alone")
    text = write_card(tmp_path / "alone", licence="mit").read_text()
    assert sections(text) == ["The model", "How to use it", "Limits", "Files"]
    assert front(text)["license"] == "mit"
    assert "None" not in text
    assert "licence" not in text


def test_a_corpus_that_has_changed_is_not_described(tera: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "export"
    about = json.loads((tera / "export" / "config.json").read_text())
    export_upstream(load_upstream(str(tera)), folder, training=about["training"] | {"fingerprint": "0123456789abcdef"})
    (tmp_path / "run" / "config.yaml").write_text((tera / "config.yaml").read_text())
    text = write_card(tmp_path / "run").read_text()
    assert "| fingerprint | `0123456789abcdef` |" in text
    assert "CC0" not in text


def test_the_origin_has_to_be_where_the_model_came_from(tera: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tera / "export", copy)
    assert "## Losses" in write_card(copy, origin=tera).read_text()
    description = json.loads((copy / "config.json").read_text())
    description["training"]["step"] += 1
    (copy / "config.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match=r"did not export what .*copy holds \(training differs"):
        write_card(copy, origin=tera)
    with pytest.raises(UserError, match=r"is a folder; give the file to write, such as .*README.md"):
        write_card(copy, out=tmp_path)


def test_rows_about_other_weights_are_not_shown(tera: Path, tmp_path: Path) -> None:
    row = {"upstream": "x", "corpus": "c", "view": "", "fold": "", "task": "ks", "protocol": "base", "seed": 0}
    row |= {"upstream_sha256": weights_sha256(load_upstream(str(tera))), "mode": "max", "main_metric": "acc"}
    row |= {"metrics": {"acc": 61.25}, "ci95": [50.0, 70.5], "ci95_speaker": None, "chance": 8.333}
    other = row | {"upstream_sha256": "0" * 64, "metrics": {"acc": 99.0}, "seed": 1}
    results = tmp_path / "results.jsonl"
    results.write_text("".join(json.dumps(one) + "\n" for one in (row, other)))
    text = write_card(tera, [tmp_path], tmp_path / "card.md").read_text()
    assert "| ks | c | `base` | 0 | acc (higher is better) | 61.25 | 50.00 to 70.50 | 8.33 |" in text
    assert "99.0" not in text
    results.write_text(json.dumps(other) + "\n")
    with pytest.raises(UserError, match="holds no row about"):
        write_card(tera, [results], tmp_path / "card.md")


def test_every_stage_has_a_card(corpus: Path, tmp_path: Path) -> None:
    others = ["iterations=2", "task.tokenizer_steps=2", "task.num_codes=8", "task.code_size=4"]
    run = pretrained("beats/debug", corpus, tmp_path / "run", *others)
    cards = {path.parents[1].name: path.read_text() for path in run.glob("stages/*/export/README.md")}
    assert sorted(cards) == sorted(path.name for path in (run / "stages").iterdir() if (path / "export").is_dir())
    last = write_card(run)
    assert last.parents[1].name.endswith("encoder-2")
    text = last.read_text()
    assert "## Stages" in text
    assert "| tokenizer-2 | encoder-1 |" in text
    tokenizer = next(text for name, text in cards.items() if name.endswith("tokenizer-2"))
    assert "load_tokenizer" in tokenizer
    assert "encoder-2" not in tokenizer, "a later stage is none of its parents"
    assert "pipeline_tag" not in front(tokenizer)
    copy = tmp_path / "copy"  # of the model, with the lineage but without the name of its stage
    shutil.copytree(last.parent, copy)
    shutil.copy(run / "lineage.json", copy)
    assert "## Stages" in write_card(copy).read_text()
    description = json.loads((copy / "config.json").read_text())
    del description["training"]["stage"]
    (copy / "config.json").write_text(json.dumps(description))
    assert "## Stages" not in write_card(copy).read_text()


def test_ssast_and_baselines_have_cards(corpus: Path, tmp_path: Path) -> None:
    run = pretrained("ssast/patch_debug", corpus, tmp_path / "run")
    text = (run / "export" / "README.md").read_text()
    assert "| frame rate | 6.25 per second (2,560 samples, 160 ms) |" in text
    export_upstream(load_upstream("fbank"), tmp_path / "fbank")
    assert "Kaldi filter banks" in write_card(tmp_path / "fbank").read_text()


def test_an_untrained_model_says_so(corpus: Path, tmp_path: Path) -> None:
    run = pretrained("tera/debug", corpus, tmp_path / "run", "trainer.max_steps=0")
    assert "untrained" in (run / "export" / "README.md").read_text()


def test_a_tokenizer_alone(tmp_path: Path) -> None:
    export_tokenizer(registry.build_tokenizer("beats", "random", {"num_codes": 16}), tmp_path / "random")
    assert "| kind | `random` |" in write_card(tmp_path / "random").read_text()
    with pytest.raises(UserError, match="holds a tokenizer"):
        write_card(tmp_path / "random", [tmp_path])


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no exported model"):
        write_card(tmp_path)
