"""Model cards: `README.md` beside the weights, made from the files of a run directory and from nothing else.

A card says what the model is, how to load it, what it was trained on and how, what came of it, and its limits. The
same files give the same card; what no file tells is left out. The front matter is that of the Hugging Face Hub.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from speechssl import registry
from speechssl.data.cuts import Corpus
from speechssl.deploy.card_facts import Facts
from speechssl.deploy.card_result import result_card
from speechssl.deploy.card_rows import matching_rows
from speechssl.deploy.card_text import code, document, escaped, facts, fenced, files, number, section, table
from speechssl.deploy.card_training import training_parts
from speechssl.deploy.trained import is_result
from speechssl.errors import UserError
from speechssl.files import read_json, sha256, write_text
from speechssl.hub import export_folder, load_upstream, weights_sha256
from speechssl.interfaces import Upstream
from speechssl.tokenizer_hub import load_tokenizer

CARD = "README.md"
LANGUAGE_CODE = 3  # letters at most before a region


def write_card(
    run: str | Path,
    results: Sequence[str | Path] = (),
    out: str | Path | None = None,
    licence: str | None = None,
    corpus: Corpus | None = None,
    origin: str | Path | None = None,
) -> Path:
    """Write the card of a model, and return its path.

    Args:
        run: a run directory (of several stages: the last encoder's), an exported folder, or the folder of one result
            of a benchmark.
        results: `results.jsonl` files, or run directories of benchmarks; rows about these very weights are shown.
        out: the file; None = README.md beside the weights.
        licence: of the weights, an identifier of the Hugging Face Hub such as "cc-by-4.0".
        corpus: what it was trained on, where that is open already.
        origin: the run directory that tells of the training, where `run` is a copy of what it exported.

    Raises:
        UserError: nothing exported there, `results` without a row about it, an `origin` of another model, or a folder
            as `out`.
    """
    path = Path(run)
    if out is not None and Path(out).is_dir():
        raise UserError(f"out={out} is a folder; give the file to write, such as {Path(out) / CARD}")
    if is_result(path) and (results or origin is not None):
        raise UserError(f"{run} is a result of a benchmark: results and origin are for encoders; leave them out")
    if is_result(path):
        folder, text = result_card(path, licence)
    else:
        folder = export_folder(path)
        source = None if origin is None else _origin(folder, Path(origin))
        text = model_card(Facts(folder, corpus, source), results, licence)
    out = folder / CARD if out is None else Path(out)
    write_text(out, text)
    return out


def write_cards(run_dir: str | Path, corpus: Corpus | None = None) -> None:
    """Write the card of every stage of a pretraining; with several processes, the first one does.

    A card that is there already and is about these weights stays: somebody may have added results to it.
    """
    if torch.distributed.is_initialized() and torch.distributed.get_rank() != 0:
        return
    for folder in sorted([*Path(run_dir).glob("export"), *Path(run_dir).glob("stages/*/export")]):
        known, path = Facts(folder, corpus), folder / CARD
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if not text or any(sha256(file) not in text for file in folder.glob("*.safetensors")):
            write_text(path, model_card(known))


def model_card(known: Facts, results: Sequence[str | Path] = (), licence: str | None = None) -> str:
    """Return the card of an exported upstream or tokenizer."""
    family = known.description["family"]
    title, _, method = registry.summary("upstream", family).partition(": ")
    is_tokenizer = "tokenizer" in known.description
    if is_tokenizer and results:
        raise UserError(f"{known.folder} holds a tokenizer; benchmarks have rows about encoders")
    upstream = None if is_tokenizer else load_upstream(str(known.folder.resolve()))
    kind = "tokenizer" if is_tokenizer else "encoder"
    rows = [] if upstream is None else matching_rows(results, weights_sha256(upstream), known.folder)
    parts = [
        f"{title} {kind}{f' ({method})' if method else ''}, made with speechssl {known.description['version']}.",
        section("The model", _shape(known, upstream), _settings(known)),
        section("How to use it", *(_tokenizing() if is_tokenizer else _loading())),
        *training_parts(known),
        _conversion(known),
        section("Evaluation", *rows),
        section("Limits", _limits(known, upstream, bool(rows))),
        section("Files", files(known.folder), "" if licence else "No licence of these weights has been named."),
    ]
    front = {
        "library_name": "speechssl",
        "pipeline_tag": None if is_tokenizer else "feature-extraction",
        "license": licence,
        "language": [name for name in known.languages if len(name.partition("-")[0]) <= LANGUAGE_CODE],
        "tags": ["speechssl", family, "audio", "self-supervised", *(["tokenizer"] if is_tokenizer else [])],
    }
    size = f" ({family}/{known.size})" if known.size else ""
    return document(front, f"{title} {kind}{size}", parts)


def _origin(folder: Path, origin: Path) -> Path:
    """Return the exported folder that `folder` is a copy of; raises UserError where it is of another model."""
    first = export_folder(origin)
    one, other = (read_json(place / "config.json") for place in (folder, first))
    different = [key for key in ("family", "config", "training") if one.get(key) != other.get(key)]
    if different:
        raise UserError(
            f"origin={origin} did not export what {folder} holds ({different[0]} differs in their config.json); "
            "leave origin out, or name the run directory that did"
        )
    return first


def _shape(known: Facts, upstream: Upstream | None) -> str:
    parameters = number(known.description["parameters"])
    if upstream is None:
        tokenizer = load_tokenizer(str(known.folder))
        return facts(
            {
                "kind": code(tokenizer.kind),
                "parameters": parameters,
                "input": f"mono, {number(tokenizer.sample_rate)} Hz, float in [-1, 1]",
            }
        )
    rate = upstream.sample_rate / upstream.downsample_rate
    step = 1000 / rate
    return facts(
        {
            "parameters": parameters,
            "stored as": "matrices in float16, all else in float32" if "stored_as" in known.description else None,
            "input": f"mono, {number(upstream.sample_rate)} Hz, float in [-1, 1]",
            "output": f"{upstream.num_layers + 1} hidden states (the input of the first layer and the output of each "
            f"of {upstream.num_layers}) of {upstream.hidden_size} channels",
            "frame rate": f"{rate:g} per second ({number(upstream.downsample_rate)} samples, {step:g} ms)",
            "shortest input": f"{1000 * upstream.min_samples / upstream.sample_rate:g} ms; what is shorter is padded "
            "with zeros",
        }
    )


def _settings(known: Facts) -> str:
    config = dict(known.description.get("config") or {})
    config |= (known.description.get("tokenizer") or {}).get("config", {})
    config.pop("upstream", None)  # of a tokenizer: the arguments of its encoder, which are there already
    shown = ", ".join(code(f"{name}={value}", cell=False) for name, value in config.items() if value is not None)
    return f"Settings: {shown}."


def _loading() -> list[str]:
    python = """import speechssl

upstream = speechssl.load_upstream("FOLDER")  # this folder
features = upstream([waveform])  # a list of 1-D tensors, or (B, S) and lengths
features.hidden_states  # a list of (B, T, D); features.lengths are the valid frames"""
    shell = """speechssl extract upstream=FOLDER data=CORPUS out=features
speechssl benchmark upstream=FOLDER tasks=all data=CORPUS run_dir=runs/benchmark"""
    return [fenced(python, "python"), fenced(shell, "sh")]


def _tokenizing() -> list[str]:
    python = """import speechssl

tokenizer = speechssl.load_tokenizer("FOLDER")  # this folder
labels = tokenizer.tokenize([waveform])  # (B, N) int64, -1 on padding"""
    return [fenced(python, "python")]


def _conversion(known: Facts) -> str:
    """Tell of a published file what it was and how it was checked."""
    path = known.folder / "parity.json"
    if not path.is_file():
        return ""
    record = read_json(path)
    source = [[code(one["name"]), number(one["bytes"]), code(one["sha256"])] for one in record["source"]]
    rows = []
    for one in record["comparisons"]:
        states = [state["relative"] for state in one.get("states", ())]
        found = [f"labels that differ: {one['labels_differing']}"] if "labels_differing" in one else []
        found += [f"{'hidden states: ' if found else ''}{max(states):.1e}"] if states else []
        shown = f"not compared: {escaped(one['not_compared'])}" if "not_compared" in one else "; ".join(found)
        rows.append([code(one["against"]), shown])
    return section(
        "Where it comes from",
        "Converted from a published file; nothing was trained.",
        table(["file", "bytes", "sha256"], source),
        "Largest difference of a hidden state, relative to its largest value (all of them in `parity.json`):",
        table(["held against", "difference"], rows),
    )


def _limits(known: Facts, upstream: Upstream | None, evaluated: bool) -> str:
    lines = []
    if upstream is not None:
        lines.append(
            f"Audio of another sampling rate than {number(upstream.sample_rate)} Hz has to be resampled first."
        )
    if known.training.get("corpus"):
        before = known.training.get("init_from") or known.config.get("teacher")
        beside = "what the model it came from has seen" if before else "nothing else"
        lines.append(
            f"It has seen the corpora above and {beside}; other voices, languages, rooms and sounds are new to it."
        )
    if known.training.get("step") == 0:
        lines.append("It is untrained: its weights are as they were initialised.")
    if known.training.get("labels_seen"):
        lines.append("It, or a model it descends from, was trained with labels: it is not purely self-supervised.")
    if upstream is not None and not evaluated:
        lines.append("No benchmark of these weights is shown here.")
    return "\n".join(f"- {line}" for line in lines)
