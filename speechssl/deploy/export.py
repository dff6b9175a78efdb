"""Models as programs that run without this project: ONNX files, torch.export programs, and folders to publish.

A file appears only after it has been read back, run, and found to give what the model gives.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechssl.bridges.repository import save_pretrained
from speechssl.deploy.card import write_card
from speechssl.deploy.onnx_file import OPSET, require_onnx, write_onnx
from speechssl.deploy.program import Exportable, exportable, trace
from speechssl.deploy.program_file import write_program
from speechssl.deploy.quantise import KINDS, quantise_file
from speechssl.deploy.runtime import Agreement, compare, onnx_runner, program_runner
from speechssl.deploy.staging import place_folder, staged
from speechssl.deploy.trained import export_of, is_result
from speechssl.errors import UserError, nearest
from speechssl.hub import load_upstream

FORMATS = ("onnx", "torch", "hub")
TOLERANCE = 1e-4  # of an output's largest value, where that is above 1
MAX_ERROR = 0.2  # root mean square that quantisation may add, as a share of the output's


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        path: the file or folder.
        size: bytes, of the file.
        agreement: how far every output is from the model's; empty for a folder.
        quantised: the same of the quantised file, if one was asked for; it is then the one that was written.
        full_size: bytes before quantisation.
        about: what travels with the program.
    """

    path: Path
    size: int
    agreement: list[Agreement]
    quantised: list[Agreement]
    full_size: int
    about: dict[str, Any]


def export(
    run: str,
    format: str,
    out: str | Path,
    *,
    upstream: str | None = None,
    layers: Sequence[int] | None = None,
    opset: int = OPSET,
    tolerance: float = TOLERANCE,
    quantise: str | None = None,
    max_error: float = MAX_ERROR,
    dtype: str | None = None,
) -> Written:
    """Write a model in another form, and return what was written and how well it agrees with the model.

    Args:
        run: a result of a benchmark (see `load_trained`), else anything that `load_upstream` takes.
        format: "onnx", "torch" (a .pt2 file), or "hub" (a folder with weights, configuration and model card).
        out: the file or folder to write.
        upstream: of a result on frozen features: where its upstream is now; None = where it was.
        layers: of an encoder: hidden states that the program returns; None = the last.
        opset: version of ONNX's operators.
        tolerance: largest difference allowed, as a share of the output's largest value where that is above 1.
        quantise: "int8" for an ONNX file with small weights, or None.
        max_error: of quantised outputs: the root mean square of the difference, as a share of the output's.
        dtype: of a folder's tensors, "float16" for half the space; None = as they are.

    Raises:
        UserError: wrong keys, a model that cannot be exported, or a program that differs from it by more.
    """
    out = Path(out)
    _check(format, out, upstream, layers, quantise)
    if format == "hub":
        return _folder(run, out, dtype)
    if dtype is not None:
        raise UserError(f"dtype={dtype} goes with format=hub; a program is made smaller with quantise=int8")
    exported = exportable(run, upstream, layers)
    program = trace(exported)
    with staged(out) as path:
        if format == "onnx":
            write_onnx(program, exported, path, opset)
            agreement = compare(onnx_runner(path), exported)
        else:
            write_program(program, exported, path)
            agreement = compare(program_runner(path), exported)
        _require_tolerance(agreement, tolerance)
        full_size, small = path.stat().st_size, []
        if quantise:
            small = _quantised(path, exported, quantise, max_error)
        size = path.stat().st_size
        for file in path.parent.iterdir():  # a large model has a second file for its weights
            os.replace(file, out.parent / file.name)
    return Written(out, size, agreement, small, full_size, exported.about)


def _check(format: str, out: Path, upstream: str | None, layers: Sequence[int] | None, quantise: str | None) -> None:
    if format not in FORMATS:
        raise UserError(f"format expects {', '.join(FORMATS)}, found {format!r}{nearest(format, FORMATS)}")
    if quantise and quantise not in KINDS:
        raise UserError(f"quantise expects {' or '.join(KINDS)}, found {quantise!r}")
    if quantise and format != "onnx":
        raise UserError("quantise= goes with format=onnx only")
    if format == "hub":
        if layers is not None or upstream is not None:
            raise UserError("layers= and upstream= go with programs; format=hub publishes the model as it is")
        if out.is_file():
            raise UserError(f"out={out} is a file; give a folder")
        return
    if out.is_dir():
        raise UserError(f"out={out} is a folder; give the file to write, such as {out / 'model'}.{_ending(format)}")
    if format == "torch" and out.suffix != ".pt2":
        raise UserError(f"torch.export programs end in .pt2, found out={out}")
    if format == "onnx":
        if out.suffix == ".pt2":
            raise UserError(f"out={out} is the name of a torch.export program; say format=torch, or end it in .onnx")
        require_onnx()


def _ending(format: str) -> str:
    return "onnx" if format == "onnx" else "pt2"


def _require_tolerance(agreement: list[Agreement], tolerance: float) -> None:
    worst = max(agreement, key=lambda found: found.relative)
    if not worst.relative <= tolerance:
        raise UserError(
            f"{worst.name} of the program differs from the model's by {worst.absolute:.1e} where values reach "
            f"{worst.largest:.3g}: a share of {worst.relative:.1e}, and allowed is tolerance={tolerance:g}; "
            "nothing written"
        )


def _quantised(path: Path, exported: Exportable, kind: str, max_error: float) -> list[Agreement]:
    """Replace an ONNX file by a quantised one, and return how well that agrees with the model."""
    small = path.with_name(f"small-{path.name}")
    quantise_file(path, small)
    agreement = compare(onnx_runner(small), exported)
    worst = max(agreement, key=lambda found: found.error)
    if not worst.error <= max_error:
        raise UserError(
            f"with {kind} weights {worst.name} is off by {100 * worst.error:.1f} % of its size (root mean square), "
            f"allowed is max_error={max_error:g}, and {100 * worst.same:.1f} % of decisions stay; nothing written"
        )
    for file in path.parent.iterdir():
        if file != small:
            file.unlink()
    os.replace(small, path)
    return agreement


def _folder(run: str, out: Path, dtype: str | None) -> Written:
    """Write a folder that can be published: weights, configuration and card."""
    with staged(out) as path:
        if not is_result(run):
            source = Path(run) if Path(run).is_dir() else load_upstream(run)
            save_pretrained(source, path, dtype or "float32")
        elif dtype is not None:
            raise UserError(f"dtype={dtype} goes with encoders; {run} is a result of a benchmark")
        else:
            path.mkdir()
            for file in export_of(run).iterdir():
                if file.suffix in (".safetensors", ".json"):
                    shutil.copy2(file, path / file.name)
            write_card(run, out=path / "README.md")
        place_folder(path, out)
    size = sum(file.stat().st_size for file in out.iterdir() if file.is_file())
    return Written(out, size, [], [], size, {})
