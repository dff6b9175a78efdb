"""What is installed, what is missing or does not fit together, and what to type.

Starts without torch: versions come from package metadata, hardware from the operating system.
"""

import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path

from speechssl.version import __version__

CORE = (
    "torch",
    "numpy",
    "soundfile",
    "soxr",
    "lhotse",
    "lightning-fabric",
    "hydra-core",
    "safetensors",
    "jiwer",
)
OPTIONAL = {  # package: (extra, what it is for)
    "torchaudio": ("torchaudio", "parity tests and foreign upstreams"),
    "s3prl": ("s3prl", "parity tests and s3prl upstreams"),
    "transformers": ("hf", "models of Hugging Face"),
    "flashlight-text": ("lm", "speech recognition with a language model"),
    "onnxscript": ("export", "writing ONNX models"),
    "onnxruntime": ("export", "checking and quantising exported models"),
    "espeakng-loader": ("demo", "the synthetic corpus, and `speechssl demo`"),
    "pytest": ("test", "the test suite"),
    "ruff": ("test", "the style checks"),
}


def run_plain(arguments: list[str]) -> None:
    """Print the findings; exits with 1 when the core does not work."""
    findings = core() + pairs() + [root()]
    print(f"speechssl {__version__}, Python {platform.python_version()}, {platform.platform()}")
    print(f"{os.cpu_count()} CPU cores, {memory()}, {gpu()}")
    for status, text in findings + optional():
        print(f"  [{status}] {text}")
    problems = [text for status, text in findings if status == "!!"]
    print("no problem found" if not problems else f"{len(problems)} problem(s) found, see the lines marked !!")
    sys.exit(1 if problems else 0)


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def core() -> list[tuple[str, str]]:
    rows = []
    for package in CORE:
        found = version(package)
        if found is None:
            rows.append(("!!", f"{package} is missing; type: pip install speechssl"))
        else:
            rows.append(("ok", f"{package} {found}"))
    return rows


def pairs() -> list[tuple[str, str]]:
    """Check torch against torchaudio: binary packages that must be of the same release and build."""
    torch, torchaudio = version("torch"), version("torchaudio")
    if torch is None or torchaudio is None:
        return []
    release = [".".join(v.split("+")[0].split(".")[:2]) for v in (torch, torchaudio)]
    fix = f'type: pip install --force-reinstall "torch=={release[1]}.*" "torchaudio=={release[1]}.*"'
    drop = "or: pip uninstall torchaudio (the core does not need it)"
    if release[0] != release[1]:
        return [
            (
                "!!",
                f"torchaudio {torchaudio} does not fit torch {torch} and cannot be imported; {fix}; {drop}",
            )
        ]
    missing = missing_library("torchaudio")
    if missing:
        return [
            (
                "!!",
                f"torchaudio {torchaudio} needs {missing}, which this build of torch {torch} lacks; {fix}; {drop}",
            )
        ]
    return [("ok", f"torchaudio {torchaudio} fits torch {torch}")]


def missing_library(package: str) -> str:
    """Return the CUDA library a package's extension wants and no installed package has, or an empty string."""
    files = [Path(str(f.locate())) for f in metadata.files(package) or [] if f.name.endswith(".so")]
    wanted = {
        name for f in files if f.is_file() for name in needed(f) if name.startswith(("libcudart", "libtorch_cuda"))
    }
    site = files[0].parents[2] if files else Path()
    for name in sorted(wanted):
        if not any(site.glob(f"torch/lib/{name}")) and not any(site.glob(f"nvidia/**/lib/{name}")):
            return name
    return ""


def needed(library: Path) -> list[str]:
    """Return names of shared CUDA or torch libraries that occur in an extension's string table."""
    return [m.decode() for m in re.findall(rb"lib(?:cudart|torch_cuda)\.so(?:\.\d+)*", library.read_bytes())]


def optional() -> list[tuple[str, str]]:
    rows = []
    for package, (extra, purpose) in OPTIONAL.items():
        if package == "torchaudio" and version(package):
            continue
        found = version(package)
        text = (
            f"{package} {found}" if found else f"{package} not installed ({purpose}): pip install 'speechssl[{extra}]'"
        )
        rows.append(("ok" if found else "--", text))
    return rows


def root() -> tuple[str, str]:
    """Check that the core and the families come from the same checkout or installation."""
    import speechssl
    import speechssl.upstream

    core_root = Path(speechssl.__file__).parents[1]
    family_root = Path(speechssl.upstream.__file__).parents[1]
    if family_root in (core_root, core_root / "speechssl"):
        return ("ok", f"installed at {core_root}")
    return ("!!", f"core at {core_root} but families at {family_root}; type: pip install -e {core_root}")


def memory() -> str:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{pages / 2**30:.0f} GiB memory"


def gpu() -> str:
    cards = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    models = [line.split(":", 1)[1].strip() for c in cards for line in c.read_text().splitlines() if "Model" in line]
    return ", ".join(models) if models else "no NVIDIA GPU"
