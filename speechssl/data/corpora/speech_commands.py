"""Speech Commands: one-second words of thousands of speakers, version 1 (30 words) or 2 (35); downloaded if need be.

P. Warden, "Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition", 2018,
https://arxiv.org/abs/1804.03209. Two archives, neither with a folder of its own around its files: one with
`<word>/<speaker>_nohash_<take>.wav`, six long `_background_noise_/*.wav` and the official lists, and a test set with
the twelve classes of keyword spotting as folders. The column `keyword` holds the word, or the class.

The plain manifests hold the words in the official splits (validation_list.txt is dev). Views:

- `v35` (`v30` with version 1): the same, for recognising all words.
- `v12`: SUPERB's keyword spotting (Yang et al., 2021, https://arxiv.org/abs/2105.01051, with version 1): ten
  words, `_unknown_` for all others and `_silence_`. Train and dev by hash of the speaker, whose testing share goes
  unused, because the test set is the archive of its own. Silence in train *and* dev is the background noise, the same
  full seconds of it in both.
"""

import hashlib
import re
from pathlib import Path

from speechssl.audio import audio_info
from speechssl.data.archive import fetch_tar
from speechssl.data.coverage import coverage
from speechssl.data.download import cache_folder, local_copy
from speechssl.data.items import Item, Preparation, View
from speechssl.errors import UserError

URL = "https://storage.googleapis.com/download.tensorflow.org/data"
SHA256 = {  # of the archives, as torchaudio (the words) and others published them
    "speech_commands_v0.01": "743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
    "speech_commands_v0.02": "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
    "speech_commands_test_set_v0.01": None,
    "speech_commands_test_set_v0.02": "cc2a00c1147c2254e9be3fa0f779d8c17421dc349b86366567a8edfa9acd51df",
}
PUBLISHED = {
    1: {"words": 64721, "test set": 3081, "noises": 6},
    2: {"words": 105829, "train": 84843, "dev": 9981, "test": 11005, "test set": 4890, "noises": 6},
}
NUM_WORDS = {1: 30, 2: 35}
LICENCE = (
    "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/). Speech Commands, P. Warden, 2018, "
    "https://arxiv.org/abs/1804.03209. Changed: stored as one-channel 16 kHz PCM."
)
KEYWORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN, SILENCE, NOISE = "_unknown_", "_silence_", "_background_noise_"
LISTS = {"dev": "validation_list.txt", "test": "testing_list.txt"}
ONLY_IN_2 = "backward"
SPEAKER = re.compile(r"(.+)_nohash_\d+")
HASH_BINS = 2**27  # of the official split function, see its README


def plan(source: str | Path | None = None, *, version: int = 2) -> Preparation:
    """List the words, the test set and the noises, with the official splits.

    Args:
        source: the folder with `speech_commands_v0.0N` and `speech_commands_test_set_v0.0N`, or the former, beside
            which the latter is looked for; None = $SPEECHSSL_DATA/speech_commands where that exists, else a
            download of 2.5 GB (version 2) into the user's cache folder.
        version: 1 or 2.
    """
    if version not in PUBLISHED:
        raise UserError(f"version={version} of Speech Commands is unknown; expected 1 or 2")
    folder, test_folder = _find(source, version)
    words, noises, tests = _words(folder), _noises(folder), _tests(test_folder)
    every_word = View(f"v{NUM_WORDS[version]}", f"v{NUM_WORDS[version]}", "", _splits(words))
    views = [view for view in (every_word, _twelve(words, noises, tests)) if all(view.splits.values())]
    found = coverage("speech_commands", _counts(version, words, noises, tests), f"version {version}")
    return Preparation("speech_commands", words + noises + tests, LICENCE, views, coverage=found)


def _find(source: str | Path | None, version: int) -> tuple[Path, Path | None]:
    """Return the folder of the words and that of the test set, None where there is none."""
    name, test_name = f"speech_commands_v0.0{version}", f"speech_commands_test_set_v0.0{version}"
    source = local_copy("speech_commands") if source is None else Path(source)
    if source is None:
        source = cache_folder()
        for each in (name, test_name):
            fetch_tar(f"{URL}/{each}.tar.gz", source / each, SHA256[each])
    folder = source / name if (source / name).is_dir() else source
    if not all((folder / file).is_file() for file in LISTS.values()):
        raise UserError(
            f"source={source} is no copy of Speech Commands; expected a folder {name} with {LISTS['dev']} and "
            f"{LISTS['test']} in it, and {test_name} beside it"
        )
    if version == 1 and (folder / ONLY_IN_2).is_dir():
        raise UserError(f"{folder} is version 2 (it has the word {ONLY_IN_2!r}); give options.version=2")
    beside = folder.parent / test_name
    return folder, beside if beside.is_dir() else None


def _words(folder: Path) -> list[Item]:
    """Return the words with their official split."""
    listed = {
        line.strip(): split
        for split, name in LISTS.items()
        for line in (folder / name).read_text(encoding="utf-8").splitlines()
    }
    paths = [path for path in sorted(folder.glob("*/*.wav")) if path.parent.name != NOISE and path.name[0] != "."]
    if not paths:
        raise UserError(f"no words in {folder}; expected files such as yes/0a7c2a8d_nohash_0.wav")
    return [_item(path, "", listed.get(f"{path.parent.name}/{path.name}", "train")) for path in paths]


def _tests(folder: Path | None) -> list[Item]:
    paths = sorted(folder.glob("*/*.wav")) if folder else []
    return [_item(path, "test-", "") for path in paths if path.name[0] != "."]


def _item(path: Path, prefix: str, split: str) -> Item:
    word, speaker = path.parent.name, SPEAKER.fullmatch(path.stem)
    return Item(
        f"{prefix}{word}-{path.stem}",
        str(path),
        split,
        speaker=speaker[1] if speaker else None,
        text=None if word in (UNKNOWN, SILENCE) else word.upper(),
        language="en",
        custom={"keyword": word},
        may_be_silent=True,  # the published counts include whatever the archives hold
    )


def _noises(folder: Path) -> list[Item]:
    """Return every full second of the background noises."""
    items = []
    for path in sorted((folder / NOISE).glob("*.wav")):
        for second in range(int(audio_info(path).seconds)):
            name, custom = f"{SILENCE}-{path.stem}-{second:02d}", {"keyword": SILENCE, "source_id": path.stem}
            items.append(Item(name, str(path), "", float(second), 1.0, custom=custom, may_be_silent=True))
    return items


def _splits(words: list[Item]) -> dict[str, list[str]]:
    return {split: [item.id for item in words if item.split == split] for split in ("train", "dev", "test")}


def _twelve(words: list[Item], noises: list[Item], tests: list[Item]) -> View:
    silence = [item.id for item in noises]
    splits: dict[str, list[str]] = {"train": [*silence], "dev": [*silence], "test": [item.id for item in tests]}
    unknown = {}
    for item in words:
        split = split_by_hash(item.speaker or item.id)
        if split == "test":
            continue
        splits[split].append(item.id)
        if item.custom["keyword"] not in KEYWORDS:
            unknown[item.id] = UNKNOWN
    return View("v12", "v12", "", splits, {"keyword": unknown})


def split_by_hash(speaker: str) -> str:
    """Return the split that the corpus's published function gives a speaker: 10 % dev, 10 % test."""
    number = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % HASH_BINS
    percentage = number * 100.0 / (HASH_BINS - 1)
    return "dev" if percentage < 10 else "test" if percentage < 20 else "train"


def _counts(version: int, words: list[Item], noises: list[Item], tests: list[Item]) -> dict[str, tuple[int, int]]:
    found = {split: len(ids) for split, ids in _splits(words).items()}
    found |= {"words": len(words), "test set": len(tests), "noises": len({i.custom["source_id"] for i in noises})}
    return {kind: (found[kind], published) for kind, published in PUBLISHED[version].items()}
