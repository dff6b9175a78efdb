"""Bootstrap intervals of ratio metrics (Efron, 1979; Bisani and Ney, 2004, for error rates and paired
differences).

Every metric here is 100 * sum(numerator) / sum(denominator) over units that are drawn with replacement:
utterances, or speakers with all their utterances. Percentile intervals; the resamples depend on the seed
alone.
"""

from collections.abc import Iterator, Sequence

import numpy as np

RESAMPLES = 5000
CHUNK = 4_000_000  # drawn indices held at a time: 32 MB
LEVELS = (2.5, 97.5)  # percentiles of a 95 % interval


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
    low, high = np.percentile(ratio(resampled_sums(values, RESAMPLES, seed)), LEVELS)
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
        strata: per stratum (a fold) an array (units, 3): numerator of the system, of its baseline,
            denominator. Units are drawn within their stratum, the same ones for both systems.
        seed: of the resamples.
    """
    total = np.zeros(RESAMPLES)
    for number, values in enumerate(strata):
        sums = resampled_sums(values, RESAMPLES, seed + number)
        total += ratio(sums[:, [0, 2]]) - ratio(sums[:, [1, 2]])
    low, high = np.percentile(total / len(strata), LEVELS)
    return float(low), float(high)
