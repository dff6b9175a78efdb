"""VoxCeleb1: the split for identification, trials for verification, speakers held out, copies without pauses."""

import logging
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechssl import registry
from speechssl.data.corpora import voxceleb1
from speechssl.data.cuts import open_corpus
from speechssl.data.items import Preparation, View
from speechssl.data.prepare import prepare
from speechssl.errors import UserError

DEV = [f"id1000{number}" for number in range(1, 7)]
TEST = ["id10270", "id10309"]
VIDEOS = ("1zcIwhmdeo4", "7gWzIy6yIIk", "-J3kLmUgQ0E")  # one begins with a hyphen, as YouTube's may
TAKES = ("00001", "00002")
NAMES = [f"{speaker}/{video}/{take}.wav" for speaker in (*DEV, *TEST) for video in VIDEOS for take in TAKES]
TRIALS = """1 id10270/1zcIwhmdeo4/00001.wav id10270/7gWzIy6yIIk/00001.wav
0 id10270/1zcIwhmdeo4/00001.wav id10309/1zcIwhmdeo4/00002.wav
1 id10309/7gWzIy6yIIk/00002.wav id10309/1zcIwhmdeo4/00002.wav
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small copy with the published layout: dev and test apart, noise around a second of digital silence."""
    root = tmp_path_factory.mktemp("voxceleb1")
    rng = np.random.default_rng(0)
    for name in NAMES:
        path = root / ("test" if name.split("/")[0] in TEST else "dev") / "wav" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = 0.1 * rng.standard_normal(24000)
        samples[4000:20000] = 0
        soundfile.write(path, samples, 16000, subtype="PCM_16")
    which = {"1zcIwhmdeo4": "1", "7gWzIy6yIIk": "2", "-J3kLmUgQ0E": "3"}
    lines = [f"{which[name.split('/')[1]]} {name}" for name in NAMES] + ["1 id10999/aaaaaaaaaaa/00001.wav"]
    (root / "iden_split.txt").write_text("\n".join(lines) + "\n")
    (root / "veri_test.txt").write_text(TRIALS)
    rows = [f"{speaker}\tA_Name\t{'mf'[int(speaker[-1]) % 2]}\tIreland\tdev" for speaker in (*DEV, *TEST)]
    header = "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet"
    (root / "vox1_meta.csv").write_text("\n".join([header, *rows]) + "\n")
    return root


@pytest.fixture(scope="module")
def plan(source: Path) -> Preparation:
    return voxceleb1.plan(source, held_out=2, dev_trials=20)


def view(plan: Preparation, name: str) -> View:
    return next(view for view in plan.views if view.folder == name)


def test_utterances(plan: Preparation) -> None:
    originals = [item for item in plan.items if not item.id.startswith("trimmed-")]
    assert len(originals) == len(NAMES)
    item = next(item for item in originals if item.id == "id10003--J3kLmUgQ0E-00002")
    assert (item.speaker, item.gender, item.custom) == ("id10003", "female", {"accent": "Ireland"})
    speakers = {split: {i.speaker for i in originals if i.split == split} for split in ("train", "dev", "test")}
    assert {split: len(found) for split, found in speakers.items()} == {"train": 4, "dev": 2, "test": 2}
    assert speakers["test"] == set(TEST)
    assert speakers["train"] | speakers["dev"] == set(DEV)
    assert plan.coverage["speakers"] == {"found": 8, "published": 1251}
    assert plan.coverage["trials"] == {"found": 3, "published": 37720}


def test_identification_is_the_published_split(plan: Preparation) -> None:
    splits = view(plan, "sid").splits
    assert {split: len(ids) for split, ids in splits.items()} == {"train": 16, "dev": 16, "test": 16}
    assert "id10270-1zcIwhmdeo4-00001" in splits["train"]
    assert all("-7gWzIy6yIIk-" in name for name in splits["dev"])
    assert all({name.split("-")[0] for name in ids} == {*DEV, *TEST} for ids in splits.values())


def test_verification_selects_on_speakers_of_its_own(plan: Preparation) -> None:
    asv = view(plan, "asv")
    speakers = {split: {name.split("-")[1] for name in ids} for split, ids in asv.splits.items()}
    assert {split: len(found) for split, found in speakers.items()} == {"train": 4, "dev": 2, "test": 2}
    assert not speakers["train"] & speakers["dev"]
    assert speakers["test"] == set(TEST)
    trials = [(first, *rest) for first, found in asv.columns["trials"].items() for rest in found]
    drawn = [trial for trial in trials if trial[0] in asv.splits["dev"]]
    assert Counter(same for _, _, same in drawn) == {0: 10, 1: 10}
    assert all((first.split("-")[1] == second.split("-")[1]) == bool(same) for first, second, same in drawn)
    assert all(first[:-6] != second[:-6] for first, second, same in drawn if same)  # another video
    assert {name for trial in drawn for name in trial[:2]} == set(asv.splits["dev"])


def test_the_test_trials_are_the_published_ones(plan: Preparation) -> None:
    asv = view(plan, "asv")
    first = "trimmed-id10270-1zcIwhmdeo4-00001"
    assert asv.columns["trials"][first] == [
        ["trimmed-id10270-7gWzIy6yIIk-00001", 1],
        ["trimmed-id10309-1zcIwhmdeo4-00002", 0],
    ]
    assert len(asv.splits["test"]) == 4
    assert "trimmed-id10309-1zcIwhmdeo4-00002" not in asv.columns["trials"]  # second only


def test_speakers_held_out_depend_on_the_seed_alone(source: Path, plan: Preparation) -> None:
    def held_out(made: Preparation) -> set[str | None]:
        return {item.speaker for item in made.items if item.split == "dev"}

    again = voxceleb1.plan(source, held_out=2, dev_trials=20)
    assert again.views == plan.views
    others = [held_out(voxceleb1.plan(source, held_out=2, dev_trials=4, seed=seed)) for seed in range(1, 5)]
    assert any(found != held_out(plan) for found in others)


def test_prepared_copies_have_no_pauses(source: Path, tmp_path: Path) -> None:
    out = prepare("voxceleb1", source, tmp_path / "out", progress=False, held_out=2, dev_trials=20)
    sid, asv = open_corpus(out / "sid").table("train"), open_corpus(out / "asv").table("test")
    row = asv.ids.index("trimmed-id10270-1zcIwhmdeo4-00001")
    original = sid.read(sid.ids.index("id10270-1zcIwhmdeo4-00001"))
    assert len(original) == 24000
    assert 7000 < asv.num_samples[row] < 10000  # the half second of noise that is left
    lower = np.sqrt(np.mean(asv.read(row)[:3000] ** 2) / np.mean(original[:3000] ** 2))
    assert lower == pytest.approx(10 ** (-3 / 20), rel=0.02)
    assert asv.column("trials")[row] == [
        ["trimmed-id10270-7gWzIy6yIIk-00001", 1],
        ["trimmed-id10309-1zcIwhmdeo4-00002", 0],
    ]
    assert sorted(set(asv.column("speaker"))) == TEST
    assert open_corpus(out).splits == ["train", "dev", "test"]
    assert len(open_corpus(out).table("test")) == 12  # no copies
    for name in ("sid", "asv"):
        settings = {"min_seconds": 0.3} if name == "asv" else {}
        registry.module("downstream", name).TASK(open_corpus(out / name), **settings).check()


def test_without_trimming_there_are_no_copies(source: Path) -> None:
    made = voxceleb1.plan(source, held_out=2, dev_trials=20, trim=False)
    assert len(made.items) == len(NAMES)
    assert "id10270-1zcIwhmdeo4-00001" in view(made, "asv").columns["trials"]


def test_one_folder_with_all_speakers(source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for part in ("dev", "test"):
        shutil.copytree(source / part / "wav", tmp_path / "wav", dirs_exist_ok=True)
    (tmp_path / "meta").mkdir()
    for name in ("iden_split.txt", "veri_test.txt"):
        shutil.copy(source / name, tmp_path / "meta")
    with caplog.at_level(logging.WARNING):
        made = voxceleb1.plan(tmp_path, held_out=2, dev_trials=20)
    assert [item.id for item in made.items] == [i.id for i in voxceleb1.plan(source, held_out=2, dev_trials=20).items]
    assert "no vox1_meta.csv: no genders" in caplog.text
    assert made.items[0].gender is None


def test_a_trial_of_an_absent_file(source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mine = tmp_path / "trials.txt"
    mine.write_text(TRIALS + "1 id10270/1zcIwhmdeo4/00009.wav id10270/1zcIwhmdeo4/00001.wav\n")
    with pytest.raises(UserError, match=r"names id10270/1zcIwhmdeo4/00009.wav, which is not there.*options\.trials="):
        voxceleb1.plan(source, trials=str(mine))
    mine.write_text(TRIALS.splitlines()[0] + "\n")
    assert voxceleb1.plan(source, held_out=2, trials=str(mine)).coverage["trials"]["found"] == 1
    alone = tmp_path / "alone"
    shutil.copytree(source, alone, ignore=shutil.ignore_patterns("test"))
    with caplog.at_level(logging.WARNING):
        made = voxceleb1.plan(alone, held_out=2)
    assert [found.folder for found in made.views] == ["sid"]
    assert not any(item.id.startswith("trimmed-") for item in made.items)  # nobody would read them
    assert "no recordings of the test speakers: no view asv" in caplog.text


def test_lists_are_fetched_where_they_are_missing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(source, bare, ignore=shutil.ignore_patterns("*.txt"))
    monkeypatch.setenv("SPEECHSSL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(voxceleb1, "META", (tmp_path / "nothing").as_uri())
    with pytest.raises(UserError, match=r"has no iden_split.txt, and file:.*cannot be fetched: put it there"):
        voxceleb1.plan(bare)
    monkeypatch.setattr(voxceleb1, "META", source.as_uri())
    made = voxceleb1.plan(bare, held_out=2, dev_trials=20)
    assert {found.folder for found in made.views} == {"sid", "asv"}
    assert (tmp_path / "cache" / "voxceleb1" / "iden_split.txt").is_file()


def test_wrong_input_is_one_clear_line(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"held_out=1: trials among dev speakers need at least two"):
        voxceleb1.plan(source, held_out=1)
    with pytest.raises(UserError, match=r"is no copy of VoxCeleb1; expected one of the folders wav, dev/wav"):
        voxceleb1.plan(tmp_path)
    (tmp_path / "wav").mkdir()
    with pytest.raises(UserError, match=r"no recordings in .*id10001/1zcIwhmdeo4/00001.wav"):
        voxceleb1.plan(tmp_path)
    monkeypatch.delenv("SPEECHSSL_DATA", raising=False)
    with pytest.raises(UserError, match=r"cannot be fetched from here: ask for access at https"):
        voxceleb1.plan()
    bad = tmp_path / "bad"
    shutil.copytree(source, bad)
    (bad / "iden_split.txt").write_text("7 id10001/1zcIwhmdeo4/00001.wav\n")
    with pytest.raises(UserError, match=r"line 1: expected 1, 2 or 3 and a file name"):
        voxceleb1.plan(bad)
    (bad / "vox1_meta.csv").write_text("VoxCeleb1 ID,VGGFace1 ID,Gender\n")
    with pytest.raises(UserError, match=r"expected five columns with tabs"):
        voxceleb1.plan(bad)
