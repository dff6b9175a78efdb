"""Random 15 s crops: our memory-mapped PCM16 shards against FLAC files read with soundfile.

Both sides give float32 samples of the same places in the same utterances. The other side seeks and decodes
only the crop, which is the fast way to read a FLAC file. Files are in the page cache for both.

Run: python benchmarks/shard_reader.py [--seconds 15 --clips 64 --rounds 9 --json OUT]
"""

import tempfile
from pathlib import Path

import numpy as np
import soundfile
from side_by_side import arguments, interleave, report

from speechssl.data.cuts import open_corpus
from speechssl.data.prepare import prepare

RATE = 16000
NUM_FILES = 32
LONGER = 1.5  # files last this many crops


def main() -> None:
    given = arguments(__doc__.splitlines()[0], seconds=15.0, clips=64)
    with tempfile.TemporaryDirectory() as folder:
        compare(given, Path(folder))


def compare(given, folder: Path) -> None:
    """Write the files, check that both sides agree, and time them."""
    files = make_files(folder / "flac", given.seconds * LONGER)
    corpus = prepare("folder", folder / "flac", folder / "shards", progress=False, dev_share=0.0)
    table = open_corpus(corpus).table("train")
    count = round(given.seconds * RATE)
    random = np.random.default_rng(0)
    places = [
        (int(random.integers(len(table))), int(random.integers(round(count * (LONGER - 1)))))
        for _ in range(given.clips)
    ]

    def flac() -> list[np.ndarray]:
        paths = (files[table.ids[row]] for row, _ in places)
        return [
            soundfile.read(path, frames=count, start=start, dtype="float32")[0]
            for path, (_, start) in zip(paths, places, strict=True)
        ]

    def shards() -> list[np.ndarray]:
        return [table.read(row, start, count) for row, start in places]

    for theirs, ours in zip(flac(), shards(), strict=True):
        np.testing.assert_array_equal(theirs, ours)
    seconds = interleave({"soundfile, FLAC": flac, "shards": shards}, given.rounds)
    report(f"{given.clips} random crops of {given.seconds:g} s", seconds, "every sample is the same", given)
    rate = given.clips * given.seconds / np.median(seconds["shards"])
    print(f"  shards are read {rate:,.0f} times faster than they play")


def make_files(folder: Path, seconds: float) -> dict[str, Path]:
    """Write tones in coloured noise, which FLAC compresses to about half, as it does speech."""
    folder.mkdir()
    random, time = np.random.default_rng(0), np.arange(round(seconds * RATE)) / RATE
    files = {}
    for number in range(NUM_FILES):
        noise = np.convolve(random.normal(size=len(time)), np.hanning(32) / 16, "same")
        samples = 0.02 * noise + 0.2 * np.sin(2 * np.pi * (100 + 7 * number) * time) * np.sin(3 * time)
        files[f"{number:02d}"] = folder / f"{number:02d}.flac"
        soundfile.write(files[f"{number:02d}"], samples, RATE)
    return files


if __name__ == "__main__":
    main()
