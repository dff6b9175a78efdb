"""Traced programs as ONNX files.

Three things are done differently than torch.onnx does them by itself. The Fourier transform of the frontends is a
product with a matrix, which is several times faster than onnxruntime's operator, and closer to double precision. Of
the exporter's optimisations only those are run that change no number: its rewriting rules take additions of 1e-10 for
additions of nothing, and the logarithm of silence becomes infinite. And what the tracer notes at every node (source
paths of this machine among it) is left out.
"""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from speechssl.deploy.program import INPUTS, Exportable, quiet
from speechssl.errors import UserError
from speechssl.nn.lstm import whole_lstm

OPSET = 20
OPSETS = range(18, 23)  # from 23 on there is an operator Attention, which onnxruntime 1.31 refuses these masks
METADATA = "speechssl"  # key of the model's metadata
NEEDS = ("onnx", "onnxscript", "onnxruntime")
LARGEST = 2**31  # bytes; what a protobuf file may have


def require_onnx() -> None:
    """Raise UserError where a package is missing that writes or runs ONNX files."""
    import importlib.util

    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"ONNX files need {', '.join(missing)}: pip install 'speechssl[export]'")


def write_onnx(program: ExportedProgram, exported: Exportable, path: Path, opset: int = OPSET) -> None:
    """Write a traced program as an ONNX file with named inputs and outputs, and what is known of it as metadata.

    Raises:
        UserError: an opset that is not written, or an operation ONNX has no words for.
    """
    if opset not in OPSETS:
        raise UserError(f"opset expects {OPSETS.start} to {OPSETS.stop - 1}, found {opset}")
    try:
        with quiet("torch.onnx", "onnx_ir", "onnxscript"):
            written = _translate(program, exported, opset)
            _simplify(written.model)
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise UserError(
            f"this {exported.upstream.family} model cannot be written as ONNX ({_innermost(error)})"
        ) from error
    for graph in (written.model.graph, *written.model.functions.values()):
        for node in graph:
            node.metadata_props.clear()
        graph.metadata_props.clear()
    written.model.metadata_props[METADATA] = json.dumps(exported.about, ensure_ascii=False)
    size = sum(tensor.const_value.nbytes for tensor in written.model.graph.initializers.values())
    written.save(path, external_data=size >= LARGEST)


def _innermost(error: BaseException) -> str:
    """Return the first line of what went wrong first."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().partition("\n")[0]


def _translate(program: ExportedProgram, exported: Exportable, opset: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.onnx.export(
            program,
            dynamo=True,
            opset_version=opset,
            input_names=list(INPUTS),
            output_names=list(exported.outputs),
            custom_translation_table=TRANSLATIONS,
            optimize=False,
            verbose=False,
        )


def _simplify(model: Any) -> None:
    """Fold constants, and what is there twice or for nothing."""
    from onnx_ir.passes import common
    from onnxscript.optimizer import fold_constants

    common.InlinePass()(model)
    fold_constants(model, input_size_limit=LARGEST, output_size_limit=LARGEST)
    for step in (
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),
        common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    ):
        step(model)


def dft_matrix(size: int) -> np.ndarray:
    """Return (size, size // 2 + 1, 2): real and imaginary parts of what each sample adds to each bin, in float32."""
    turns = np.outer(np.arange(size), np.arange(size // 2 + 1)) % size
    angles = 2 * np.pi / size * turns
    return np.stack([np.cos(angles), -np.sin(angles)], axis=-1).astype(np.float32)


def _transform(self: Any, dim: Sequence[int], normalization: int, onesided: bool) -> Any:
    """Translate a real Fourier transform over the last axis; ONNX has complex numbers as a last axis of two."""
    import onnx
    from onnxscript import opset18 as op

    rank, size = len(self.shape), self.shape[-1]
    if not isinstance(size, int) or normalization != 0 or not onesided or list(dim) not in ([-1], [rank - 1]):
        raise RuntimeError(f"a Fourier transform over {dim} of {self.shape} is not what frontends do")
    matrix = dft_matrix(size).reshape(size, -1)
    product = op.MatMul(self, op.Constant(value=onnx.numpy_helper.from_array(matrix)))
    shape = np.array([0] * (rank - 1) + [size // 2 + 1, 2])
    return op.Reshape(product, op.Constant(value=onnx.numpy_helper.from_array(shape)))


def _lstm(x: Any, input_weight: Any, state_weight: Any, input_bias: Any, state_bias: Any) -> Any:
    """Translate `speechssl.nn.lstm.whole_lstm`; ONNX has time first, and the gates in the order input, output, forget,
    cell, where PyTorch has them as input, forget, cell, output."""
    from onnxscript import opset18 as op

    def ordered(weight: Any) -> Any:
        enter, forget, cell, out = (op.Slice(weight, [i * size], [(i + 1) * size], [0]) for i in range(4))
        return op.Concat(enter, out, forget, cell, axis=0)

    size = state_weight.shape[1]
    biases = op.Concat(ordered(input_bias), ordered(state_bias), axis=0)
    weights = (op.Unsqueeze(each, [0]) for each in (ordered(input_weight), ordered(state_weight), biases))
    outputs, _, _ = op.LSTM(op.Transpose(x, perm=[1, 0, 2]), *weights, hidden_size=size)
    return op.Transpose(op.Squeeze(outputs, [1]), perm=[1, 0, 2])


TRANSLATIONS = {torch.ops.aten._fft_r2c.default: _transform, whole_lstm._opoverload: _lstm}
