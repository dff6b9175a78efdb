"""Kathbath: read sentences in twelve languages of India, for language identification (views lid, sid and asr).

T. Javed et al., "IndicSUPERB: A Speech Processing Universal Performance Benchmark for Indian languages", 2022,
https://arxiv.org/abs/2208.11761, https://github.com/AI4Bharat/IndicSUPERB:
`<language>/<split>/.../<number>-<speaker>-<f or m>.m4a`, and `<language>/<split>/transcription_n2w.txt` in an archive
of its own. The audio is AAC, which libsndfile does not read: it has to be converted first (recipes/kathbath does).

Two test sets: speakers who are in train as well (test_known), and others. Views: `lid` and `lid_known` (all languages,
tested on unknown and on known speakers), `sid` (all speakers, tested on test_known), `asr/<language>` where transcripts
are there. The plain manifests hold train, valid as dev, and the unknown speakers' test set.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

from speechssl.data.coverage import coverage
from speechssl.data.download import local_copy
from speechssl.data.items import Item, Preparation, View
from speechssl.errors import UserError, nearest

LANGUAGES = {
    "bengali": "bn",
    "gujarati": "gu",
    "hindi": "hi",
    "kannada": "kn",
    "malayalam": "ml",
    "marathi": "mr",
    "odia": "or",
    "punjabi": "pa",
    "sanskrit": "sa",
    "tamil": "ta",
    "telugu": "te",
    "urdu": "ur",
}
KNOWN, UNKNOWN = "test_known", "test"  # names of the test sets below
FOLDERS = {  # names that the splits' folders have
    "train": ("train", "train_audio"),
    "valid": ("valid", "valid_audio"),
    KNOWN: ("test_known", "testkn", "testkn_audio"),
    UNKNOWN: ("test_unknown", "testunk", "testunk_audio", "test"),
}
SPLITS = {"train": "train", "valid": "dev", KNOWN: "", UNKNOWN: "test"}  # of the plain manifests
SUFFIXES = (".wav", ".flac")
AAC = ".m4a"
TRANSCRIPTS = ("transcription_n2w.txt", "transcription.txt")
GENDERS = {"f": "female", "m": "male"}
LICENCE = (
    "CC0 1.0 (https://creativecommons.org/publicdomain/zero/1.0/) of the packaging; the sentences come from public web "
    "pages. Kathbath, T. Javed et al., 2022, https://github.com/AI4Bharat/IndicSUPERB. Changed: stored as 16 kHz PCM."
)

logger = logging.getLogger(__name__)

Members = dict[str, dict[str, list[Item]]]  # language -> split as published -> utterances


def plan(
    source: str | Path | None = None, *, languages: list[str] | None = None, transcripts: str | None = None
) -> Preparation:
    """List the utterances with language, speaker and gender, and the views.

    Args:
        source: the folder with a folder per language; None = $SPEECHSSL_DATA/kathbath.
        languages: such as [hindi,tamil]; null takes all that are there.
        transcripts: folder with the unpacked transcripts; null looks beside the audio.
    """
    for language in languages or ():
        if language not in LANGUAGES:
            raise UserError(
                f"Kathbath has no language {language!r}; it has {', '.join(LANGUAGES)}{nearest(language, LANGUAGES)}"
            )
    folder = _find(source)
    texts = folder if transcripts is None else _with_languages(Path(transcripts))
    chosen = [name for name in LANGUAGES if (folder / name).is_dir() and name in (languages or LANGUAGES)]
    members = {name: _of_language(folder / name, texts / name) for name in chosen}
    items = [item for splits in members.values() for found in splits.values() for item in found]
    if not items:
        raise UserError(f"no recordings in {folder}; expected files such as hindi/train/844424931537866-594-f.wav")
    _refuse_aac(items, folder)
    counts = {"languages": (sum(any(splits.values()) for splits in members.values()), len(languages or LANGUAGES))}
    return Preparation("kathbath", items, LICENCE, _views(members), coverage=coverage("kathbath", counts))


def _find(source: str | Path | None) -> Path:
    given = local_copy("kathbath") if source is None else Path(source)
    if given is None:
        raise UserError(
            "Kathbath needs source=: unpack the archives that https://github.com/AI4Bharat/IndicSUPERB links to, and "
            "convert their m4a files to wav"
        )
    return _with_languages(given)


def _with_languages(given: Path) -> Path:
    """Return the folder that has one per language: this one, or one in it such as `data` or `kb_data_clean_wav`."""
    inside = sorted(path for path in given.iterdir() if path.is_dir()) if given.is_dir() else []
    for folder in (given, *inside):
        if any((folder / language).is_dir() for language in LANGUAGES):
            return folder
    raise UserError(f"{given} is no copy of Kathbath; expected folders such as hindi/train in it")


def _of_language(folder: Path, texts: Path) -> dict[str, list[Item]]:
    found = {}
    for split, names in FOLDERS.items():
        spoken = _transcripts(texts, names)
        found[split] = [
            item
            for name in names
            for path in _recordings(folder / name)
            if (item := _item(path, folder.name, split, spoken))
        ]
    return found


def _recordings(folder: Path) -> Iterator[Path]:
    """Yield one file per utterance, sorted; what can be read comes before what cannot."""
    files: dict[str, Path] = {}
    for suffix in (*SUFFIXES, AAC):
        for path in folder.rglob(f"*{suffix}"):
            files.setdefault(path.stem, path)
    yield from (files[stem] for stem in sorted(files))


def _transcripts(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Return the text of every file; lines are `844424931537866-594-f.m4a`, a tab, and the text."""
    for path in (folder / name / listing for name in names for listing in TRANSCRIPTS):
        if path.is_file():
            rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            if any(len(row) != 2 for row in rows):
                raise UserError(f"{path}: expected a file name, a tab and a text in every line")
            return {Path(name).stem: text.strip() for name, text in rows}
    return {}


def _item(path: Path, language: str, split: str, texts: dict[str, str]) -> Item | None:
    """Return the utterance of a file `<number>-<speaker>-<gender>`; None for files with other names."""
    name = path.stem.split("-")
    if len(name) != 3:
        logger.warning("%s is left out: expected a name such as 844424931537866-594-f", path)
        return None
    return Item(
        f"{language}-{path.stem}",
        str(path),
        SPLITS[split],
        speaker=f"{language}-{name[1]}",
        gender=GENDERS.get(name[2]),
        text=texts.get(path.stem),
        language=LANGUAGES[language],
    )


def _refuse_aac(items: list[Item], folder: Path) -> None:
    aac = sum(str(item.audio).endswith(AAC) for item in items)
    if aac:
        raise UserError(
            f"{folder} holds {aac} m4a files (AAC) that cannot be read; convert them, each beside itself: "
            "ffmpeg -i FILE.m4a -ar 16000 -ac 1 FILE.wav"
        )


def _views(members: Members) -> list[View]:
    everyone = {split: [i for found in members.values() for i in found[split]] for split in SPLITS}
    views = [
        _view("lid", "lid", everyone, UNKNOWN),
        _view("lid_known", "lid_known", everyone, KNOWN),
        _view("sid", "sid", everyone, KNOWN),
    ]
    for language, found in members.items():
        spoken = {split: [item for item in items if item.text] for split, items in found.items()}
        views.append(_view(f"asr/{language}", f"asr-{language}", spoken, UNKNOWN))
    return [view for view in views if all(view.splits.values())]


def _view(folder: str, name: str, members: dict[str, list[Item]], test: str) -> View:
    parts = {"train": "train", "dev": "valid", "test": test}
    return View(folder, name, "", {split: [item.id for item in members[part]] for split, part in parts.items()})
