"""VoxCeleb1: interviews of 1,251 celebrities, for speaker identification (view sid) and verification (view asv).

A. Nagrani, J. S. Chung, A. Zisserman, "VoxCeleb: a large-scale speaker identification dataset", Interspeech 2017,
https://arxiv.org/abs/1706.08612: `wav/<speaker>/<video>/<number>.wav` of dev and test speakers, in one folder or in
`dev/wav` and `test/wav`, and beside them the lists `iden_split.txt`, `veri_test.txt` and `vox1_meta.csv`. Views:

- `sid`: the split for identification; every speaker is in all three splits.
- `asv`: train on the dev speakers, test on the trials of VoxCeleb1-O (the original list, as SUPERB, not the cleaned
  one). SUPERB has no dev trials and reports the best of ten checkpoints on test. Here some of the dev speakers are held
  out and trials drawn among them (the two utterances of a target trial are from different videos), so that dev can
  select. `trim`: copies 3 dB lower and without pauses, as in SUPERB, instead of the recordings themselves.

The plain manifests are for pretraining: the dev speakers in train, but for those held out, who are in dev, and the test
speakers in test.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from speechssl.audio import read_audio
from speechssl.audio.silence import trim_silence
from speechssl.data.coverage import coverage
from speechssl.data.download import cache_folder, fetch, local_copy
from speechssl.data.items import Item, Preparation, View
from speechssl.data.shards import SAMPLE_RATE
from speechssl.data.splits import hash64
from speechssl.data.trials import draw_trials, trials_by_first
from speechssl.errors import UserError
from speechssl.metrics.trial_list import Trial, read_trials

META = "https://www.robots.ox.ac.uk/~vgg/data/voxceleb/meta"
SPLIT_LIST, TRIAL_LIST, SPEAKER_LIST = "iden_split.txt", "veri_test.txt", "vox1_meta.csv"
IDENTIFICATION = {"1": "train", "2": "dev", "3": "test"}
TEST_SPEAKERS = {f"id{number}" for number in range(10270, 10310)}
FOLDERS = ("wav", "dev/wav", "test/wav", "vox1_dev_wav/wav", "vox1_test_wav/wav")
PUBLISHED = {"dev utterances": 148642, "test utterances": 4874, "speakers": 1251, "trials": 37720}
GENDERS = {"m": "male", "f": "female"}
GAIN = 10 ** (-3 / 20)  # 3 dB lower, SUPERB's guard against clipping; its threshold of silence is after it
TRIMMED = "trimmed-"
LICENCE = (
    "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/); the videos remain their owners'. VoxCeleb1, "
    "A. Nagrani, J. S. Chung, A. Zisserman, 2017, https://www.robots.ox.ac.uk/~vgg/data/voxceleb/."
)

logger = logging.getLogger(__name__)


def plan(
    source: str | Path | None = None,
    *,
    trim: bool = True,
    held_out: int = 40,
    dev_trials: int = 20_000,
    trials: str | None = None,
    seed: int = 0,
) -> Preparation:
    """List the utterances with speaker, gender and nationality (accent), and the views sid and asv.

    Args:
        source: the folder with `wav`, or with `dev/wav` and `test/wav`; None = $SPEECHSSL_DATA/voxceleb1.
        trim: store a second copy without pauses for the view asv (needs pack=true); false takes the recordings.
        held_out: dev speakers whose trials select, instead of being trained on.
        dev_trials: number of those.
        trials: test trials; null = veri_test.txt beside the recordings, else a download of that list.
        seed: of the speakers held out and their trials.
    """
    if held_out < 2:
        raise UserError(f"held_out={held_out}: trials among dev speakers need at least two of them")
    folder = _folder(source)
    files = _files(folder)
    items = _items(files, _people(folder), held_out, seed)
    splits = _identification(folder, files)
    tested = _tested(Path(trials) if trials else _list(folder, TRIAL_LIST), files)
    drawn = draw_trials(_by_speaker(items, "dev"), dev_trials, f"voxceleb1/{seed}", lambda name: name.rsplit("-", 1)[0])
    asv, copies = _verification(items, drawn, tested, TRIMMED if trim else "")
    views = [view for view in (View("sid", "sid", "", splits), asv) if all(view.splits.values())]
    found = coverage("voxceleb1", _counts(items, tested), f"{sum(map(len, splits.values()))} of them in {SPLIT_LIST}")
    return Preparation("voxceleb1", items + (copies if asv in views else []), LICENCE, views, coverage=found)


def id_of(name: str) -> str:
    """Return the utterance id of a published name, `id10270/x6uYqmx31kE/00001.wav`: file names alone repeat."""
    return name.removesuffix(".wav").replace("/", "-")


def read_trimmed(path: str) -> tuple[np.ndarray, int]:
    """Return the samples (S,) of a recording, 3 dB lower and without pauses, and their rate in Hz."""
    return trim_silence(np.float32(GAIN) * read_audio(path, sample_rate=SAMPLE_RATE), SAMPLE_RATE), SAMPLE_RATE


def _folder(source: str | Path | None) -> Path:
    folder = local_copy("voxceleb1") if source is None else Path(source)
    if folder is None:
        raise UserError(
            "VoxCeleb1 cannot be fetched from here: ask for access at https://www.robots.ox.ac.uk/~vgg/data/voxceleb/, "
            "unpack vox1_dev_wav and vox1_test_wav, and give source= the folder that then holds wav"
        )
    if not any((folder / wav).is_dir() for wav in FOLDERS):
        raise UserError(
            f"source={folder} is no copy of VoxCeleb1; expected one of the folders {', '.join(FOLDERS)} in it"
        )
    return folder


def _files(folder: Path) -> dict[str, Path]:
    """Return the recordings by published name, sorted."""
    roots = [folder / wav for wav in FOLDERS if (folder / wav).is_dir()]
    found = {path.relative_to(root).as_posix(): path for root in roots for path in root.glob("id*/*/*.wav")}
    if not found:
        raise UserError(f"no recordings in {roots[0]}; expected files such as id10001/1zcIwhmdeo4/00001.wav")
    return dict(sorted(found.items()))


def _list(folder: Path, name: str) -> Path:
    """Return a published list: that beside the recordings, else fetched into the cache folder."""
    for path in (folder / name, folder / "meta" / name, cache_folder() / "voxceleb1" / name):
        if path.is_file():
            return path
    try:
        fetch(f"{META}/{name}", path)
    except UserError as error:
        raise UserError(f"{folder} has no {name}, and {META}/{name} cannot be fetched: put it there") from error
    return path


def _people(folder: Path) -> dict[str, dict[str, str | None]]:
    """Return gender and accent (nationality) of every speaker, where vox1_meta.csv is beside the recordings."""
    path = next((p for p in (folder / SPEAKER_LIST, folder / "meta" / SPEAKER_LIST) if p.is_file()), None)
    if path is None:
        logger.warning("%s has no %s: no genders and nationalities", folder, SPEAKER_LIST)
        return {}
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    if any(len(row) != 5 for row in rows if row != [""]):
        raise UserError(f"{path}: expected five columns with tabs between them, as published; found {rows[0]}")
    return {row[0]: {"gender": GENDERS.get(row[2]), "accent": row[3] or None} for row in rows if len(row) == 5}


def _items(files: dict[str, Path], people: dict[str, dict], held_out: int, seed: int) -> list[Item]:
    speakers = sorted({name.split("/")[0] for name in files} - TEST_SPEAKERS)
    dev = set(sorted(speakers, key=lambda speaker: hash64(f"held out/{seed}/{speaker}"))[:held_out])
    items = []
    for name, path in files.items():
        speaker = name.split("/")[0]
        split = "test" if speaker in TEST_SPEAKERS else "dev" if speaker in dev else "train"
        known = people.get(speaker, {})
        custom = {"accent": known["accent"]} if known.get("accent") else {}
        items.append(Item(id_of(name), str(path), split, speaker=speaker, gender=known.get("gender"), custom=custom))
    return items


def _identification(folder: Path, files: dict[str, Path]) -> dict[str, list[str]]:
    """Return the utterances of the splits for identification; lines are `3 id10001/1zcIwhmdeo4/00001.wav`."""
    path = _list(folder, SPLIT_LIST)
    splits: dict[str, list[str]] = {split: [] for split in IDENTIFICATION.values()}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        which, _, name = line.strip().partition(" ")
        if line.strip() and which not in IDENTIFICATION:
            raise UserError(f"{path}, line {number}: expected 1, 2 or 3 and a file name, found {line!r}")
        if name in files:
            splits[IDENTIFICATION[which]].append(id_of(name))
    return splits


def _tested(path: Path, files: dict[str, Path]) -> list[Trial]:
    """Return the test trials; none where no test speaker's recordings are there at all."""
    trials = read_trials(path)
    absent = sorted({name for trial in trials for name in trial[:2]} - files.keys())
    if absent and not TEST_SPEAKERS & {name.split("/")[0] for name in files}:
        logger.warning("no recordings of the test speakers: no view asv")
        return []
    if absent:
        raise UserError(
            f"{path} names {absent[0]}, which is not there, nor are {len(absent) - 1} others; complete the copy, or "
            "give options.trials= a list of what is there"
        )
    return [Trial(id_of(first), id_of(second), same) for first, second, same in trials]


def _by_speaker(items: Iterable[Item], split: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for item in items:
        if item.split == split:
            found[item.speaker or ""].append(item.id)
    return found


def _verification(items: list[Item], drawn: list[Trial], tested: list[Trial], mark: str) -> tuple[View, list[Item]]:
    """Return the view asv, and the copies it is of: items whose ids begin with `mark`; none where that is empty."""
    heard = {
        split: {name for trial in trials for name in trial[:2]} for split, trials in (("dev", drawn), ("test", tested))
    }
    heard["train"] = {item.id for item in items if item.split == "train"}
    splits = {
        split: [mark + item.id for item in items if item.id in heard[split]] for split in ("train", "dev", "test")
    }
    column = trials_by_first(Trial(mark + first, mark + second, same) for first, second, same in drawn + tested)
    wanted = set().union(*heard.values())
    copies = [
        replace(item, id=mark + item.id, audio=partial(read_trimmed, item.audio), split="")
        for item in items
        if mark and item.id in wanted
    ]
    return View("asv", "asv", "", splits, {"trials": column}), copies


def _counts(items: list[Item], tested: list[Trial]) -> dict[str, tuple[int, int]]:
    test = sum(item.split == "test" for item in items)
    found = {
        "dev utterances": len(items) - test,
        "test utterances": test,
        "speakers": len({item.speaker for item in items}),
        "trials": len(tested),
    }
    return {kind: (found[kind], published) for kind, published in PUBLISHED.items()}
