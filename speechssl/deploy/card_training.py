"""The parts of a model card that tell how a model was trained: data, command, numbers, and the stages before it."""

from typing import Any

from speechssl.deploy.card_facts import Facts
from speechssl.deploy.card_text import code, command, escaped, facts, number, section, table
from speechssl.train.lineage_table import lineage_table
from speechssl.train.logging import BOOKKEEPING

POINTS = 8  # of a curve
HIDDEN = (*BOOKKEEPING, "grad_norm")


def training_parts(known: Facts) -> list[str]:
    """Return the sections on data, training, curve and stages; "" for what no file tells."""
    return [
        section("Training data", _corpora(known)),
        section("Training", command(known.environment.get("command", "")), _numbers(known)),
        section("Losses", *_curves(known)),
        section("Stages", _stages(known)),
    ]


def _corpora(known: Facts) -> str:
    if not known.corpora:
        named = {"corpus": known.training.get("corpus"), "fingerprint": known.training.get("fingerprint")}
        return facts({name: code(value) for name, value in named.items() if value})
    rows = []
    for corpus in known.corpora:
        info = corpus.info.get("splits", {}).get("train", {})
        licence = escaped(corpus.info.get("licence") or "")
        rows.append(
            [
                escaped(corpus.name),
                number(info["hours"]) if "hours" in info else "",
                number(info["utterances"]) if "utterances" in info else "",
                "" if licence == "unknown" else licence,
                code(corpus.fingerprint),
            ]
        )
    return table(["corpus", "hours (train)", "utterances (train)", "licence", "fingerprint"], rows)


def _numbers(known: Facts) -> str:
    training, environment, trainer = known.training, known.environment, known.config.get("trainer", {})
    heard = training.get("audio_seconds")
    seconds = training.get("seconds")
    packages = environment.get("packages", {})
    return facts(
        {
            "steps": number(training["step"]) if "step" in training else None,
            "audio heard": None if heard is None else f"{heard / 3600:.3g} hours, repetitions counted",
            "audio per step": _batch(trainer, environment),
            "processes": str(environment["world_size"]) if environment.get("world_size", 1) > 1 else None,
            "precision": code(known.precision) if known.precision else None,
            "seed": str(training["seed"]) if "seed" in training else None,
            "started from": code(training["init_from"]) if training.get("init_from") else None,
            "effective rank": number(training["effective_rank"]) if "effective_rank" in training else None,
            "time": None if seconds is None else duration(seconds),
            "hardware": _hardware(environment, trainer.get("accelerator")),
            "software": escaped(", ".join(f"{name} {version}" for name, version in packages.items())),
            "speechssl": escaped(_version(environment)),
        }
    )


def _batch(trainer: dict[str, Any], environment: dict[str, Any]) -> str | None:
    if "max_seconds" not in trainer or not environment:
        return None
    total = trainer["max_seconds"] * trainer.get("accumulate", 1) * environment.get("world_size", 1)
    return f"at most {total:g} s"


def duration(seconds: float) -> str:
    """Return a time as people say it."""
    return f"{seconds:.0f} s" if seconds < 3600 else f"{seconds / 3600:.1f} hours"


def _hardware(environment: dict[str, Any], accelerator: str | None) -> str | None:
    if not environment:
        return None
    gpus = [] if accelerator == "cpu" else environment.get("gpus") or []  # those there are, used or not
    threads = environment.get("cpu_threads")
    processor = f"{environment.get('processor', '')} (CPU threads: {threads})" if threads else ""
    return escaped("; ".join(part for part in (", ".join(gpus), processor) if part))


def _version(environment: dict[str, Any]) -> str:
    commit = environment.get("commit")
    return f"{environment.get('speechssl', '')}{f' (commit {commit})' if commit else ''}".strip()


def _curves(known: Facts) -> list[str]:
    """Return a table of the training split, and of the dev split where there is one."""
    shown = []
    for split in ("train", "dev"):
        records = [record for record in known.metrics if record["split"] == split]
        if not records:
            continue
        names = [name for name in records[-1] if name not in HIDDEN]
        kept = sorted({round(place * (len(records) - 1) / (POINTS - 1)) for place in range(POINTS)})
        rows = [[number(records[i]["step"]), *(number(records[i].get(name)) for name in names)] for i in kept]
        shown += [f"On {split}:", table(["step", *map(escaped, names)], rows)]
    return shown


def _stages(known: Facts) -> str:
    if not known.stages:
        return ""
    rows = [
        [escaped(entry["name"]), ", ".join(escaped(one["name"]) for one in entry["parents"]), code(entry["sha256"])]
        for entry in known.stages
    ]
    return f"{lineage_table(known.stages)}\n{table(['stage', 'made from', 'sha256'], rows)}"
