"""An exported program in onnxruntime, in float32 or with int8 weights, against the same model in PyTorch.

Both sides read waveforms and give the last hidden state of the same random weights; outputs are compared first (int8:
by the root mean square of the difference, which is printed and not required to be small).

Run: python benchmarks/export.py [--upstream tera/base@random --weights fp32|int8 --seconds 10 --clips 1 --json OUT]
"""

import tempfile
from pathlib import Path

import torch
from side_by_side import arguments, interleave, peer, report

from speechssl.deploy.export import export
from speechssl.deploy.runtime import onnx_runner
from speechssl.hub import load_upstream

WEIGHTS = {"fp32": None, "int8": "int8"}
ANY = 10.0  # allowed error of int8: what it is is printed


def main() -> None:
    given = arguments(__doc__.splitlines()[0], clips=1, upstream="tera/base@random", weights="fp32")
    if given.weights not in WEIGHTS:
        raise SystemExit(f"--weights is one of {', '.join(WEIGHTS)}")
    peer("onnxruntime")
    model = load_upstream(given.upstream)
    generator = torch.Generator().manual_seed(0)
    waveforms = 0.1 * torch.randn(given.clips, round(given.seconds * 16000), generator=generator)
    lengths = torch.full((given.clips,), waveforms.shape[1])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        written = export(given.upstream, "onnx", path, quantise=WEIGHTS[given.weights], max_error=ANY)
        program = onnx_runner(path)

    @torch.no_grad()
    def run_torch() -> torch.Tensor:
        return model(waveforms, lengths).hidden_states[-1]

    def run_program() -> torch.Tensor:
        return program(waveforms, lengths)[0]

    expected, found = run_torch(), run_program()
    error = float((found - expected).norm() / expected.norm())
    if given.weights == "fp32" and error > 1e-4:
        raise SystemExit(f"hidden states are {error:.1e} off: nothing was timed")
    seconds = interleave({"PyTorch": run_torch, f"onnxruntime {given.weights}": run_program}, given.rounds)
    title = f"{given.upstream}, {given.clips} clips of {given.seconds:g} s, file of {written.size / 1e6:.1f} MB"
    report(title, seconds, f"root mean square of the difference {100 * error:.3g} % of the output's", given)


if __name__ == "__main__":
    main()
