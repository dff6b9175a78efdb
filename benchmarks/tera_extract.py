"""TERA extraction: waveforms to all hidden states, speechssl against s3prl's upstream expert.

Both sides read the same checkpoint (base size, random weights, written in the published layout) and get the
same clips in batches. s3prl computes features and position encodings the way its expert does; that is what a
user of it waits for. `--precision bf16` runs ours under autocast, with the difference it makes printed.

Run: python benchmarks/tera_extract.py [--seconds 10 --clips 4 --precision fp32|bf16 --rounds 9 --json OUT]
"""

import tempfile
from pathlib import Path

import torch
from side_by_side import arguments, interleave, peer, report

from speechssl.hub import load_upstream
from speechssl.upstream.tera import convert

TOLERANCE = {"fp32": 1e-3, "bf16": 0.2}


def main() -> None:
    given = arguments(__doc__.splitlines()[0], clips=4, precision="fp32", size="base")
    if given.precision not in TOLERANCE:
        raise SystemExit(f"--precision is one of {', '.join(TOLERANCE)}")
    expert = peer("s3prl.upstream.mockingjay.expert")
    ours = load_upstream(f"tera/{given.size}@random", normalization="utterance")
    with tempfile.TemporaryDirectory() as folder:
        convert.write(ours, Path(folder) / "tera.ckpt")
        theirs = expert.UpstreamExpert(str(Path(folder) / "tera.ckpt")).eval()
    generator = torch.Generator().manual_seed(0)
    samples = round(given.seconds * 16000)
    waveforms = [0.1 * torch.randn(samples, generator=generator) for _ in range(given.clips)]

    @torch.no_grad()
    def run_theirs() -> list[torch.Tensor]:
        return list(theirs(waveforms)["hidden_states"])

    @torch.no_grad()
    def run_ours() -> list[torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=given.precision == "bf16"):
            return ours(waveforms).hidden_states

    pairs = zip(run_theirs(), run_ours(), strict=True)
    difference = max(float((a - b).abs().max()) for a, b in pairs)
    if difference > TOLERANCE[given.precision]:
        raise SystemExit(f"hidden states differ by {difference:.1e}: nothing was timed")
    seconds = interleave({"s3prl": run_theirs, "speechssl": run_ours}, given.rounds)
    title = f"TERA {given.size} extraction, {given.clips} clips of {given.seconds:g} s, ours in {given.precision}"
    report(title, seconds, f"largest difference of hidden states {difference:.1e}", given)


if __name__ == "__main__":
    main()
