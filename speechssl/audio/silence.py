"""Cutting pauses out of recordings as SoX's `silence` effect does, without SoX.

SUPERB's speaker verification trims with `silence 1 0.1 0.1% -1 0.1 0.1%`: what comes before the first 0.1 s in which
the level stays above 0.1 % of full scale is cut, and so is every later stretch from a pause of 0.1 s below that level
to the next 0.1 s above it. The level of a sample is the root mean square over the 20 ms that end with it, counted
anew after every cut. Sounds shorter than 0.1 s between two pauses go with them; pauses shorter than 0.1 s stay.

SoX walks from sample to sample. Here the level of all samples comes from one running sum, and only cuts are looped
over. Differs from SoX: levels are not rounded to the bits of the file.
"""

import numpy as np

WINDOW = 0.02  # seconds over which the level is measured


def trim_silence(samples: np.ndarray, sample_rate: int, threshold: float = 0.001, duration: float = 0.1) -> np.ndarray:
    """Return the samples (S,) that are left, none of a recording that is too quiet throughout.

    Args:
        samples: mono, full scale is 1.
        sample_rate: Hz.
        threshold: root mean square of what counts as a pause at most. SUPERB lowers recordings by 3 dB before it
            trims: 0.001 there is 0.00141 of the recording itself.
        duration: seconds of sound that end a cut, and of pause that begin one.
    """
    window, hold = int(WINDOW * sample_rate), int(duration * sample_rate)
    parts = [samples[start:end] for start, end in _Levels(samples, window, hold, threshold).kept()]
    return np.concatenate([samples[:0], *parts])


class _Levels:
    """Where a recording (S,) is loud, and where it is quiet.

    Attributes:
        until_quiet: (S + 1,) the next quiet sample from each one on; the end of the recording is quiet.
        sounds, pauses: (S + 1,) the next sample from each one on with which `hold` loud, or quiet, ones begin, else S.
    """

    def __init__(self, samples: np.ndarray, window: int, hold: int, threshold: float):
        self.size, self.window, self.hold = len(samples), window, hold
        self.energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
        self.limit = window * threshold**2
        loud, place = np.append(self.loud(0, self.size), False), np.arange(self.size + 1)
        self.until_quiet = _next(~loud)
        self.sounds = _next(self.until_quiet - place >= hold)
        self.pauses = _next(_next(loud) - place >= hold)

    def loud(self, cleared: int, end: int) -> np.ndarray:
        """Return whether samples `cleared` to `end` are loud, with nothing before them."""
        ends = np.arange(cleared + 1, end + 1)
        return self.energy[ends] - self.energy[np.maximum(ends - self.window, cleared)] > self.limit

    def sound(self, cleared: int) -> int:
        """Return where the first `hold` loud samples from sample `cleared` on begin, with nothing before it."""
        settled = min(cleared + self.window, self.size)  # from here on it does not matter what came before
        quiet = np.flatnonzero(~self.loud(cleared, settled))
        begin = cleared + int(quiet[-1]) + 1 if len(quiet) else cleared
        enough = self.until_quiet[settled] - begin >= self.hold
        return begin if enough else int(self.sounds[settled])

    def kept(self) -> list[tuple[int, int]]:
        """Return start and end of every stretch that is left."""
        found, place = [], 0
        while (start := self.sound(place)) < self.size:
            end = int(self.pauses[start + self.hold])
            found.append((start, end))
            place = min(end + self.hold, self.size)
        return found


def _next(wanted: np.ndarray) -> np.ndarray:
    """Return for every place the next wanted one, itself included; the last place where there is none."""
    places = np.where(wanted, np.arange(len(wanted)), len(wanted) - 1)
    return np.minimum.accumulate(places[::-1])[::-1]
