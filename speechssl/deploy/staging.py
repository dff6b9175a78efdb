"""Something that is made beside its place, and appears there only when it is whole and found right."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from speechssl.files import make_folder

TENSORS = (
    "model.safetensors",
    "pretraining.safetensors",
    "tokenizer.safetensors",
)  # of an exported folder, some of them


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Yield a path beside `out`, of the same name, that nothing is left of in the end."""
    make_folder(out.parent)
    folder = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder / out.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def place_folder(staged: Path, out: Path) -> None:
    """Put a written folder where it belongs; of an older one there, `config.json` goes first and comes last."""
    if not out.exists():
        os.replace(staged, out)
        return
    for name in ("config.json", *TENSORS):
        (out / name).unlink(missing_ok=True)
    for file in sorted(staged.iterdir(), key=lambda file: file.name == "config.json"):
        os.replace(file, out / file.name)
