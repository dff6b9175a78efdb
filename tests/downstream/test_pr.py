"""Phones: the published symbols, lexicons as they are found, greedy decoding, and a head that can be stacked."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from speechssl.downstream.pr.dataset import (
    END,
    INDEX,
    PHONES,
    SYMBOLS,
    UNKNOWN,
    encode,
    transcribe,
)
from speechssl.downstream.pr.head import LinearFrameHead
from speechssl.downstream.pr.task import PhonemeRecognition
from speechssl.errors import UserError

THE_CAT = ["DH", "AH0", "K", "AE1", "T"]
Make = Callable[..., Any]
CMU = """;;; a comment
THE  DH AH0
THE(2)  DH IY0
CAT  K AE1 T # an animal
cat  K AE0 T
"""
LIBRISPEECH = "CAT\tK AE2 T\nSAT\tS AE1 T\nIT'S\tIH1 T S\n"


@pytest.fixture
def lexicons(tmp_path: Path) -> list[str]:
    (tmp_path / "cmu.txt").write_text(CMU)
    (tmp_path / "librispeech.txt").write_text(LIBRISPEECH)
    return [str(tmp_path / "cmu.txt"), str(tmp_path / "librispeech.txt")]


def test_the_74_symbols() -> None:
    assert len(SYMBOLS) == 74
    assert SYMBOLS[:5] == ("<pad>", "<eos>", "<unk>", "SIL", "SPN")
    assert len([phone for phone in PHONES if phone[-1] in "012"]) == 45


def test_symbols_equal_those_of_s3prl() -> None:
    tokenizer = pytest.importorskip("s3prl.dataio.encoder.tokenizer")
    assert list(PHONES) == tokenizer.PHONEME_VOCAB
    ours, theirs = encode(["K", "AE1", "T"]), tokenizer.default_phoneme_tokenizer().encode("K AE1 T")
    assert ours.tolist() == list(theirs)


def test_targets_and_decoding() -> None:
    assert encode(["K", "AE1", "zz"]).tolist() == [INDEX["K"], INDEX["AE1"], UNKNOWN, END]
    path = [INDEX[name] for name in ("K", "K", "<pad>", "AE1", "T", "T", "<eos>")] + [INDEX["ZH"]]
    outputs = torch.nn.functional.one_hot(torch.tensor([path]), 74).float()
    assert transcribe(outputs, torch.tensor([7])) == [["K", "AE1", "T"]]


def test_phones_come_from_a_column_or_from_text(make_corpus: Make, lexicons: list[str]) -> None:
    columns = {"phones": [["K", "AE1"], None, []], "text": ["the cat", "sat", None], "language": ["en", None, "en"]}
    source = make_corpus(columns)
    task = PhonemeRecognition(source)
    task.check()
    assert task.dataset("train").labels["reference"] == [["K", "AE1"]]
    assert task.dataset("test").labels["reference"] == [["K", "AE1"], []]
    task = PhonemeRecognition(source, lexicon=lexicons)
    task.check()
    assert task.dataset("train").labels["reference"] == [THE_CAT, ["S", "AE1", "T"]]
    assert task.chance() == 100.0


def test_phone_error_rate_is_averaged_over_phones(make_corpus: Make) -> None:
    task = PhonemeRecognition(make_corpus({"phones": [["K", "AE1", "T"], ["S"]]}))
    metric, labels = task.metric(), task.dataset("test").labels
    rows = [["K", "<pad>", "AE0", "T"], ["S", "<pad>", "S", "<eos>"]]
    outputs = torch.nn.functional.one_hot(torch.tensor([[INDEX[name] for name in row] for row in rows]), 74).float()
    metric.update(outputs, torch.tensor([4, 4]), labels, ["a", "b"])
    assert metric.compute() == {"per": 50.0}
    assert metric.records()[0] == {
        "id": "a",
        "reference": "K AE1 T",
        "hypothesis": "K AE0 T",
        "numerator": 1,
        "denominator": 3,
    }


def test_words_without_pronunciation_are_counted_and_said(
    make_corpus: Make, lexicons: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    source = make_corpus({"text": ["the cat sat", "the zebra"]}, dev={"text": ["cat"]})
    with caplog.at_level(logging.WARNING):
        PhonemeRecognition(source, lexicon=lexicons).check()
    assert [record.getMessage()[:32] for record in caplog.records] == ["1 words of train are not in the "]


def test_wrong_labels_and_lexicons_are_one_clear_line(make_corpus: Make, tmp_path: Path, lexicons: list[str]) -> None:
    texts = make_corpus({"text": ["the cat"]})
    with pytest.raises(
        UserError, match=r"which made-up lacks, or text and a pronunciation lexicon: task\.lexicon=FILE"
    ):
        PhonemeRecognition(texts).check()
    with pytest.raises(UserError, match=r"the lexicon .*none\.txt cannot be read"):
        PhonemeRecognition(texts, lexicon=str(tmp_path / "none.txt"))
    (tmp_path / "ipa.txt").write_text("CAT k æ t\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"line 1 of the lexicon .*ipa\.txt"):
        PhonemeRecognition(texts, lexicon=str(tmp_path / "ipa.txt"))
    (tmp_path / "empty.txt").write_text(";;; nothing\n")
    with pytest.raises(UserError, match="has no words"):
        PhonemeRecognition(texts, lexicon=str(tmp_path / "empty.txt"))
    with pytest.raises(UserError, match="found AH in dev of made-up"):
        PhonemeRecognition(make_corpus({"phones": [["AH0"]]}, dev={"phones": [["AH"]]})).check()
    with pytest.raises(UserError, match="lists of phones in the column 'phones', found 'AH0'"):
        PhonemeRecognition(make_corpus({"phones": ["AH0"]})).check()
    with pytest.raises(UserError, match="knows 1 of the 4 symbols"):
        PhonemeRecognition(make_corpus({"text": ["quite another language"]}), lexicon=lexicons).check()


def test_published_head_size(make_corpus: Make) -> None:
    task = PhonemeRecognition(make_corpus({"phones": [["K"]]}))
    head = task.head(768, 160)
    assert sum(p.numel() for p in head.parameters()) == 215_882
    assert head.stack == 1
    assert PhonemeRecognition(make_corpus({"phones": [["K"]]}), frame_ms=30.0).head(8, 160).stack == 3


@pytest.mark.parametrize("stack", [1, 3])
def test_the_head_ignores_padding_and_can_be_stacked(stack: int) -> None:
    torch.manual_seed(0)
    heads = [LinearFrameHead(6, 74, 5, stack) for _ in range(2)]
    features, lengths = torch.randn(3, 11, 6), torch.tensor([11, 4, 7])
    together, frames = heads[0](features, lengths)
    for row, n in enumerate(lengths):
        alone = heads[0](features[row : row + 1, :n], n[None])[0][0]
        torch.testing.assert_close(together[row, : frames[row]], alone, atol=1e-5, rtol=0)
    parameters, buffers = torch.func.stack_module_state(heads)

    def outputs(own: dict, state: dict) -> torch.Tensor:
        return torch.func.functional_call(heads[0], (own, state), (features, lengths))[0]

    stacked = torch.vmap(outputs)(parameters, buffers)
    for head, found in zip(heads, stacked, strict=True):
        torch.testing.assert_close(head(features, lengths)[0], found)
    assert LinearFrameHead.stackable
