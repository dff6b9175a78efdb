"""A BEATs that was fine-tuned with the head of the paper is a fine-tuned BEATs: it classifies, converts and teaches."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

import speechssl
from speechssl import testing
from speechssl.commands.main import dispatch
from speechssl.data.cuts import CutTable, open_corpus
from speechssl.data.prepare import prepare
from speechssl.files import load_safetensors, load_torch, read_json
from speechssl.hub import load_upstream
from speechssl.nn.mean_linear import MeanLinear
from speechssl.probe.rows import read_lines
from speechssl.train.stages import read_lineage
from speechssl.upstream.beats import Beats

PITCHES = (300.0, 1200.0, 2600.0)  # Hz


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty tones of three pitches, 0.15 to 0.75 s long: the shortest are too short for a patch."""
    root = tmp_path_factory.mktemp("corpus")
    random = np.random.default_rng(0)
    for i in range(60):
        moments = np.arange(2400 + 1600 * (i % 7)) / 16000
        tone = 0.2 * np.sin(2 * np.pi * PITCHES[i % 3] * random.uniform(0.95, 1.05) * moments)
        path = root / "audio" / f"pitch{i % 3}" / f"{i:02d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone + 0.01 * random.standard_normal(len(moments)), 16000)
    prepare("folder", root / "audio", root / "prepared", label_from="parent")
    return root / "prepared"


@pytest.fixture(scope="module")
def tuned(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a fine-tuned result."""
    return finetune(corpus, tmp_path_factory.mktemp("tuned"), "finetuning.epochs=3")


def finetune(corpus: Path, run_dir: Path, *more: str) -> Path:
    given = ["upstream=beats/debug@random", "tasks=ks/debug", "label=label", f"data={corpus}", f"run_dir={run_dir}"]
    recipe = ["finetune=true", "finetuning.head=mean", "finetuning.lrs=[1e-3]", "finetuning.epochs=1"]
    dispatch(["benchmark", *given, *recipe, *more])
    return run_dir / read_lines(run_dir / "results.jsonl")[-1]["run"]


def head_of(run_dir: Path, width: int) -> MeanLinear:
    """Return the head of an export, from the file that lies beside the model."""
    state = load_safetensors(run_dir / "export" / "head.safetensors")
    head = MeanLinear(width, len(state["head.classifier.bias"]), norm=False)
    head.load_state_dict({name.removeprefix("head."): tensor for name, tensor in state.items()})
    return head.eval()


def waveforms_of(table: CutTable) -> list[Tensor]:
    return [torch.from_numpy(table.read(index)) for index in range(len(table))]


@torch.no_grad()
def test_the_export_classifies_as_what_was_tested(tuned: Path, corpus: Path) -> None:
    upstream, table = load_upstream(str(tuned)), open_corpus(corpus).table("test")
    waveforms = waveforms_of(table)
    assert min(map(len, waveforms)) < Beats.min_samples, "short clips are padded as in fine-tuning"
    logits = upstream.classify(waveforms)
    states, frames = upstream(waveforms)
    torch.testing.assert_close(logits, head_of(tuned, upstream.width)(states[-1], frames)[0], rtol=0, atol=1e-5)
    classes = read_json(tuned / "export" / "head.json")["classes"]
    predicted = {line["id"]: line["hypothesis"] for line in read_lines(tuned / "predictions.jsonl")}
    assert predicted == {name: classes[int(row.argmax())] for name, row in zip(table.ids, logits, strict=True)}
    assert len(set(predicted.values())) > 1


@torch.no_grad()
def test_the_export_becomes_a_published_file(tuned: Path, corpus: Path, tmp_path: Path) -> None:
    published = tmp_path / "finetuned.pt"
    dispatch(["convert", "family=beats", f"source={tuned / 'export'}", f"out={published}"])
    cfg = load_torch(published)["cfg"]
    assert (cfg["finetuned_model"], cfg["predictor_class"]) == (True, 3)
    waveforms = waveforms_of(open_corpus(corpus).table("test"))
    before, after = load_upstream(str(tuned)), load_upstream("beats", checkpoint=published)
    assert torch.equal(before.classify(waveforms), after.classify(waveforms))


def test_it_teaches_and_all_that_follows_has_seen_labels(tuned: Path, corpus: Path, tmp_path: Path) -> None:
    small = ["task.num_codes=8", "task.code_size=6", "task.predictor_layers=1", "task.estimator_layers=1"]
    small += ["task.initial_vectors=200", "trainer.max_steps=2", "trainer.eval_every=0", "trainer.max_seconds=4"]
    small += ["trainer.crop_seconds=0.5", "trainer.num_threads=1", "trainer.num_workers=0"]
    given = [f"data={corpus}", f"run_dir={tmp_path / 'run'}", f"teacher={tuned / 'export'}"]
    dispatch(["pretrain", "upstream=beats/debug", *given, "task.target=patch_logits", *small])
    stages = read_lineage(tmp_path / "run")
    assert [entry["facts"]["labels_seen"] for entry in stages] == [True] * 3
    assert stages[0]["facts"]["teacher"]["target"] == "patch_logits"
    assert load_upstream(str(tmp_path / "run")).classifier is None


def test_other_heads_stay_beside_the_model(corpus: Path, tmp_path: Path) -> None:
    for number, other in enumerate(("finetuning.layers=mix", "finetuning.head=linear", "finetuning.head=task")):
        export = finetune(corpus, tmp_path / str(number), other) / "export"
        assert load_upstream(str(export)).classifier is None
        assert (export / "head.safetensors").is_file()


@torch.no_grad()
@pytest.mark.parametrize(("pooling", "fits"), [("mean", True), ("none", True), ("concat", False)])
def test_a_classifier_is_taken_where_it_means_the_same(pooling: str, fits: bool) -> None:
    upstream = speechssl.load_upstream("beats/debug@random", frequency_pooling=pooling)
    torch.manual_seed(0)
    head = MeanLinear(upstream.hidden_size, 5, norm=False)
    torch.nn.init.normal_(head.classifier.bias)
    random = torch.get_rng_state()
    own = upstream.with_classifier(head.classifier.weight, head.classifier.bias)
    assert torch.equal(torch.get_rng_state(), random)
    assert (own is not None) == fits
    if own is not None:
        waveforms = testing.speech_like([16000, 9000, 2000])
        states, frames = upstream(waveforms)
        torch.testing.assert_close(own.classify(waveforms), head(states[-1], frames)[0], rtol=0, atol=1e-5)
        assert (own.family, own.config) == ("beats", upstream.config | {"num_classes": 5})
        assert upstream.classifier is None


def test_no_classifier_where_the_official_rule_lets_columns_count_in_part() -> None:
    upstream = speechssl.load_upstream("beats/debug@random", mask_rule="official")
    assert upstream.with_classifier(torch.zeros(5, 48), torch.zeros(5)) is None


def test_a_classifier_is_replaced() -> None:
    upstream = speechssl.load_upstream("beats/debug@random", num_classes=7)
    own = upstream.with_classifier(torch.ones(5, 48), torch.zeros(5))
    assert (own.classifier.out_features, upstream.classifier.out_features) == (5, 7)


def test_other_families_keep_none() -> None:
    assert speechssl.load_upstream("tera/debug@random").with_classifier(torch.zeros(5, 4), torch.zeros(5)) is None
