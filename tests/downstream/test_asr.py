from types import SimpleNamespace

import pytest
import torch

from speechssl import configs
from speechssl.downstream.asr.dataset import END, UNKNOWN, Alphabet
from speechssl.downstream.asr.task import SpeechRecognition
from speechssl.errors import UserError

ENGLISH = Alphabet()
SYMBOLS, encode, decode, transcribe = ENGLISH.symbols, ENGLISH.encode, ENGLISH.decode, ENGLISH.transcribe


class Table:
    """The part of a cut table that tasks use."""

    def __init__(self, texts: list, languages: list | None = None):
        self.texts, self.languages = texts, languages or [None] * len(texts)

    def __len__(self) -> int:
        return len(self.texts)

    def column(self, name: str) -> list:
        return {"text": self.texts, "language": self.languages}.get(name, [None] * len(self))

    def select(self, indices: list[int]) -> "Table":
        return Table([self.texts[i] for i in indices], [self.languages[i] for i in indices])


def corpus(*arguments: list) -> SimpleNamespace:
    return SimpleNamespace(name="made-up", table=lambda split: Table(*arguments))


def scores(path: str) -> torch.Tensor:
    """One-hot scores of a path of symbols, `_` for the blank."""
    index = [0 if symbol == "_" else SYMBOLS.index(symbol) for symbol in path]
    return torch.nn.functional.one_hot(torch.tensor([index]), len(SYMBOLS)).float()


def test_the_32_symbols_have_their_published_order() -> None:
    assert "".join(SYMBOLS[4:]) == "|ETAONIHSRDLUMWCFGYPBVK'XJQZ"
    assert SYMBOLS[:4] == ("<s>", "<pad>", "</s>", "<unk>")
    assert len(SYMBOLS) == 32
    assert END == 2


def test_targets_end_with_a_separator_and_the_end_symbol() -> None:
    assert [SYMBOLS[i] for i in encode("I'M ON")] == ["I", "'", "M", "|", "O", "N", "|", "</s>"]
    assert encode("ß7")[:2].tolist() == [UNKNOWN, UNKNOWN]


def test_text_is_normalised() -> None:
    assert ENGLISH.references(["Hello,  wörld!", 7, None]) == ["HELLO WORLD", "7", None]


def test_collapse_and_decode() -> None:
    best = scores("EE_ETT_")
    assert transcribe(best, torch.tensor([7])) == ["EET"]
    assert transcribe(scores("AA||_B_|"), torch.tensor([8])) == ["A B"]
    assert transcribe(scores("_|AB"), torch.tensor([3])) == ["A"]
    assert transcribe(scores("____"), torch.tensor([4])) == [""]


def test_special_symbols_never_reach_the_text() -> None:
    assert decode([1, 2, 3, SYMBOLS.index("A"), END]) == "A"


def test_encode_and_decode_are_inverse() -> None:
    for text in ("ONE", "SEVEN THREE", "IT'S A ZOO"):
        assert decode(encode(text).tolist()) == text


def test_only_text_of_the_language_is_taken() -> None:
    source = corpus(["one", None, "zwei", "three", "..."], ["en-US", "en", "de", None, "en"])
    examples = SpeechRecognition(source).dataset("train")
    assert examples.labels["reference"] == ["ONE", "THREE"]
    assert [len(row) for row in examples.labels["tokens"]] == [5, 7]
    assert SpeechRecognition(source, language=None).dataset("train").labels["reference"] == [
        "ONE",
        "ZWEI",
        "THREE",
    ]
    assert "" in SpeechRecognition(source).dataset("test").labels["reference"]
    with pytest.raises(UserError, match=r"task\.language"):
        SpeechRecognition(corpus(["eins"], ["de"])).dataset("dev")


def test_loss_tells_how_many_utterances_are_too_short() -> None:
    task, tokens = SpeechRecognition(corpus(["SEEN"])), [encode("SEEN"), encode("SEEN")]
    values = task.loss(torch.zeros(2, 9, 32), torch.tensor([7, 6]), {"tokens": tokens})
    assert float(values["too_short"]) == 0.5  # 6 symbols, and a blank between the two E
    assert bool(values["loss"].isfinite())


def test_text_in_another_alphabet_is_refused_before_the_work() -> None:
    SpeechRecognition(corpus(["ONE 2 THREE"])).check()
    with pytest.raises(UserError, match="knows 9 of the 22 symbols in the column 'text' of train") as error:
        SpeechRecognition(corpus(["раз два три", "один ON"]), language=None).check()
    assert "\n" not in str(error.value)


def test_chance_is_the_empty_answer() -> None:
    assert SpeechRecognition(corpus(["ONE"])).chance() == 100.0


def test_sizes() -> None:
    with torch.device("meta"):
        base = SpeechRecognition(corpus(["ONE"])).head(768, 320)
    assert sum(p.numel() for p in base.parameters()) == 42_828_832
    assert base.augment is not None
    arguments = configs.load("downstream", "asr/debug")[1]
    debug = SpeechRecognition(corpus(["ONE"]), **arguments)
    assert debug.head(80, 160).stack == 3
    assert debug.head(80, 320).stack == 1
    assert debug.head(80, 480).stack == 1


def test_the_alphabet_of_a_corpus_is_that_of_its_train_texts() -> None:
    hindi, german = "क्या हाल है?", "Größe, über'm Meer"
    task = SpeechRecognition(
        corpus([hindi, german, None, "hello"], ["hi", "de", "hi", "en"]), language="hi", alphabet="corpus"
    )
    task.check()
    (reference,) = task.dataset("train").labels["reference"]
    assert reference == "क्या हाल है"  # vowel signs and the virama are letters' own
    assert "".join(task.alphabet.symbols[4:]) == "|" + "".join(sorted(set(reference) - {" "}))
    tokens = task.encode(reference)
    assert UNKNOWN not in tokens.tolist()
    assert task.alphabet.decode(tokens.tolist()) == reference
    assert task.num_symbols == task.head(8, 160).classifier.out_features == len(task.alphabet)
    task = SpeechRecognition(corpus([german]), alphabet="corpus")
    assert task.dataset("test").labels["reference"] == ["GRÖSSE ÜBER'M MEER"]
    assert task.encode("GRÖẞE").tolist().count(UNKNOWN) == 1  # not in train


def test_unknown_alphabets_are_refused() -> None:
    with pytest.raises(UserError, match="alphabet expects english or corpus, found 'greek'"):
        SpeechRecognition(corpus(["one"]), alphabet="greek")


def test_other_languages_are_named_where_none_is_english() -> None:
    with pytest.raises(UserError, match=r"language en, there: de, hi\); choose with label= and task\.language="):
        SpeechRecognition(corpus(["eins", "ek"], ["de", "hi"])).check()
