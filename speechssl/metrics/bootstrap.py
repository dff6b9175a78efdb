"""Bootstrap intervals of ratio metrics (Efron, 1979; Bisani and Ney, 2004, for error rates and paired
differences).

Most metrics here are 100 * sum(numerator) / sum(denominator) over units that are drawn with replacement:
utterances, or speakers with all their utterances. Any other metric is evaluated with every record weighted by how
often its unit was drawn. Percentile intervals; the resamples depend on the seed alone, so that systems evaluated
on the same units are compared in pairs.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

RESAMPLES = 5000
CHUNK = 4_000_000  # drawn indices held at a time: 32 MB
WEIGHTS = 2_000_000  # weights held at a time: 16 MB
CELLS = 10_000_000_000  # scores that all resamples of a metric may read: about a minute
FEWEST = 200  # resamples, whatever they cost
LEVELS = (2.5, 97.5)  # percentiles of a 95 % interval

MainMetric = Callable[[np.ndarray], np.ndarray]  # weights (R, N) -> the metric (R,), see `speechssl.interfaces.Metric`


def resampled_sums(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return (resamples, K) sums over units drawn with replacement from values (units, K).

    The same seed and number of units draw the same units, whatever the values.
    """
    values = np.asarray(values, dtype=np.float64)
    generator = np.random.default_rng(seed)
    units = len(values)
    sums = []
    for size in _chunks(resamples, max(1, CHUNK // max(1, units))):
        drawn = generator.integers(0, units, (size, units), dtype=np.int32)
        sums.append(np.stack([column[drawn].sum(axis=1) for column in values.T], axis=1))
    return np.concatenate(sums)


def _chunks(total: int, size: int) -> Iterator[int]:
    for start in range(0, total, size):
        yield min(size, total - start)


def ratio(sums: np.ndarray) -> np.ndarray:
    """Return 100 * numerator / denominator along the last axis; a denominator below 1 counts as 1."""
    return 100.0 * sums[..., 0] / np.maximum(sums[..., 1], 1.0)


def interval(numerators: Sequence[float], denominators: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of 100 * sum(numerators) / sum(denominators) over the units."""
    values = np.stack([np.asarray(numerators, float), np.asarray(denominators, float)], axis=1)
    return percentiles(ratio(resampled_sums(values, RESAMPLES, seed)))


def affordable_resamples(cells: int) -> int:
    """Return how many resamples are drawn of a metric that reads so many scores at each: 5000, fewer from 2 M on."""
    return max(FEWEST, min(RESAMPLES, CELLS // max(1, cells)))


def resampled_weights(units: int, resamples: int, seed: int, width: int | None = None) -> Iterator[np.ndarray]:
    """Yield (r, units) arrays, `resamples` rows in all: how often each unit was drawn with replacement.

    The same seed and number of units draw the same units as in `resampled_sums`. `width` is the number of weights
    that will be made of each row, which bounds how many rows come at a time.
    """
    generator = np.random.default_rng(seed)
    for size in _chunks(resamples, max(1, WEIGHTS // max(1, units, width or 0))):
        drawn = generator.integers(0, units, (size, units), dtype=np.int32)
        flat = drawn + np.arange(size)[:, None] * units
        yield np.bincount(flat.ravel(), minlength=size * units).reshape(size, units).astype(np.float64)


def resampled_main(main: MainMetric, clusters: np.ndarray, units: int, resamples: int, seed: int) -> np.ndarray:
    """Return the metric (resamples,) with units drawn with replacement.

    Args:
        main: of weighted records.
        clusters: (N,) number of the unit that each record belongs to; `numpy.arange(N)` draws the records.
        units: how many there are.
        resamples: how many.
        seed: of the draws; the same seed and number of units draw the same units, whatever the metric.
    """
    drawn = resampled_weights(units, resamples, seed, len(clusters))
    return np.concatenate([main(weights[:, clusters]) for weights in drawn])


def percentiles(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of resampled values; NaN ones, of resamples without a metric, do not count."""
    low, high = np.nanpercentile(values, LEVELS)
    return float(low), float(high)


def clustered(values: np.ndarray, clusters: Sequence[str]) -> np.ndarray:
    """Return (clusters, K) sums of values (units, K) per cluster, in the order of the sorted names."""
    names, index = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    sums = np.zeros((len(names), np.shape(values)[1]))
    np.add.at(sums, index, values)
    return sums


def paired_interval(strata: Sequence[np.ndarray], seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of the mean over strata of a difference between two systems on the same units.

    Args:
        strata: per stratum (a fold) an array (units, 4): numerator and denominator of the system, and those of its
            baseline. Units are drawn within their stratum, the same ones for both systems.
        seed: of the resamples.
    """
    total = np.zeros(RESAMPLES)
    for number, values in enumerate(strata):
        sums = resampled_sums(values, RESAMPLES, seed + number)
        total += ratio(sums[:, :2]) - ratio(sums[:, 2:])
    return percentiles(total / len(strata))
