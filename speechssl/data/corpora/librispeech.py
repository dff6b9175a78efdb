"""LibriSpeech: up to 960 hours of read English books with their text; downloaded where no source= is given.

V. Panayotov et al., "Librispeech: an ASR corpus based on public domain audio books", ICASSP 2015,
https://www.openslr.org/12: `<part>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac`, one `.trans.txt` per
chapter, and `SPEAKERS.TXT`. The plain manifests hold all parts that are there: train-* in train, dev-* in dev, and
test-* in test.

Views, as SUPERB uses the corpus (Yang et al., 2021, https://arxiv.org/abs/2105.01051):

- `asr`: train-clean-100, dev-clean and test-clean. `asr_other`: the same train, with dev-other and test-other.
- `pr`: as `asr`, with the column `phones` from a lexicon: first pronunciation, stress digits kept. SUPERB took
  `librispeech-lexicon-200k-g2p.txt` and `librispeech-lexicon-allothers-g2p.txt`; `librispeech-lexicon.txt` of
  https://www.openslr.org/11 is an alternative. They are looked for beside the corpus.

Lhotse fetches the parts, resuming where it stopped. The lists are read here: lhotse's reader agrees with ours in ids,
texts and speakers, but opens all files to do so, ends at the first that is damaged, and knows no genders.
"""

import logging
import tarfile
from collections.abc import Iterable, Iterator
from http.client import HTTPException
from pathlib import Path

from speechssl.data.coverage import coverage
from speechssl.data.download import cache_folder, local_copy
from speechssl.data.items import Item, Preparation, View
from speechssl.errors import UserError, nearest
from speechssl.nn.lexicon import UNKNOWN, pronounce, read_lexicon

URL = "https://www.openslr.org/resources"
PUBLISHED = {  # utterances, https://huggingface.co/datasets/openslr/librispeech_asr
    "train-clean-100": 28539,
    "train-clean-360": 104014,
    "train-other-500": 148688,
    "dev-clean": 2703,
    "dev-other": 2864,
    "test-clean": 2620,
    "test-other": 2939,
}
CLEAN = ("train-clean-100", "dev-clean", "test-clean")
OTHER = ("train-clean-100", "dev-other", "test-other")
LEXICA = ("librispeech-lexicon-200k-g2p.txt", "librispeech-lexicon-allothers-g2p.txt")
OPENSLR_LEXICON = "librispeech-lexicon.txt"
GENDERS = {"F": "female", "M": "male"}
LICENCE = (
    "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/). LibriSpeech, V. Panayotov, G. Chen, D. Povey, "
    "S. Khudanpur, 2015, https://www.openslr.org/12. Changed: stored as 16 kHz PCM."
)

logger = logging.getLogger(__name__)


def plan(
    source: str | Path | None = None, *, parts: list[str] | None = None, lexicon: str | list[str] | None = None
) -> Preparation:
    """List the utterances with their text, and the views asr, asr_other and pr.

    Args:
        source: the folder `LibriSpeech`, or the one it lies in; None = $SPEECHSSL_DATA/librispeech where that
            exists, else a download into the user's cache folder.
        parts: such as [train-clean-100,dev-clean,test-clean]; null takes all that are there, or downloads those three.
        lexicon: file or files with the phones of words, the first that has a word wins; null looks beside the corpus.
    """
    for part in parts or ():
        if part not in PUBLISHED:
            raise UserError(
                f"LibriSpeech has no part {part!r}; it has {', '.join(PUBLISHED)}{nearest(part, PUBLISHED)}"
            )
    folder = _find(source, parts)
    there = [part for part in PUBLISHED if (folder / part).is_dir()]
    chosen = there if parts is None else parts
    if missing := set(chosen) - set(there):
        raise UserError(f"{folder} has no folder {min(missing)}; it has {', '.join(there)}; choose with options.parts=")
    genders = _genders(folder / "SPEAKERS.TXT")
    members = {part: list(_items(folder / part, genders)) for part in chosen}
    if empty := [part for part, items in members.items() if not items]:
        raise UserError(f"no texts in {folder / empty[0]}; expected files such as 84/121123/84-121123.trans.txt")
    found = coverage("librispeech", {part: (len(items), PUBLISHED[part]) for part, items in members.items()})
    items = [item for part in chosen for item in members[part]]
    return Preparation("librispeech", items, LICENCE, _views(members, _lexica(folder, lexicon)), coverage=found)


def _find(source: str | Path | None, parts: list[str] | None) -> Path:
    """Return the folder with the parts."""
    source = local_copy("librispeech") if source is None else Path(source)
    if source is None:
        return _download(parts or list(CLEAN))
    for folder in (source, source / "LibriSpeech"):
        if any((folder / part).is_dir() for part in PUBLISHED):
            return folder
    raise UserError(f"source={source} is no copy of LibriSpeech; expected a folder with parts such as {CLEAN[0]}")


def _download(parts: list[str]) -> Path:
    from lhotse.recipes.librispeech import download_librispeech

    try:
        return Path(download_librispeech(cache_folder(), parts, base_url=URL))
    except (OSError, tarfile.TarError, EOFError, HTTPException) as error:
        raise UserError(
            f"could not download LibriSpeech from {URL}/12 ({error}); try again to resume, or give source= a copy"
        ) from error


def _genders(path: Path) -> dict[str, str]:
    """Return the gender of every speaker; lines are `14   | F | train-clean-360  | 25.03 | ...`."""
    if not path.is_file():
        logger.warning("%s is missing: no genders", path)
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if not line.startswith(";")]
    return {row[0]: GENDERS[row[1]] for row in rows if len(row) > 1 and row[1] in GENDERS}


def _items(folder: Path, genders: dict[str, str]) -> Iterator[Item]:
    """Yield the utterances that a part's texts name; `prepare` lists those whose audio is missing."""
    for texts in sorted(folder.glob("*/*/*.trans.txt")):
        speaker = texts.parent.parent.name
        for line in texts.read_text(encoding="utf-8").splitlines():
            name, _, text = line.strip().partition(" ")
            if name:
                audio, split = str(texts.parent / f"{name}.flac"), folder.name.split("-")[0]
                gender = genders.get(speaker)
                yield Item(name, audio, split, speaker=speaker, gender=gender, text=text.strip(), language="en")


def _lexica(folder: Path, given: str | list[str] | None) -> list[Path]:
    """Return the lexica to use, in order; of those beside the corpus SUPERB's, if both are there."""
    if given is not None:
        return [Path(path) for path in ([given] if isinstance(given, str) else given)]
    for names in (LEXICA, (OPENSLR_LEXICON,)):
        for place in (folder, folder.parent):
            if all((place / name).is_file() for name in names):
                return [place / name for name in names]
    return []


def _views(members: dict[str, list[Item]], lexica: list[Path]) -> list[View]:
    views = []
    if members.keys() >= set(CLEAN):
        views.append(View("asr", "asr", "", _splits(members, CLEAN)))
        phones = _phones([item for part in CLEAN for item in members[part]], lexica)
        views.append(View("pr", "pr", "", _splits(members, CLEAN), {"phones": phones} if phones else {}))
    if members.keys() >= set(OTHER):
        views.append(View("asr_other", "asr_other", "", _splits(members, OTHER)))
    return views


def _splits(members: dict[str, list[Item]], parts: Iterable[str]) -> dict[str, list[str]]:
    return {part.split("-")[0]: [item.id for item in members[part]] for part in parts}


def _phones(items: list[Item], lexica: list[Path]) -> dict[str, list[str]]:
    """Return the phones by item; words that are in no lexicon are one unknown phone each, and counted in the log."""
    if not lexica:
        logger.warning("no lexicon beside LibriSpeech: no phones in pr; give options.lexicon=, or later task.lexicon=")
        return {}
    known = read_lexicon(lexica)
    phones = {item.id: pronounce(item.text or "", known) for item in items}
    missing = sum(spoken.count(UNKNOWN) for spoken in phones.values())
    if missing:
        logger.warning("%d words of LibriSpeech are in no lexicon and are %s in the phones", missing, UNKNOWN)
    return phones
