"""TERA's log-mel: speechssl.audio.LogMel against s3prl's online preprocessor as its TERA upstream calls it.

Both sides bring 80-bin features to one loudness and to mean 0 and variance 1 per utterance. s3prl's
preprocessor also computes phase and MFCC whether they are asked for or not; that is what a user of its
extractor waits for.

Run: python benchmarks/log_mel.py [--seconds 10 --clips 8 --rounds 9 --json OUT]
"""

import torch
from side_by_side import arguments, interleave, peer, report

from speechssl.audio import LogMel

TOLERANCE = 1e-3
LOUDNESS_DB = -25
AUDIO = {"win_ms": 25, "hop_ms": 10, "n_freq": 201, "n_mels": 80, "n_mfcc": 13}
LOG_MEL = {"feat_type": "mel", "channel": 0, "log": True, "delta": 0, "cmvn": True}


def main() -> None:
    given = arguments(__doc__.splitlines()[0])
    preprocessor = peer("s3prl.upstream.baseline.preprocessor")
    extractor = preprocessor.OnlinePreprocessor(**AUDIO, feat_list=[LOG_MEL])
    samples = round(given.seconds * 16000)
    waveforms = 0.1 * torch.randn(given.clips, samples, generator=torch.Generator().manual_seed(0))
    lengths = torch.full((given.clips,), samples)
    frontend = LogMel()

    def theirs() -> torch.Tensor:
        scaled = [w * 10 ** (LOUDNESS_DB / 20) / (w.square().mean().sqrt() + 1e-10) for w in waveforms]
        return extractor(torch.stack(scaled)[:, None], wavs_len=lengths.tolist())[0]

    difference = (theirs() - frontend(waveforms, lengths)[0]).abs().max().item()
    if difference > TOLERANCE:
        raise SystemExit(f"the two sides differ by {difference:.1e}, more than {TOLERANCE:.0e}: nothing was timed")
    seconds = interleave({"s3prl": theirs, "speechssl": lambda: frontend(waveforms, lengths)}, given.rounds)
    title = f"log-mel, 80 bins, {given.clips} clips of {given.seconds:g} s"
    report(title, seconds, f"largest difference {difference:.1e} after normalisation", given)


if __name__ == "__main__":
    main()
