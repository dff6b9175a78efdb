"""Traced programs as files of torch.export (.pt2), which PyTorch alone reads: no line of speechssl is needed."""

import json
from operator import getitem
from pathlib import Path

import torch
from torch.export import ExportedProgram

from speechssl.deploy.program import Exportable
from speechssl.nn.lstm import whole_lstm

ABOUT = "speechssl.json"  # file inside the archive: what is known of the program


def write_program(program: ExportedProgram, exported: Exportable, path: Path) -> None:
    """Write a traced program; `torch.export.load(path).module()(waveforms, lengths)` runs it on a CPU."""
    _native_lstms(program)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    torch.export.save(program, path, extra_files={ABOUT: json.dumps(exported.about, ensure_ascii=False)})


def _native_lstms(program: ExportedProgram) -> None:
    """Put PyTorch's own operation back where `speechssl.nn.lstm` has kept a place for it."""
    graph = program.graph
    for node in [node for node in graph.nodes if node.target == whole_lstm._opoverload]:
        x, *weights = node.args
        with graph.inserting_before(node):
            batch = graph.call_function(torch.ops.aten.sym_size.int, (x, 0))
            batch.meta["val"] = x.meta["val"].shape[0]
            size = weights[1].meta["val"].shape[1]
            state = graph.call_function(torch.ops.aten.new_zeros.default, (x, [1, batch, size]))
            state.meta["val"] = x.meta["val"].new_zeros(1, batch.meta["val"], size)
            options = (True, 1, 0.0, False, False, True)  # biases, layers, dropout, training, both ways, batch first
            called = graph.call_function(torch.ops.aten.lstm.input, (x, [state, state], weights, *options))
            called.meta["val"] = (node.meta["val"], state.meta["val"], state.meta["val"])
            outputs = graph.call_function(getitem, (called, 0))
            outputs.meta["val"] = node.meta["val"]
        node.replace_all_uses_with(outputs)
        graph.erase_node(node)
    program.graph_module.recompile()
