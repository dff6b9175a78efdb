"""ONNX files with weights of 8 bits, for CPUs: a quarter of the size, and products of integers.

onnxruntime's dynamic quantisation: weights of linear layers and LSTMs become int8, one scale per output channel where
there is a product, and activations are scaled as they come. What is no linear layer (the frontend, norms, softmax)
stays as it is.
"""

import tempfile
from pathlib import Path

from speechssl.deploy.program import quiet

KINDS = ("int8",)


def quantise_file(source: Path, out: Path) -> None:
    """Write an ONNX file anew with quantised weights."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(source)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    del model.graph.value_info[:]  # shapes of weights that are transposed on the way
    with quiet(""), tempfile.TemporaryDirectory(dir=out.parent) as folder:
        written = Path(folder) / out.name
        quantize_dynamic(
            model,
            written,
            op_types_to_quantize=["MatMul", "Gemm", "LSTM"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=frontend_nodes(model),
        )
        small = onnx.load(written)
    onnx.helper.set_model_props(small, metadata)
    onnx.save(small, out)


def frontend_nodes(model: object) -> list[str]:
    """Return the names of the products up to the logarithm of the spectrogram: those of the frontend."""
    names = []
    for node in model.graph.node:
        if node.op_type == "Log":
            return names
        names.append(node.name)
    return []
