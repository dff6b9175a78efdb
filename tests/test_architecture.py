"""The house rules that a reader relies on: import direction, packaging, and a core that needs no optional package."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From top to bottom; a module may import from its own line and from the lines below.
LINES = [
    ["commands"],
    ["bridges", "probe", "finetune", "deploy", "extract", "report"],
    ["hub", "tokenizer_hub", "lineage"],
    ["train"],
    ["data"],
    ["upstream", "downstream", "registry", "configs"],
    ["audio", "nn", "losses", "metrics", "optim", "figures"],
    ["interfaces"],
    ["errors", "files", "stand_ins", "version", "waveforms"],
]
LEVEL = {name: number for number, line in enumerate(LINES) for name in line}
LEAVES = set(LINES[6])
ALLOWED = {("downstream", "data.cuts")}  # a task reads its cuts and labels


def modules() -> list[tuple[Path, str]]:
    """Return every source file with its dotted name below `speechssl`."""
    found = []
    for top in ("speechssl", "upstream", "downstream"):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts[1:] if top == "speechssl" else parts
            found.append((path, ".".join(p for p in parts if p != "__init__")))
    return found


def imported(path: Path) -> set[str]:
    """Return dotted names below `speechssl` that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import on line {node.lineno}"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("speechssl.") for name in names if name.startswith("speechssl.")}


def offence(owner: str, target: str) -> str | None:
    """Return why `owner` must not import `target`, or None where it may."""
    a, b = owner.split("."), target.split(".")
    if a[0] in ("", "testing") or b[0] not in LEVEL:
        return None
    if any(a[0] == source and target.startswith(allowed) for source, allowed in ALLOWED):
        return None
    if LEVEL[a[0]] > LEVEL[b[0]]:
        return "imports upwards"
    if a[0] in LEAVES and b[0] in LEAVES and a[0] != b[0]:
        return "a leaf imports another leaf"
    if a[0] in ("upstream", "downstream"):
        if b[0] in ("upstream", "downstream") and a[:2] != b[:2]:
            return "a family or task imports another"
        if b[0] in ("registry", "configs"):
            return "a family reaches for the registry"
    elif b[0] in ("upstream", "downstream") and len(b) > 1 and not b[1].startswith("__"):
        return "the core names a family or task"
    return None


def test_import_direction() -> None:
    offenders = [
        f"{path.relative_to(ROOT)} imports {target}: {why}"
        for path, name in modules()
        for target in sorted(imported(path))
        if (why := offence(name, target))
    ]
    assert not offenders, "\n".join(offenders)


@pytest.mark.parametrize(
    ("owner", "target"),
    [
        ("nn.attention", "train.loop"),
        ("nn.attention", "audio.mel"),
        ("upstream.tera.model", "upstream.beats.model"),
        ("downstream.ks.task", "upstream.tera"),
        ("probe.runner", "upstream.tera"),
        ("downstream.ks.task", "data.loader"),
        ("files", "interfaces"),
    ],
)
def test_the_direction_test_can_fail(owner: str, target: str) -> None:
    assert offence(owner, target)


def test_every_folder_of_code_is_a_package() -> None:
    for top in ("speechssl", "upstream", "downstream"):
        for folder in (ROOT / top).rglob("*"):
            if folder.is_dir() and any(folder.glob("*.py")):
                assert (folder / "__init__.py").is_file(), f"{folder} would be missing from the wheel"


def test_every_module_says_what_it_is() -> None:
    silent = [str(path) for path, _ in modules() if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not silent


def test_core_and_families_come_from_one_root() -> None:
    import speechssl
    import speechssl.downstream
    import speechssl.upstream

    assert Path(speechssl.__file__).parents[1] == ROOT
    assert Path(speechssl.upstream.__file__).parents[1] == ROOT
    assert Path(speechssl.downstream.__file__).parents[1] == ROOT


BLOCKED = """
import importlib.abc, sys
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise {error}
sys.meta_path.insert(0, Block())
import torch, speechssl
upstream = speechssl.load_upstream("tera/debug@random", normalization="utterance")
states = upstream([torch.randn(16000), torch.randn(8000)]).hidden_states
assert len(states) == upstream.num_layers + 1 and states[0].shape[:2] == (2, 101)
assert speechssl.load_upstream("fbank")([torch.randn(16000)]).hidden_states[0].shape == (1, 98, 240)
print("extracted")
"""


@pytest.mark.parametrize(
    "error",
    [
        "ModuleNotFoundError(name)",
        "OSError('libtorchaudio.so: undefined symbol')",
        "RuntimeError('wrong CUDA version')",
    ],
    ids=["absent", "broken library", "wrong build"],
)
def test_core_extracts_without_torchaudio(error: str) -> None:
    names = ("torchaudio", "s3prl", "kaldi_native_fbank", "espeakng_loader", "librosa")
    code = BLOCKED.format(names=names, error=error)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "extracted", done.stderr


def test_import_is_cheap() -> None:
    code = "import sys, speechssl, speechssl.commands.main; sys.exit('torch' in sys.modules or 'lhotse' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
