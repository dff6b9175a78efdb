"""LibriMix: two (or three) readers of LibriSpeech at once over noise, for diarization (view sd); made by its scripts.

J. Cosentino et al., "LibriMix: An Open-Source Dataset for Generalizable Speech Separation", 2020,
https://arxiv.org/abs/2005.11262. SUPERB (Yang et al., 2021, https://arxiv.org/abs/2105.01051) takes 16 kHz mixtures as
long as the longer utterance (`max`) with noise (`mix_both`): `Libri2Mix/wav16k/max/<part>/mix_both/<id>.wav`, with the
parts train-100, dev and test, listed in `Libri2Mix/wav16k/max/metadata/mixture_<part>_mix_both.csv`. An id is made of
those of the utterances, joined by underscores.

The column `activity` says who speaks when: from forced alignments of LibriSpeech, which come as RTTM files with
https://github.com/s3prl/LibriMix (`metadata/LibriSpeech/{train_clean_100,dev_clean,test_clean}.rttm`). RTTM files
of the mixtures themselves, as its Kaldi folders have them, are read as well. Without alignments `activity=spans` takes
each utterance as one turn from its first to its last sample, from the lengths in `metadata/LibriSpeech/*.csv`: coarser,
as pauses count as speech, and not comparable with published results.
"""

from pathlib import Path
from typing import Any

from speechssl.data.coverage import coverage
from speechssl.data.csv_rows import csv_rows
from speechssl.data.download import local_copy
from speechssl.data.items import Item, Preparation, View
from speechssl.data.rttm import Turn, read_rttm
from speechssl.errors import UserError

PARTS = {"train": "train-100", "dev": "dev", "test": "test"}
MIXTURES = Path("wav16k", "max")
RATE = 16000  # Hz, of the lengths that LibriMix lists
LICENCE = (
    "Speech: LibriSpeech, V. Panayotov et al., 2015, https://www.openslr.org/12, CC BY 4.0. Noise: WHAM!, G. Wichern "
    "et al., 2019, under a licence of its own, see http://wham.whisper.ai. Mixed by the scripts of LibriMix."
)


def plan(
    source: str | Path | None = None,
    *,
    kind: str = "mix_both",
    activity: str = "alignments",
    labels: str | None = None,
) -> Preparation:
    """List the mixtures with who speaks when.

    Args:
        source: the folder `Libri2Mix` or `Libri3Mix`, the one it lies in, or its `wav16k/max`; None =
            $SPEECHSSL_DATA/librimix.
        kind: folder of the mixtures, mix_both (with noise) or mix_clean.
        activity: alignments (from RTTM files) or spans (whole utterances).
        labels: folder with those RTTM files, or with the lists of LibriSpeech utterances; null looks for
            `metadata/LibriSpeech` beside the mixtures.
    """
    if activity not in ("alignments", "spans"):
        raise UserError(f"activity={activity} is unknown; expected alignments or spans")
    folder = _find(source)
    known = (_alignments if activity == "alignments" else _spans)(_label_folders(folder, labels))
    items, counts, silent = [], {}, 0
    for split, part in PARTS.items():
        listed = list(
            csv_rows(folder / "metadata" / f"mixture_{part}_{kind}.csv", ("mixture_ID", "mixture_path", "length"))
        )
        found = [_item(row, folder / part / kind, split, known) for row in listed]
        silent += sum("activity" not in item.custom for item in found)
        items += found
        counts[f"{split} mixtures"] = (sum(Path(str(item.audio)).is_file() for item in found), len(listed))
    if silent == len(items):
        raise UserError(
            f"none of the {len(items)} mixtures is in the labels; expected those of the same LibriSpeech parts"
        )
    splits = {split: [item.id for item in items if item.split == split] for split in PARTS}
    missing = f"{silent} of them without activity" if silent else ""
    return Preparation(
        "librimix", items, LICENCE, [View("sd", "sd", "", splits)], coverage=coverage("librimix", counts, missing)
    )


def _find(source: str | Path | None) -> Path:
    """Return the folder with `metadata` and the parts."""
    given = local_copy("librimix") if source is None else Path(source)
    if given is None:
        raise UserError(
            "LibriMix is generated, not fetched: run generate_librimix.sh of https://github.com/s3prl/LibriMix for "
            "16k, max and mix_both, and give source= the folder Libri2Mix"
        )
    inside = [given, given / MIXTURES, given / "Libri2Mix" / MIXTURES, given / "Libri3Mix" / MIXTURES]
    folder = next((path for path in inside if (path / "metadata").is_dir() and (path / "dev").is_dir()), None)
    if folder is None:
        raise UserError(
            f"source={given} holds no Libri2Mix/wav16k/max with metadata and dev; generate 16 kHz, max mixtures"
        )
    return folder


def _label_folders(folder: Path, given: str | None) -> list[Path]:
    """Return where labels may be: the repository that generated the mixtures often lies beside or above them."""
    if given is not None:
        return [Path(given)]
    above = [folder, *folder.resolve().parents[:4]]
    return [
        place
        for path in above
        for place in (path / "metadata" / "LibriSpeech", path / "LibriMix" / "metadata" / "LibriSpeech")
    ]


def _first(folders: list[Path], pattern: str) -> list[Path]:
    """Return the files of the first folder that has such."""
    found = (sorted(path for path in folder.glob(pattern) if path.is_file()) for folder in folders if folder.is_dir())
    return next(filter(None, found), [])


def _alignments(folders: list[Path]) -> dict[str, list[Turn]]:
    paths = _first(folders, "**/*rttm")
    if not paths:
        raise UserError(
            f"no RTTM files in {folders[0]}; give options.labels= the folder metadata/LibriSpeech of "
            "https://github.com/s3prl/LibriMix, or take whole utterances as speech with options.activity=spans"
        )
    return read_rttm(paths)


def _spans(folders: list[Path]) -> dict[str, list[Turn]]:
    """Return one turn per LibriSpeech utterance, as long as the lists say."""
    paths = _first(folders, "*.csv")
    if not paths:
        raise UserError(
            f"no lists of LibriSpeech utterances in {folders[0]}; give options.labels= the folder metadata/LibriSpeech "
            "of https://github.com/JorisCos/LibriMix"
        )
    rows = [row for path in paths for row in csv_rows(path, ("speaker_ID", "length", "origin_path"))]
    return {Path(row["origin_path"]).stem: [(row["speaker_ID"], 0.0, int(row["length"]) / RATE)] for row in rows}


def _item(row: dict[str, str], folder: Path, split: str, known: dict[str, list[Turn]]) -> Item:
    name = row["mixture_ID"]
    here, listed = folder / f"{name}.wav", Path(row["mixture_path"])
    audio = listed if listed.is_file() and not here.is_file() else here
    activity = _activity(name, known)
    custom: dict[str, Any] = {} if activity is None else {"activity": activity}
    return Item(name, str(audio), split, language="en", custom=custom)


def _activity(mixture: str, known: dict[str, list[Turn]]) -> list[list] | None:
    """Return the turns of a mixture as [speaker, start, end] by start, or None where a speaker has none."""
    if mixture in known:
        turns = known[mixture]
    else:
        turns = []
        for utterance in mixture.split("_"):
            speaker, _, rest = utterance.partition("-")
            own = known.get(utterance) or known.get(rest)  # the published files leave the speaker out of the name
            if not own:
                return None
            turns += [(speaker, start, end) for _, start, end in own]
    return [list(turn) for turn in sorted(turns, key=lambda turn: (turn[1], turn[2], turn[0]))]
