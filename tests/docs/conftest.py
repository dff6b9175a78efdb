"""What the pages name: recordings, corpora, runs and published files, each made when a page first needs it.

Everything comes out of commands and functions of the package itself, with two steps of training, so that what the pages
type works on real files.
"""

import gzip
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import soundfile
import torch

from speechssl import testing
from speechssl.commands.main import main

FIXTURES = Path(__file__).parents[1] / "fixtures"
CLASSES = ("yes", "no", "stop")
SPEAKERS = "options.num_speakers=16"  # the fewest with which every task has a view
SYNTHETIC = (SPEAKERS, "options.keyword_takes=1", "options.num_sentences=2", "options.num_foreign=1")
TRAINING = (
    "trainer.max_steps=2",
    "trainer.save_every=0",
    "trainer.eval_every=0",
    "trainer.log_every=1",
    "trainer.num_workers=0",
    "trainer.max_seconds=8",
    "trainer.crop_seconds=2",
    "trainer.progress=false",
    "trainer.precision=32-true",
    "trainer.accelerator=cpu",
)
HEADS = ("probe.steps=2", "probe.eval_every=2", "probe.lrs=[1e-3]")
TUNING = ("finetuning.warmup_steps=0", "finetuning.steps=2", "finetuning.eval_every=2", "finetuning.batch_size=4")


class Workspace:
    """Folders and files by the names that pages give them, made once."""

    def __init__(self, root: Path):
        self.root = root
        self.made: dict[Callable, Path] = {}

    def path(self, name: str) -> Path:
        """Return what a page calls `name`, made now if it is not there yet."""
        make = NAMES[name]
        if make not in self.made:
            before = Path.cwd()
            os.chdir(self.root)
            try:
                self.made[make] = (self.root / make(self)).resolve()
            finally:
                os.chdir(before)
        return self.made[make]

    def link(self, text: str, folder: Path) -> None:
        """Put into a folder all that a text names, but for what its own commands write."""
        written = re.findall(r"\b(?:out|run_dir)=([^\s']+)", text)
        for name in NAMES:
            place = folder / name
            if name in written or place.exists() or not re.search(rf"(?<![\w/.-]){re.escape(name)}(?![\w-])", text):
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(self.path(name))


def recordings(workspace: Workspace) -> str:
    """A folder per class; what is said differs in pitch only."""
    for number, waveform in enumerate(testing.speech_like([12000 + 160 * (k % 7) for k in range(60)])):
        path = workspace.root / "recordings" / CLASSES[number % 3] / f"clip-{number // 3}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, waveform.numpy(), 16000)
    return "recordings"


def own_corpus(workspace: Workspace) -> str:
    source = workspace.path("recordings")
    main(["prepare", "corpus=folder", f"source={source}", "label_from=parent", "out=own_corpus", "workers=1"])
    return "own_corpus"


def synthetic(workspace: Workspace) -> str:
    main(["prepare", "corpus=synthetic", "out=synthetic", "workers=1", *SYNTHETIC])
    return "synthetic"


def view(name: str) -> Callable[[Workspace], str]:
    def make(workspace: Workspace) -> str:
        return str(workspace.path("data/synthetic") / name)

    return make


def cuts(workspace: Workspace) -> str:
    """All keywords of the synthetic corpus in one lhotse manifest, with accents and speakers."""
    lines = []
    for split in ("train", "dev", "test"):
        with gzip.open(workspace.path("data/synthetic") / "classify" / f"{split}.jsonl.gz", "rt") as file:
            lines += [line.replace("../audio/", str(workspace.path("data/synthetic") / "audio") + "/") for line in file]
    with gzip.open("cuts.jsonl.gz", "wt") as file:
        file.writelines(lines)
    return "cuts.jsonl.gz"


def other_corpus(workspace: Workspace) -> str:
    shares = ["options.dev_share=0.1", "options.test_share=0.2"]
    main(["prepare", "corpus=lhotse", f"source={workspace.path('cuts.jsonl.gz')}", "out=other_corpus", *shares])
    return "other_corpus"


def folds(workspace: Workspace) -> str:
    """Sounds of ESC-50's layout in five folds."""
    root = workspace.root / "ESC-50-master"
    (root / "audio").mkdir(parents=True)
    (root / "meta").mkdir()
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for number, waveform in enumerate(testing.speech_like([16000] * 30, seed=3)):
        fold, target = number % 5 + 1, number // 5 % 2
        lines.append(f"{fold}-{number}-A-{target}.wav,{fold},{target},class_{target},False,{number},A")
        soundfile.write(root / "audio" / lines[-1].split(",")[0], waveform.numpy(), 16000)
    (root / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n")
    main(["prepare", "corpus=esc50", f"source={root}", "out=esc50", "workers=1"])
    return "esc50/folds"


def run(upstream: str, *arguments: str) -> Callable[[Workspace], str]:
    def make(workspace: Workspace) -> str:
        out, data = f"run-{upstream.partition('/')[0]}", workspace.path("data/words")
        main(["pretrain", f"upstream={upstream}", f"data={data}", f"run_dir={out}", *arguments, *TRAINING])
        return out

    return make


def features(workspace: Workspace) -> str:
    where = [f"upstream={workspace.path('runs/mine')}", f"data={workspace.path('data/words')}"]
    main(["extract", *where, "split=test", "out=features", "pooling=mean"])
    return "features"


def rows(upstreams: str, out: str) -> Callable[[Workspace], str]:
    """Return a maker of a run directory of the benchmark: two rows per upstream."""

    def make(workspace: Workspace) -> str:
        named = upstreams.replace("runs/mine", str(workspace.path("runs/mine")))
        data = workspace.path("data/synthetic")
        main(
            [
                "benchmark",
                f"upstream={named}",
                "tasks=[ks/debug,classify/debug]",
                f"data={data}",
                f"run_dir={out}",
                *HEADS,
            ]
        )
        return out

    return make


def tuned(workspace: Workspace) -> str:
    """The export of a BEATs that was fine-tuned, classifier included."""
    where = [f"upstream={workspace.path('runs/beats')}", f"data={workspace.path('data/esc50/folds')}/fold1"]
    kept = ["settings.mean=null", "settings.std=null"]  # of the model's spectrograms, as a teacher needs them
    main(["benchmark", *where, "tasks=aec", "run_dir=tuned", "finetune=true", "preset=beats/esc50", *kept, *TUNING])
    return str(next(Path("tuned").rglob("export")))


def published(family: str, source: str, out: str) -> Callable[[Workspace], str]:
    def make(workspace: Workspace) -> str:
        head, _, rest = source.partition("/stages/")
        folder = workspace.path(head) / "stages" / rest if rest else workspace.path(head)
        main(["convert", f"family={family}", f"source={folder}", f"out={out}"])
        return out

    return make


def program(workspace: Workspace) -> str:
    """A head on its upstream, exported for PyTorch."""
    run = workspace.path("runs/bench") / "mine" / "ks"
    main(["export", f"run={run}", "out=words.pt2", "format=torch"])
    return "words.pt2"


def tera_file(workspace: Workspace) -> str:
    """A file in the layout that s3prl publishes."""
    return str(FIXTURES / "tera_published.pt")


def hubert(workspace: Workspace) -> str:
    """A small random HuBERT with its feature extractor, as save_pretrained writes them."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    convolutions = {"conv_dim": (24,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.HubertModel(transformers.HubertConfig(**sizes, **convolutions))
    model.save_pretrained("hubert")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained("hubert")
    return "hubert"


def lexicon(workspace: Workspace) -> str:
    """Pronunciations of the words of the synthetic sentences, in LibriSpeech's layout."""
    from speechssl.data.cuts import open_corpus
    from speechssl.data.pronunciations import pronounce

    words: set[str] = set()
    for split in ("train", "dev", "test"):
        table = open_corpus(workspace.path("data/synthetic") / "asr").table(split)
        words |= {word for text in table.column("text") for word in text.split()}
    Path("lexicon.txt").write_text("".join(f"{word}\t{' '.join(pronounce(word))}\n" for word in sorted(words)))
    return "lexicon.txt"


def trials(split: str) -> Callable[[Workspace], str]:
    """Return a maker of a list of pairs, as VoxCeleb's: 1 (one voice) or 0, and two utterances."""

    def make(workspace: Workspace) -> str:
        lines = []
        with gzip.open(workspace.path("data/synthetic") / "asv" / f"{split}.jsonl.gz", "rt") as file:
            for cut in map(json.loads, file):
                lines += [f"{same} {cut['id']} {other}\n" for other, same in cut["custom"].get("trials") or []]
        Path(f"{split}.txt").write_text("".join(lines))
        return f"{split}.txt"

    return make


NAMES: dict[str, Callable[[Workspace], str]] = {
    "recordings": recordings,
    "RECORDINGS": recordings,
    "data/mine": own_corpus,
    "data/synthetic": synthetic,
    "CORPUS": synthetic,
    "DATA": synthetic,
    "data/words": view("ks"),
    "data/audioset": view("aec"),
    "AUDIOSET/balanced": view("aec"),
    "data/librispeech": own_corpus,
    "data/esc50/folds": folds,
    "ESC50/folds": folds,
    "cuts.jsonl.gz": cuts,
    "data/other": other_corpus,
    "runs/mine": run("tera/tiny"),
    "runs/fsdd/data": synthetic,
    "runs/esc10_fsdd/esc10": view("aec"),
    "runs/esc10_fsdd/fsdd": own_corpus,
    "runs/ssast": run("ssast/patch_debug", "upstream.hidden_size=64", "upstream.num_heads=1"),
    "runs/beats": run("beats/debug", "iterations=3", "upstream.mean=15.41663", "upstream.std=6.55582"),
    "runs/bench": rows("{fbank_no_cmvn: fbank_no_cmvn, mine: runs/mine}", "bench"),
    "runs/other": rows("[fbank_no_cmvn,tera/tiny@random]", "other"),
    "runs/tuned/export": tuned,
    "runs/finetuned/export": tuned,
    "features/mine": features,
    "states-1000000.ckpt": tera_file,
    "states.ckpt": tera_file,
    "SSAST-Base-Patch-400.pth": published("ssast", "runs/ssast", "ssast.pth"),
    "BEATs_iter3.pt": published("beats", "runs/beats", "beats.pt"),
    "Tokenizer_iter3.pt": published("beats", "runs/beats/stages/03-tokenizer-2", "tokenizer.pt"),
    "facebook/hubert-base-ls960": hubert,
    "facebook/wav2vec2-base": hubert,
    "microsoft/wavlm-base-plus": hubert,
    "librispeech-lexicon.txt": lexicon,
    "words.pt2": program,
    "dev.txt": trials("dev"),
    "test.txt": trials("test"),
}
for same in ("RUN_DIR", "runs/fsdd/pretrained-1"):
    NAMES[same] = NAMES["runs/mine"]


@pytest.fixture(scope="module", autouse=True)
def no_pictures() -> Iterator[None]:
    """Drawing takes longer than two steps of training, and is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path, **settings: Path(path).touch())
        yield


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("pages"))
