"""Words of a lexicon that CTC scores and a word language model agree on: the beam search of flashlight-text.

Score of a hypothesis: log probability of its best path, plus `lm_weight` times the language model's log10 probability,
plus `word_score` per word. The defaults are those of SUPERB (Yang et al., 2021). KenLM is inside the flashlight-text
package, which is only imported where a language model is asked for.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from speechssl.downstream.asr.dataset import BLANK, SEPARATOR, SPECIAL, Alphabet
from speechssl.errors import UserError

UNKNOWN_WORD = "<unk>"
MODELS = (
    b"\\data\\",
    b"mmap lm http://kheafield.com/code",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ",
)  # KenLM reads packed text
BEGIN = 4096  # bytes


@dataclass(frozen=True)
class BeamOptions:
    """How wide the search is and how much the language model counts.

    Attributes:
        beam_size: hypotheses kept after every frame.
        beam_threshold: those that score this much less than the best are dropped.
        lm_weight: of the language model's log10 probability.
        word_score: added per word; below 0 it favours fewer words.
    """

    beam_size: int = 5
    beam_threshold: float = 25.0
    lm_weight: float = 2.0
    word_score: float = -1.0


def read_spellings(path: str | Path, alphabet: Alphabet) -> dict[str, list[list[str]]]:
    """Return the spellings of every word of a lexicon: lines of a word and its symbols, `ON O N |`.

    Raises:
        UserError: missing, or a line that spells no word, or with something that is no symbol of the recogniser.
    """
    spellings: dict[str, list[list[str]]] = {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"task.lexicon={path} cannot be read as text ({error})") from error
    for number, line in enumerate(lines, start=1):
        word, *symbols = line.split() or [""]
        wrong = [symbol for symbol in symbols if symbol not in alphabet.index]
        if word and (wrong or not symbols):
            raise UserError(
                f"line {number} of {path} is {line.strip()!r}; expected a word and its letters, such as 'ON O N |' "
                f"(the symbols are {''.join(alphabet.symbols[len(SPECIAL) :])})"
            )
        if word:
            spellings.setdefault(word, []).append(symbols)
    if not spellings:
        raise UserError(f"task.lexicon={path} has no words; expected lines such as 'ON O N |'")
    return spellings


def check_model(path: str | Path) -> None:
    """Raise UserError for a file that is missing or does not begin like an n-gram model; reads no more than that."""
    try:
        with open(path, "rb") as file:
            begin = file.read(BEGIN).lstrip()
    except OSError as error:
        raise UserError(f"task.lm={path} cannot be read ({error.strerror}); expected an n-gram model") from error
    if not begin.startswith(MODELS):
        raise UserError(f"task.lm={path} is no n-gram model; expected ARPA text, or a binary that KenLM has made of it")
    _flashlight()


class BeamSearch:
    """Decodes scores over the recogniser's symbols to text.

    Args:
        lm: word n-gram model of KenLM, `.arpa` or binary.
        lexicon: file of spellings, see `read_spellings`.
        options: of the search.
        alphabet: the recogniser's.
    """

    def __init__(self, lm: str | Path, lexicon: str | Path, options: BeamOptions, alphabet: Alphabet):
        spellings, self._alphabet = read_spellings(lexicon, alphabet), alphabet
        check_model(lm)
        self._package, kenlm, dictionary = _flashlight()
        self._words = dictionary([*spellings, *({UNKNOWN_WORD} - spellings.keys())])
        try:
            self._lm = kenlm(str(lm), self._words)
        except RuntimeError as error:
            raise UserError(f"task.lm={lm} is no n-gram model that KenLM can read ({_reason(error)})") from error
        trie = self._trie(spellings)
        unknown = self._words.get_index(UNKNOWN_WORD)
        self._decoder = self._package.LexiconDecoder(
            self._options(options), trie, self._lm, SEPARATOR, BLANK, unknown, [], False
        )

    def _trie(self, spellings: dict[str, list[list[str]]]) -> Any:
        """Return the spellings as a tree in which a node knows the best unigram score below it."""
        trie = self._package.Trie(len(self._alphabet), SEPARATOR)
        start = self._lm.start(False)
        for word, ways in spellings.items():
            number = self._words.get_index(word)
            _, score = self._lm.score(start, number)
            for symbols in ways:
                trie.insert([self._alphabet.index[symbol] for symbol in symbols], number, score)
        trie.smear(self._package.SmearingMode.MAX)
        return trie

    def _options(self, options: BeamOptions) -> Any:
        return self._package.LexiconDecoderOptions(
            beam_size=options.beam_size,
            beam_size_token=len(self._alphabet),
            beam_threshold=options.beam_threshold,
            lm_weight=options.lm_weight,
            word_score=options.word_score,
            unk_score=-math.inf,
            sil_score=0.0,
            log_add=False,
            criterion_type=self._package.CriterionType.CTC,
        )

    def __call__(self, outputs: Tensor, lengths: Tensor) -> list[str]:
        """Return the text of scores (B, T, V) before the softmax with (B,) valid frames."""
        scores = outputs.detach().float().log_softmax(dim=-1).cpu().contiguous()
        return [self._text(row, frames) for row, frames in zip(scores, lengths.tolist(), strict=True)]

    def _text(self, scores: Tensor, frames: int) -> str:
        found = self._decoder.decode(scores.data_ptr(), frames, scores.shape[1])
        numbers = [number for number in found[0].words if number >= 0] if found else []
        return " ".join(self._words.get_entry(number) for number in numbers)


def _flashlight() -> tuple[Any, Any, Any]:
    """Return the decoder module of flashlight-text, its KenLM class and its dictionary class."""
    try:
        from flashlight.lib.text import decoder
        from flashlight.lib.text.decoder.kenlm import KenLM
        from flashlight.lib.text.dictionary import Dictionary
    except ImportError as error:
        raise UserError(
            "task.lm needs the package flashlight-text, which is not installed; type: pip install flashlight-text"
        ) from error
    return decoder, KenLM, Dictionary


def _reason(error: Exception) -> str:
    """Return the message of a KenLM error without the place in its source."""
    text = " ".join(str(error).split())
    return text.partition(" threw ")[2] or text
