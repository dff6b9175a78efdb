"""Systems against baselines over several benchmark runs, with paired bootstrap intervals of the differences.

Results of one label on one task and fold that differ in pretraining or head seed are replicates: per
utterance their counts are averaged, so an interval speaks of these trainings on average and of new test
utterances (or speakers), and the spread over replicates stands beside it. Folds with different test
utterances are strata and count equally; folds that share their test utterances, such as several draws of
training labels, are averaged per utterance. A metric that is no ratio of sums (mAP) has no counts to average: it is
computed of every replicate on the same resamples, and then averaged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from speechssl.errors import UserError, nearest
from speechssl.files import write_json, write_text
from speechssl.metrics.bootstrap import (
    RESAMPLES,
    affordable_resamples,
    clustered,
    paired_interval,
    percentiles,
    ratio,
    resampled_main,
)
from speechssl.metrics.weighted import Weighted, weighted
from speechssl.probe.rows import PREDICTIONS, RESULTS, read_lines
from speechssl.probe.table import Column, column_of, markdown_table

MIN_SPEAKERS = 5  # fewer give no interval over speakers


@dataclass
class Fold:
    """The results of one system on one fold.

    Attributes:
        ids: test utterances, sorted.
        speakers: of the utterances.
        numerators: (replicates, utterances).
        denominators: (utterances,).
        ranked: per replicate, a metric that is no ratio of sums; else empty.
    """

    ids: tuple[str, ...]
    speakers: list[str | None]
    denominators: np.ndarray
    numerators: list[np.ndarray] = field(default_factory=list)
    ranked: list[Weighted] = field(default_factory=list)
    _resampled: dict[tuple, np.ndarray] = field(default_factory=dict)

    @cached_property
    def metrics(self) -> list[float]:
        """Main metric of every replicate."""
        if self.ranked:
            return [float(one.main(np.ones((1, len(self.ids))))[0]) for one in self.ranked]
        total = self.denominators.sum()
        return [float(ratio(np.array([one.sum(), total]))) for one in self.numerators]

    def resampled(self, clusters: np.ndarray, units: int, resamples: int, seed: int) -> np.ndarray:
        """Return the main metric (resamples,), a mean over replicates; computed once for all baselines."""
        key = (clusters.tobytes(), units, resamples, seed)
        if key not in self._resampled:
            values = [resampled_main(one.main, clusters, units, resamples, seed) for one in self.ranked]
            self._resampled[key] = np.mean(values, axis=0)
        return self._resampled[key]


System = dict[str, Fold]  # by fold


def read_systems(runs: Sequence[str | Path]) -> dict[Column, dict[str, System]]:
    """Return {column: {upstream label: {fold: results}}} of all rows in several benchmark run directories."""
    found: dict[Column, dict[str, System]] = {}
    seen = set()
    for run in map(Path, runs):
        for row in sorted(read_lines(run / RESULTS), key=lambda row: row["seed"]):
            if (row["upstream"], row["settings"]) in seen:  # the same result again is no replicate
                continue
            seen.add((row["upstream"], row["settings"]))
            system = found.setdefault(column_of(row), {}).setdefault(row["upstream"], {})
            _add(system, row, run / row["run"] / PREDICTIONS)
    if not found:
        raise UserError(f"no results in {', '.join(map(str, runs))}; run `speechssl benchmark` first")
    return found


def _add(system: System, row: dict[str, Any], path: Path) -> None:
    records = sorted(read_lines(path), key=lambda record: record["id"])
    ids = tuple(record["id"] for record in records)
    denominators = np.array([record["denominator"] for record in records], np.float64)
    fold = system.setdefault(row["fold"], Fold(ids, [record["speaker"] for record in records], denominators))
    if fold.ids != ids or not np.array_equal(fold.denominators, denominators):
        raise UserError(
            f"{path} was made on other test utterances than earlier results of {row['upstream']} on that fold"
        )
    fold.numerators.append(np.array([record["numerator"] for record in records], np.float64))
    rebuilt = weighted(row["main_metric"], records)
    if rebuilt is not None:
        fold.ranked.append(rebuilt)


def summary(system: System) -> dict[str, Any]:
    """Return the mean, and its standard deviation over replicates (None for one, or uneven folds)."""
    metrics = [fold.metrics for fold in system.values()]
    counts = {len(values) for values in metrics}
    spread = None
    if len(counts) == 1 and counts != {1}:
        spread = float(np.std(np.mean(metrics, axis=0), ddof=1))
    return {
        "mean": float(np.mean([np.mean(values) for values in metrics])),
        "spread": spread,
        "replicates": max(counts),
        "folds": {name: float(np.mean(fold.metrics)) for name, fold in system.items()},
    }


def difference(system: System, baseline: System, mode: str, seed: int) -> dict[str, Any]:
    """Return system minus baseline on their common folds, with intervals over utterances and speakers."""
    common = [name for name in system if name in baseline]
    if not common:
        raise UserError("the systems have no fold in common; benchmark both on the same data")
    for name in common:
        if system[name].ids != baseline[name].ids:
            raise UserError(
                f"test utterances of fold {name!r} differ between systems; prepare and benchmark them alike"
            )
    values = [np.mean(system[name].metrics) - np.mean(baseline[name].metrics) for name in common]
    mean = float(np.mean(values))
    kind = _weighted if any(system[name].ranked for name in common) else _counted
    (low, high), speakers, resamples = kind(system, baseline, common, seed)
    better = mean > 0 if mode == "max" else mean < 0
    return {
        "difference": mean,
        "ci95": [low, high],
        "excludes_zero": low > 0 or high < 0,
        "better": bool(better),
        "ci95_speaker": speakers,
        "folds": len(common),
        "resamples": resamples,
    }


Intervals = tuple[tuple[float, float], list[float] | None, int]  # over utterances, over speakers, resamples


def _counted(system: System, baseline: System, folds: Sequence[str], seed: int) -> Intervals:
    """Return the intervals of a ratio of sums."""
    over_utterances = paired_interval(list(_strata(system, baseline, folds).values()), seed)
    return over_utterances, _speaker_interval(system, baseline, folds, seed), RESAMPLES


def _weighted(system: System, baseline: System, folds: Sequence[str], seed: int) -> Intervals:
    """Return the intervals of a metric of weighted utterances."""
    cells = [one.ranked[0].cells * len(one.ranked) for name in folds for one in (system[name], baseline[name])]
    resamples = affordable_resamples(sum(cells))
    strata = dict.fromkeys(system[name].ids for name in folds)
    plain = {ids: (np.arange(len(ids)), len(ids), seed + number) for number, ids in enumerate(strata)}
    over_utterances = _weighted_interval(system, baseline, folds, plain, resamples)
    names = _speakers(system, folds)
    if names is None:
        return over_utterances, None, resamples
    known = sorted({name for own in names.values() for name in own})
    grouped = {ids: (np.searchsorted(known, own), len(known), seed) for ids, own in names.items()}
    return over_utterances, list(_weighted_interval(system, baseline, folds, grouped, resamples)), resamples


def _weighted_interval(
    system: System,
    baseline: System,
    folds: Sequence[str],
    draws: Mapping[tuple[str, ...], tuple[np.ndarray, int, int]],
    resamples: int,
) -> tuple[float, float]:
    """Return the interval of the mean over strata, given {test ids: unit of every utterance, units, seed}."""
    strata: dict[tuple[str, ...], list[np.ndarray]] = {}
    for name in folds:
        clusters, units, seed = draws[system[name].ids]
        ours, theirs = (one[name].resampled(clusters, units, resamples, seed) for one in (system, baseline))
        strata.setdefault(system[name].ids, []).append(ours - theirs)
    return percentiles(np.mean([np.mean(parts, axis=0) for parts in strata.values()], axis=0))


def _speakers(system: System, folds: Sequence[str]) -> dict[tuple[str, ...], list[str]] | None:
    """Return {test ids: their speakers}, or None where speakers are unnamed or too few."""
    found = {system[name].ids: system[name].speakers for name in folds}
    every = [speaker for own in found.values() for speaker in own]
    return None if None in every or len(set(every)) < MIN_SPEAKERS else found


def _strata(system: System, baseline: System, folds: Sequence[str]) -> dict[tuple[str, ...], np.ndarray]:
    """Return {test ids: (units, 4)}: numerators and denominators of system and baseline; equal folds averaged.

    The denominators differ where the systems count frames of different lengths.
    """
    grouped: dict[tuple[str, ...], list[np.ndarray]] = {}
    for name in folds:
        ours, theirs = system[name], baseline[name]
        counts = [part for one in (ours, theirs) for part in (np.mean(one.numerators, axis=0), one.denominators)]
        grouped.setdefault(ours.ids, []).append(np.stack(counts, axis=1))
    return {ids: np.mean(parts, axis=0) for ids, parts in grouped.items()}


def _speaker_interval(system: System, baseline: System, folds: Sequence[str], seed: int) -> list[float] | None:
    """Return the interval over speakers, all folds pooled; None where speakers are unnamed or too few."""
    speakers = _speakers(system, folds)
    if speakers is None:
        return None
    strata = _strata(system, baseline, folds)
    names = [speaker for ids in strata for speaker in speakers[ids]]
    return list(paired_interval([clustered(np.concatenate(list(strata.values())), names)], seed))


def compare(runs: Sequence[str | Path], baselines: Sequence[str], out: str | Path | None, seed: int) -> dict[str, Any]:
    """Return, and write to `out/compare.json` and `out/compare.md`, every system against every baseline.

    Args:
        runs: benchmark run directories.
        baselines: upstream labels.
        out: folder, or None to write nothing.
        seed: of the resamples.

    Raises:
        UserError: missing or damaged runs, unknown labels, results on different utterances.
    """
    columns = read_systems(runs)
    known = sorted({name for systems in columns.values() for name in systems})
    for name in baselines:
        if name not in known:
            raise UserError(f"no results of the baseline {name!r}; there are {', '.join(known)}{nearest(name, known)}")
    report = {
        "runs": [str(run) for run in runs],
        "baselines": list(baselines),
        "columns": [_column(column, systems, baselines, seed) for column, systems in columns.items()],
    }
    if out is not None:
        write_json(Path(out) / "compare.json", report)
        write_text(Path(out) / "compare.md", markdown(report))
    return report


def _column(column: Column, systems: dict[str, System], baselines: Sequence[str], seed: int) -> dict[str, Any]:
    entries = []
    for name, system in systems.items():
        against = [other for other in baselines if other in systems and other != name]
        differences = {other: difference(system, systems[other], column.mode, seed) for other in against}
        entries.append({"upstream": name, **summary(system), "differences": differences})
    return {"title": column.title, **vars(column), "systems": entries}


def markdown(report: dict[str, Any]) -> str:
    """Return one table over all columns: a line per task and system."""
    head = ["task", "upstream", "mean ± spread (results)", *(f"minus {name}" for name in report["baselines"])]
    lines = [
        [
            column["title"],
            entry["upstream"],
            _mean(entry),
            *(_difference(entry, n) for n in report["baselines"]),
        ]
        for column in report["columns"]
        for entry in column["systems"]
    ]
    note = (
        "Differences: system minus baseline in points, with the 95 % interval of a paired bootstrap over "
        "test utterances (over speakers behind the semicolon, where there are five or more). Bold: better, "
        "and the utterance interval excludes 0. Spread: standard deviation over seeds."
    )
    return f"# Comparison\n\n{markdown_table(head, lines)}\n{note}\n"


def _mean(entry: dict[str, Any]) -> str:
    spread = "" if entry["spread"] is None else f" ± {entry['spread']:.1f}"
    return f"{entry['mean']:.1f}{spread} ({entry['replicates']})"


def _difference(entry: dict[str, Any], baseline: str) -> str:
    found = entry["differences"].get(baseline)
    if found is None:
        return "–"
    (low, high), speakers = found["ci95"], found["ci95_speaker"]
    text = f"{found['difference']:+.1f} [{low:+.1f}, {high:+.1f}]"
    text += f"; [{speakers[0]:+.1f}, {speakers[1]:+.1f}]" if speakers else ""
    return f"**{text}**" if found["better"] and found["excludes_zero"] else text
