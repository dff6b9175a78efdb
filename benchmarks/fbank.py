"""Kaldi filter banks: speechssl.audio.KaldiFbank against a loop over torchaudio.compliance.kaldi.fbank.

Run: python benchmarks/fbank.py [--seconds 10 --clips 8 --rounds 9 --json OUT]
"""

import torch
from side_by_side import arguments, interleave, peer, report

from speechssl.audio import KaldiFbank

TOLERANCE = 1e-3


def main() -> None:
    given = arguments(__doc__.splitlines()[0], mels=128)
    kaldi = peer("torchaudio.compliance.kaldi")
    samples = round(given.seconds * 16000)
    waveforms = 0.1 * torch.randn(given.clips, samples, generator=torch.Generator().manual_seed(0))
    lengths = torch.full((given.clips,), samples)
    frontend = KaldiFbank(given.mels)

    def loop() -> list[torch.Tensor]:
        return [kaldi.fbank(w[None], num_mel_bins=given.mels, sample_frequency=16000) for w in waveforms]

    difference = (torch.stack(loop()) - frontend(waveforms, lengths)[0]).abs().max().item()
    if difference > TOLERANCE:
        raise SystemExit(f"the two sides differ by {difference:.1e}, more than {TOLERANCE:.0e}: nothing was timed")
    seconds = interleave({"torchaudio loop": loop, "speechssl": lambda: frontend(waveforms, lengths)}, given.rounds)
    title = f"fbank, {given.mels} bins, {given.clips} clips of {given.seconds:g} s"
    report(title, seconds, f"largest difference {difference:.1e} in log energy", given)


if __name__ == "__main__":
    main()
