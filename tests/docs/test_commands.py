"""Every command block of every page is run, with short settings appended, in a folder that holds what the page names.

A Python block that starts with a comment such as `# my_encoder.py` is a file: it lies in the folder of all blocks of
its page. So do files under `upstream/` and `downstream/`, which then are a family or a task like those of the package.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import torch

import speechssl
import speechssl.downstream
import speechssl.upstream
from speechssl import configs, testing
from speechssl.commands.main import main

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted(ROOT.glob("docs/*.md")),
    *(page for top in ("recipes", "upstream", "downstream") for page in sorted(ROOT.glob(f"{top}/*/README.md"))),
]
LANGUAGES = {"sh": "command", "bash": "command", "python": "code", "yaml": "", "json": "", "text": ""}

# Beginnings of lines that are not run here. The keys of those of ours are checked all the same.
NOT_RUN = {
    "make ": "sets up a virtual environment",
    "git clone ": "needs a network",
    "pip install ": "needs a network",
    "torchrun ": "starts several processes on several devices",
    "python -m speechssl.bridges.s3prl ": "needs a corpus of s3prl's; tests/bridges",
    "python -m xares.run ": "needs X-ARES and its data; tests/bridges",
    "python run_mteb.py": "needs MTEB and its data; tests/bridges",
    "bash recipes/kathbath/convert.sh ": "needs FFmpeg",
    "speechssl demo": "takes minutes; tests/commands/test_demo.py",
    "speechssl extract upstream=s3prl:hubert_local:hubert.pt": "tests/upstream/test_s3prl.py",
    "speechssl benchmark upstream=torchaudio:": "downloads weights; tests/upstream/test_torchaudio.py",
}
CODE_NOT_RUN = {
    'speechssl.load_upstream("hf:facebook/wav2vec2-base", revision=': "needs a network; tests/upstream/test_hf.py",
    'speechssl.load_upstream("s3prl:ssast_patch_base"': "downloads weights; tests/upstream/test_s3prl.py",
    "speechssl.push_to_hub(": "needs a network; tests/bridges",
    'speechssl.from_pretrained("OWNER/NAME"': "needs a network; tests/bridges",
}

SLOW = ("tasks=all", "iterations=3", "speechssl export ", "speechssl pretrain upstream=beats ")

TRAINING = {
    "trainer.max_steps": "2",
    "trainer.accumulate": "1",
    "trainer.save_every": "0",
    "trainer.eval_every": "0",
    "trainer.log_every": "1",
    "trainer.num_workers": "0",
    "trainer.max_seconds": "8",
    "trainer.crop_seconds": "2",
    "trainer.progress": "false",
    "trainer.precision": "32-true",
    "trainer.accelerator": "cpu",
    "trainer.devices": "1",
}
TOKENIZERS = {"task.tokenizer_steps": "2", "task.tokenizer_seconds": "8"}  # of BEATs
SMALL = {"upstream.hidden_size": "48", "upstream.num_layers": "2", "upstream.num_heads": "2"}
HEADS = {"probe.steps": "2", "probe.eval_every": "2", "probe.lrs": "[1e-3]", "probe.batch_size": "8", "device": "cpu"}
TRAINED = ("steps", "batch_size", "eval_every", "lrs", "clip_norm")  # of a task, which `probe.*` replaces
TUNING = {
    "finetuning.steps": "2",
    "finetuning.eval_every": "2",
    "finetuning.warmup_steps": "0",
    "finetuning.batch_size": "4",
    "finetuning.lrs": "[1e-4]",
    "finetuning.precision": "32-true",
    "device": "cpu",
}
SYNTHETIC = {
    "options.num_speakers": "16",
    "options.keyword_takes": "1",
    "options.num_sentences": "2",
    "options.num_foreign": "1",
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    number: int  # of the page's blocks, from 1
    info: str  # behind the opening fence
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.number}"

    @property
    def file(self) -> str:
        """The file that the block shows, "" where it shows none: its first line, or "python file=NAME", says so."""
        found = re.match(r"# ([\w/.-]+\.(?:py|yaml|md|json))\n", self.text) or re.search(r"file=(\S+)", self.info)
        return found[1] if found else ""

    @property
    def language(self) -> str:
        return self.info.partition(" ")[0]

    @property
    def lines(self) -> list[str]:
        """Commands, without comments, and as single lines."""
        joined = self.text.replace("\\\n", " ")
        return [shlex.join(words) for line in joined.splitlines() if (words := shlex.split(line, comments=True))]


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(page, number, one[1].strip(), one[2]) for number, one in enumerate(found, 1)]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
COMMANDS = [block for block in BLOCKS if LANGUAGES.get(block.language) == "command"]
CODE = [block for block in BLOCKS if LANGUAGES.get(block.language) == "code" and not block.file]


def reason(line: str) -> str:
    """Return why a line is not run, "" where it is."""
    return next((why for start, why in NOT_RUN.items() if line.startswith(start)), "")


def slow(block: Block) -> list[pytest.MarkDecorator]:
    """Mark blocks that take all tasks of a corpus, several iterations of BEATs, or compile a program."""
    return [pytest.mark.slow] if any(text in block.text for text in SLOW) else []


def parameters(blocks: list[Block]) -> list:
    return [pytest.param(block, id=block.name, marks=slow(block)) for block in blocks]


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory with what the block's page shows as files."""
    block: Block = request.getfixturevalue("block")
    before = set(sys.modules)
    for shown in blocks_of(block.page):
        if shown.file:
            (tmp_path / shown.file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / shown.file).write_text(shown.text)
    for package in (speechssl.upstream, speechssl.downstream):
        if (top := tmp_path / package.__name__.rpartition(".")[2]).is_dir():
            show_all(package, top, monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


def show_all(package: ModuleType, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a folder of a page's families or tasks stand for a checkout in which they lie beside all others."""
    for one in Path(next(iter(package.__path__))).iterdir():
        if not (top / one.name).exists():
            (top / one.name).symlink_to(one)
    monkeypatch.setattr(package, "__path__", [str(top)])
    if package is speechssl.downstream and not (top.parent / "upstream").is_dir():
        (top.parent / "upstream").symlink_to(next(iter(speechssl.upstream.__path__)))
        monkeypatch.setattr(speechssl.upstream, "__path__", [str(top.parent / "upstream")])
    if package is speechssl.upstream and not (top.parent / "downstream").is_dir():
        (top.parent / "downstream").symlink_to(next(iter(speechssl.downstream.__path__)))


def short(verb: str, given: list[str], all_tasks: bool = True) -> list[str]:
    """Return what to append to a command of ours so that it takes seconds; a corpus may have a few tasks only."""
    keys = dict(text.partition("=")[::2] for text in given)
    synthetic = SYNTHETIC | ({} if all_tasks else {"options.num_speakers": "6", "options.tasks": "basic"})
    if "--help" in keys:
        added = {}
    elif verb == "pretrain":
        added = TRAINING | ({} if re.search("debug|tera/tiny", keys["upstream"]) else SMALL)
        added |= TOKENIZERS if keys["upstream"].startswith("beats") else {}
    elif verb == "benchmark":
        added = TUNING if keys.get("finetune") == "true" else HEADS | small_head(keys["tasks"])
    elif verb == "prepare":
        added = {"workers": "1"} | (synthetic if keys["corpus"] == "synthetic" else {})
    else:
        added = {}
    return [f"{key}={value}" for key, value in added.items()]


def small_head(task: str) -> dict[str, str]:
    """Return the settings by which a single task's debug size differs from its base size."""
    if "/" in task or task not in speechssl.list_tasks():
        return {}
    values = configs.load("downstream", f"{task}/debug")[1]
    return {f"task.{key}": str(value).lower() for key, value in values.items() if key not in TRAINED}


def run_ours(line: str, capsys: pytest.CaptureFixture, all_tasks: bool = True) -> None:
    verb, *given = shlex.split(line)[1:]
    try:
        main([verb, *given, *short(verb, given, all_tasks)])
    except SystemExit as error:
        if error.code:
            pytest.fail(f"{line}\nended with {error.code}: {capsys.readouterr().err[-600:]}")


def run_recipe(line: str) -> None:
    """Print what a recipe would do, or only parse it where it has no dry=1; what is in brackets is taken too."""
    _, script, *given = shlex.split(line)
    plain = [word[1:-1] if re.fullmatch(r"\[\w+=.*\]", word) else word for word in given]
    arguments = [word for word in plain if not word.endswith("=...")]
    known = re.search(r'(?:read_arguments |known=)"([^"$]*=)"', (ROOT / script).read_text())
    unknown = [word for word in arguments if known and word.partition("=")[0] + "=" not in known[1].split()]
    assert not unknown, f"{script} has no argument {unknown[0]}"
    dry = [*arguments, "dry=1"] if known and "dry=" in known[1] else []
    command = ["bash", *([] if dry else ["-n"]), str(ROOT / script), *dry]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout or not dry


@pytest.mark.parametrize("block", parameters(COMMANDS))
def test_commands(block: Block, folder: Path, workspace: object, capsys: pytest.CaptureFixture) -> None:
    running = [line for line in block.lines if not reason(line)]
    workspace.link("\n".join(running), folder)
    for line in block.lines:
        if line in running and line.startswith("bash recipes/"):
            run_recipe(line)
        elif line in running:
            assert line.startswith("speechssl "), f"{block.name}: {line!r} is neither run nor in NOT_RUN"
            run_ours(line, capsys, all_tasks="tasks=all" in block.text)
        elif line.startswith("speechssl "):
            configs.compose(line.split()[1], shlex.split(line)[2:])


def namespace() -> dict[str, object]:
    """Return the names that pages take for granted."""
    a, b = testing.speech_like([16000, 12000])
    waveforms, lengths = torch.nn.utils.rnn.pad_sequence([a, b], batch_first=True), torch.tensor([16000, 12000])
    given = {"waveform_a": a, "waveform_b": b, "waveforms": waveforms, "lengths": lengths}
    return {"speechssl": speechssl, "torch": torch, "upstream": speechssl.load_upstream("fbank"), **given}


@pytest.mark.parametrize("block", parameters(CODE))
def test_code(block: Block, folder: Path, workspace: object) -> None:
    statements = block.text.splitlines()
    kept = [line for line in statements if not any(start in line for start in CODE_NOT_RUN)]
    text = "\n".join(kept)
    workspace.link(text, folder)
    exec(compile(text, block.name, "exec"), namespace())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_says_what_it_is(page: Path) -> None:
    for block in blocks_of(page):
        known = ", ".join(LANGUAGES)
        assert block.language in LANGUAGES, f"{block.name} is {block.language!r}; expected one of {known}"
    fences = re.findall(r"^\s*```", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(fences) == 2 * len(blocks_of(page)), f"{page} has a block that was not found (indented, or not closed)"


def test_what_is_not_run_is_on_some_page() -> None:
    lines = [line for block in COMMANDS for line in block.lines]
    unknown = [start for start in NOT_RUN if not any(line.startswith(start) for line in lines)]
    unknown += [start for start in CODE_NOT_RUN if not any(start in block.text for block in CODE)]
    assert not unknown


def test_a_wrong_command_fails(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(pytest.fail.Exception, match="no key 'corpsu'"):
        run_ours("speechssl prepare corpsu=folder corpus=folder source=here out=there", capsys)
    with pytest.raises(AssertionError, match="has no argument stepps=3"):
        run_recipe("bash recipes/esc50/run.sh stepps=3")
