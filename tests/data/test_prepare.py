import functools
import inspect
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechssl import configs
from speechssl.data import parts, shards
from speechssl.data import prepare as prepare_module
from speechssl.data.cuts import open_corpus
from speechssl.data.items import Item, Preparation, View
from speechssl.data.manifest import fingerprint
from speechssl.data.prepare import prepare
from speechssl.errors import UserError

Tree = Callable[..., Path]
Write = Callable[..., Path]
Bytes = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def run_plan(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that prepares a `Preparation` made in the test."""

    def run(preparation: Preparation, out: Path, **settings: object) -> Path:
        monkeypatch.setattr(prepare_module, "plan_of", lambda corpus: lambda source: preparation)
        return prepare("made-up", None, out, progress=False, **settings)

    return run


def made_up(count: int = 12, rate: int = 16000) -> list[Item]:
    return [Item(f"u{i}", functools.partial(sine, 200 + 10 * i, rate), "train") for i in range(count)]


def sine(frequency: float, rate: int, seconds: float = 0.4) -> tuple[np.ndarray, int]:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate), rate


def test_a_folder_becomes_train_and_a_small_dev(audio_tree: Tree, tmp_path: Path) -> None:
    out = prepare("folder", audio_tree(12), tmp_path / "out", progress=False)
    corpus = open_corpus(out)
    assert corpus.splits == ["train", "dev"]
    assert len(corpus.table("train")) + len(corpus.table("dev")) == 12
    assert corpus.info["splits"]["train"]["utterances"] == len(corpus.table("train"))
    assert corpus.info["skipped"] == []
    assert corpus.info["sampling_rates"] == {"16000": 12}
    assert not (out / ".parts").exists()


def test_samples_are_those_of_the_source(audio_tree: Tree, tmp_path: Path) -> None:
    source = audio_tree(12)
    corpus = open_corpus(prepare("folder", source, tmp_path / "out", progress=False))
    for split in corpus.splits:
        table = corpus.table(split)
        for row, identifier in enumerate(table.ids):
            folder, name = identifier.split("-")
            original = soundfile.read(source / folder / f"{name}.wav", dtype="float32")[0]
            np.testing.assert_array_equal(table.read(row), original)  # 16 kHz PCM16 survives bit for bit
            assert table.rms(row) == pytest.approx(np.sqrt(np.mean(original.astype(float) ** 2)), rel=1e-9)


def test_lhotse_reads_what_we_write(audio_tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lhotse

    out = prepare("folder", audio_tree(12), tmp_path / "out", label_from="parent", progress=False)
    table = open_corpus(out).table("train")
    monkeypatch.chdir(out)  # lhotse takes relative sources from the current folder
    cuts = list(lhotse.CutSet.from_file("train.jsonl.gz"))
    assert [cut.id for cut in cuts] == table.ids
    for row, cut in enumerate(cuts):
        lhotse.validate(cut)
        assert cut.num_samples == table.num_samples[row]
        assert cut.custom["label"] == table.column("label")[row]
        np.testing.assert_array_equal(cut.load_audio()[0], table.read(row))


def test_resampled_mono_of_stereo_within_pcm16(write_audio: Write, tmp_path: Path) -> None:
    import lhotse

    path = write_audio(tmp_path / "in" / "a.wav", 0.8, rate=44100, channels=2)
    out = prepare("folder", tmp_path / "in", tmp_path / "out", progress=False)
    stored = open_corpus(out).table("train").read(0)
    expected = lhotse.Recording.from_file(path).resample(16000).to_cut().load_audio().mean(0)
    assert len(stored) == len(expected) == 12800
    np.testing.assert_allclose(stored[400:-400], expected[400:-400], atol=3e-3)  # another resampler
    quarter = np.abs(np.fft.rfft(stored - expected))[:1600]  # below 2 kHz both are the signal itself
    assert quarter.max() < 0.02 * np.abs(np.fft.rfft(expected))[:1600].max()


def test_bytes_do_not_depend_on_workers_or_repetition(
    audio_tree: Tree, tmp_path: Path, folder_bytes: Bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = audio_tree(12)
    monkeypatch.setattr(parts, "PART_ITEMS", 5)
    outs = [
        prepare("folder", source, tmp_path / f"out{workers}", workers=workers, progress=False) for workers in (1, 2)
    ]
    first, second = map(folder_bytes, outs)
    assert first == second
    assert {name for name in first if name.startswith("audio")} == {f"audio/0000{i}.wav" for i in range(3)}


def test_the_seed_shuffles_and_only_that(audio_tree: Tree, tmp_path: Path) -> None:
    source = audio_tree(12)
    corpora = [
        open_corpus(prepare("folder", source, tmp_path / f"out{seed}", seed=seed, progress=False)) for seed in (0, 1)
    ]
    ids = [corpus.table("train").ids for corpus in corpora]
    assert sorted(ids[0]) == sorted(ids[1])
    assert ids[0] != ids[1]
    assert ids[0] != sorted(ids[0])
    assert corpora[0].fingerprint != corpora[1].fingerprint


def test_unusable_files_are_skipped_and_listed(audio_tree: Tree, write_audio: Write, tmp_path: Path) -> None:
    bad = audio_tree(10) / "bad"
    whole = write_audio(bad / "truncated.wav").read_bytes()
    (bad / "truncated.wav").write_bytes(whole[: len(whole) // 2])
    whole = write_audio(bad / "truncated.ogg", 3.0).read_bytes()
    (bad / "truncated.ogg").write_bytes(whole[: len(whole) // 2])
    whole = write_audio(bad / "truncated.flac", 3.0).read_bytes()
    (bad / "truncated.flac").write_bytes(whole[: len(whole) // 2])
    (bad / "empty.wav").touch()
    (bad / "text.mp3").write_text("not audio")
    write_audio(bad / "short.wav", 0.05)
    soundfile.write(bad / "silent.wav", np.zeros(8000), 16000)
    soundfile.write(bad / "nan.wav", np.array([0.1, np.nan, 0.1] * 3000), 16000, subtype="FLOAT")
    info = open_corpus(prepare("folder", bad.parent, tmp_path / "out", progress=False)).info
    reasons = {entry["id"]: entry["reason"] for entry in info["skipped"]}
    expected = {
        "truncated.wav": "truncated",
        "truncated.ogg": "truncated",
        "truncated.flac": "",
        "empty.wav": "",
        "text.mp3": "cannot be read",
        "short.wav": "at least 0.1 s",
        "silent.wav": "silent",
        "nan.wav": "NaN",
    }
    assert sorted(Path(entry["source"]).name for entry in info["skipped"]) == sorted(expected)
    assert sum(split["utterances"] for split in info["splits"].values()) == 10
    for entry in info["skipped"]:
        assert expected[Path(entry["source"]).name] in reasons[entry["id"]]


def test_nothing_readable_is_one_line_and_leaves_nothing_to_resume(tmp_path: Path, write_audio: Write) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.wav").write_text("not audio")
    with pytest.raises(UserError, match=r"none of the 1 audio files can be used; the first: .*a\.wav") as caught:
        prepare("folder", tmp_path / "in", tmp_path / "out", progress=False)
    assert "\n" not in str(caught.value)
    write_audio(tmp_path / "in" / "a.wav")  # mended: the same command works now
    assert len(open_corpus(prepare("folder", tmp_path / "in", tmp_path / "out", progress=False)).table("train")) == 1


def test_files_joined_excerpts_and_functions(
    write_audio: Write, noise: Callable[..., np.ndarray], tmp_path: Path, run_plan: Callable[..., Path]
) -> None:
    a, b = (str(write_audio(tmp_path / f"{name}.wav", 1.0, seed=seed)) for name, seed in (("a", 1), ("b", 2)))
    items = [
        Item("joined", [a, b], "train", text="A B"),
        Item("excerpt", a, "train", start=0.25, duration=0.5),
        Item("tail", [a, b], "train", start=0.5),
        Item("closure", lambda: sine(300, 8000), "train"),
    ]
    table = open_corpus(run_plan(Preparation("made-up", items, "none"), tmp_path / "out")).table("train")
    read = {identifier: table.read(row) for row, identifier in enumerate(table.ids)}
    both = np.concatenate([noise(1.0, seed=1), noise(1.0, seed=2)])
    np.testing.assert_allclose(read["joined"], both, atol=4e-5)  # the source file is rounded to PCM16 already
    np.testing.assert_allclose(read["excerpt"], both[4000:12000], atol=4e-5)
    np.testing.assert_allclose(read["tail"], both[8000:], atol=4e-5)
    assert len(read["closure"]) == 6400


def test_functions_give_the_same_in_a_pool(
    tmp_path: Path, run_plan: Callable[..., Path], folder_bytes: Bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_ITEMS", 3)
    items = [
        Item(f"u{i}", functools.partial(soundfile.read, str(write(tmp_path / f"{i}.wav", i))), "train")
        for i in range(9)
    ]
    items[7].audio = lambda: sine(300, 8000)  # its part cannot travel and is done in the main process
    outs = [run_plan(Preparation("made-up", items, "none"), tmp_path / f"out{w}", workers=w) for w in (1, 2)]
    assert folder_bytes(outs[0]) == folder_bytes(outs[1])


def write(path: Path, seed: int) -> Path:
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.5, 0.5, 5000), 16000)
    return path


def test_not_finite_or_not_mono_from_a_function_is_skipped(tmp_path: Path, run_plan: Callable[..., Path]) -> None:
    items = [
        *made_up(2),
        Item("nan", lambda: (np.full(8000, np.nan), 16000)),
        Item("stereo", lambda: (np.ones((8000, 2)), 16000)),
    ]
    info = open_corpus(run_plan(Preparation("made-up", items, "none"), tmp_path / "out")).info
    assert [entry["id"] for entry in info["skipped"]] == ["nan", "stereo"]


def test_views_are_manifests_over_the_same_audio(tmp_path: Path, run_plan: Callable[..., Path]) -> None:
    items = [
        *made_up(12),
        Item("extra", functools.partial(sine, 50, 16000), ""),
        Item("bad", str(tmp_path / "none.wav")),
    ]
    for item in items:
        item.custom["keyword"] = f"word {item.id}"
    views = [
        View("few/draw0", "few", "draw0", {"train": ["u1", "u2"], "test": ["u3"]}),
        View("strings", "strings", "", {"train": ["extra", "bad"]}),
    ]
    out = run_plan(Preparation("made-up", items, "free", views), tmp_path / "out")
    main, few, strings = (open_corpus(out / name) for name in ("", "few/draw0", "strings"))
    assert "extra" not in main.table("train").ids
    assert (few.name, few.view, few.fold, few.splits) == ("made-up", "few", "draw0", ["train", "test"])
    assert sorted(few.table("train").ids) == ["u1", "u2"]
    assert few.table("test").column("keyword") == ["word u3"]
    np.testing.assert_array_equal(
        few.table("test").read(0), main.table("train").read(main.table("train").ids.index("u3"))
    )
    assert strings.table("train").ids == ["extra"]
    assert strings.info["left_out"] == ["bad"]
    assert (main.left_out, few.left_out, strings.left_out) == ({"bad"}, set(), {"bad"})
    assert len({corpus.fingerprint for corpus in (main, few, strings)}) == 3
    assert len(list((out / "audio").iterdir())) == 1


def test_the_corpus_can_be_moved(audio_tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = prepare("folder", audio_tree(10), tmp_path / "out", progress=False)
    before = open_corpus(out).table("train").read(0)
    out.rename(tmp_path / "elsewhere")
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(open_corpus(tmp_path / "elsewhere").table("train").read(0), before)


def test_fingerprint_equals_that_of_the_manifests(audio_tree: Tree, tmp_path: Path) -> None:
    corpus = open_corpus(prepare("folder", audio_tree(12), tmp_path / "out", label_from="parent", progress=False))
    rows = {split: corpus.table(split).rows() for split in corpus.splits}
    assert corpus.fingerprint == fingerprint(corpus.name, "", "", rows)


def test_without_packing_the_audio_stays(audio_tree: Tree, write_audio: Write, tmp_path: Path) -> None:
    source = audio_tree(11)
    write_audio(source / "stereo.flac", 0.7, rate=22050, channels=2, seed=50)
    (source / "bad.wav").write_text("not audio")
    packed, left = (
        open_corpus(prepare("folder", source, tmp_path / f"pack{pack}", pack=pack, progress=False))
        for pack in (True, False)
    )
    assert not (left.path / "audio").exists()
    assert [entry["id"] for entry in left.info["skipped"]] == ["bad"]
    assert packed.fingerprint == left.fingerprint
    for split in left.splits:
        a, b = packed.table(split), left.table(split)
        assert a.ids == b.ids
        for row in range(len(a)):
            assert len(b.read(row)) == b.num_samples[row]
            np.testing.assert_allclose(a.read(row), b.read(row), atol=2e-5)
            assert a.rms(row) == pytest.approx(b.rms(row), rel=1e-3)


def test_an_mp3_header_that_lies_is_noticed_without_packing(tmp_path: Path, write_audio: Write) -> None:
    whole = write_audio(tmp_path / "in" / "a.mp3", 5.0).read_bytes()
    (tmp_path / "in" / "a.mp3").write_bytes(whole[: len(whole) // 2])
    write_audio(tmp_path / "in" / "b.mp3", 1.0)
    info = open_corpus(prepare("folder", tmp_path / "in", tmp_path / "out", pack=False, progress=False)).info
    assert [entry["id"] for entry in info["skipped"]] == ["a"]


def test_several_sources_need_packing(tmp_path: Path, run_plan: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="needs pack=true"):
        run_plan(Preparation("made-up", made_up(), "none"), tmp_path / "out", pack=False)


def test_long_audio_gets_more_shards(tmp_path: Path, run_plan: Callable[..., Path], monkeypatch) -> None:
    monkeypatch.setattr(shards, "SHARD_SAMPLES", 15000)
    items = [Item(f"u{i}", functools.partial(sine, 300, 16000, s), "train") for i, s in enumerate((0.4, 0.5, 1.5, 0.4))]
    out = run_plan(Preparation("made-up", items, "none"), tmp_path / "out")
    lengths = {p.name: soundfile.info(p).frames for p in (out / "audio").iterdir()}
    assert lengths == {"00000.wav": 14400, "00000-1.wav": 24000, "00000-2.wav": 6400}
    table = open_corpus(out).table("train")
    for row, identifier in enumerate(table.ids):
        np.testing.assert_allclose(table.read(row), items[int(identifier[1])].audio()[0], atol=2e-5)


def test_parts_are_bounded_in_count_and_audio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 32000 * 10)
    monkeypatch.setattr(parts, "PART_ITEMS", 7)
    items = [Item(f"u{i}", "none.wav", duration=d) for i, d in enumerate([1.0] * 20 + [6.0, 6.0, 30.0, 1.0])]
    made = parts.make_parts(items)
    assert [item.id for part in made for item in part.items] == [item.id for item in items]
    assert [part.number for part in made] == list(range(len(made)))
    assert [len(part.items) for part in made] == [7, 7, 6, 1, 1, 1, 1]


def test_unknown_options_and_corpora_name_the_nearest(audio_tree: Tree, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nearest: 'dev_share'"):
        prepare("folder", audio_tree(3), tmp_path / "out", dev_shar=0.1)
    with pytest.raises(UserError, match=r"unknown corpus 'foldr'.*nearest: 'folder'"):
        prepare("foldr", None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_foreign_folders_are_not_overwritten(audio_tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "out" / "audio").mkdir(parents=True)
    with pytest.raises(UserError, match="already holds audio, which is not ours"):
        prepare("folder", audio_tree(3), tmp_path / "out", progress=False)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        prepare("folder", audio_tree(3), tmp_path / "file", progress=False)


def test_output_inside_the_source(audio_tree: Tree, tmp_path: Path) -> None:
    source = audio_tree(10)
    prepare("folder", source, source / "prepared", progress=False)
    again = prepare("folder", source, tmp_path / "again", progress=False)
    assert sum(s["utterances"] for s in open_corpus(again).info["splits"].values()) == 10


def test_duplicate_ids_and_wrong_splits_are_a_clear_error(tmp_path: Path, run_plan: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="id 'u0' occurs twice"):
        run_plan(Preparation("made-up", made_up(2) + made_up(1), "none"), tmp_path / "out")
    with pytest.raises(UserError, match="split 'valid'"):
        run_plan(Preparation("made-up", [Item("a", "a.wav", "valid")], "none"), tmp_path / "out")
    view = View("v", "v", "", {"train": ["u9"]})
    with pytest.raises(UserError, match="unknown items"):
        run_plan(Preparation("made-up", made_up(2), "none", [view]), tmp_path / "out")


def test_file_names_that_are_not_text(tmp_path: Path, write_audio: Write) -> None:
    import os

    write_audio(tmp_path / "in" / "gut ä\nzeile.wav")
    os.rename(tmp_path / "in" / "gut ä\nzeile.wav", os.fsencode(tmp_path / "in") + b"/\xff\n.wav")
    write_audio(tmp_path / "in" / "ähm.wav")
    for pack in (True, False):
        corpus = open_corpus(prepare("folder", tmp_path / "in", tmp_path / f"out{pack}", pack=pack, progress=False))
        assert len(corpus.table("train")) == 2
        assert "ähm" in corpus.table("train").ids
        assert all(len(corpus.table("train").read(row)) == 8000 for row in range(2))


def test_defaults_of_the_command_and_of_the_function_agree() -> None:
    signature = inspect.signature(prepare).parameters
    for key, (default, _) in configs.describe("prepare").items():
        if key not in ("corpus", "source", "out", "options"):
            assert json.loads(default) == signature[key].default, key
