"""Several corpora as one, to pretrain on: SSAST's AudioSet with LibriSpeech, for example."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechssl.data.cuts import Corpus, CutTable, open_corpus
from speechssl.errors import UserError
from speechssl.files import digest


class SeveralCorpora(Corpus):
    """The utterances of several corpora; ids are "corpus/id", so that none occurs twice."""

    def __init__(self, parts: Sequence[Corpus]) -> None:
        names = [part.name for part in parts]
        if len(set(names)) < len(names):
            raise UserError(f"expected different corpora, found {', '.join(names)}")
        splits = [split for split in ("train", "dev", "test") if any(split in part.splits for part in parts)]
        super().__init__(parts[0].path, "+".join(names), "", "", splits, {}, {})
        self.parts = list(parts)
        self.fingerprint = digest([part.fingerprint for part in parts])

    def table(self, split: str) -> CutTable:
        """Return the utterances of all corpora that have the split."""
        if split not in self._tables:
            having = [part for part in self.parts if split in part.splits]
            if not having:
                raise UserError(f"none of {self.name} has a split {split!r}")
            whole = CutTable.joined([part.table(split) for part in having])
            whole.ids = [f"{part.name}/{name}" for part in having for name in part.table(split).ids]
            self._tables[split] = whole
        return self._tables[split]

    def statistics(self, frontend: Any) -> tuple[Any, Any]:
        """Return mean (F,) and std (F,) over the joined train split; computed anew, nothing is stored."""
        from speechssl.data.statistics import corpus_statistics, tensors

        return tensors(corpus_statistics(self.table("train"), frontend))


def open_corpora(data: str | Path | Sequence[str]) -> Corpus:
    """Open what `open_corpus` opens, or a list of it as one corpus.

    Raises:
        UserError: as `open_corpus`; an empty list, or the same corpus twice.
    """
    if isinstance(data, str | Path):
        return open_corpus(data)
    parts = [open_corpus(one) for one in data]
    if not parts:
        raise UserError("data names no corpus; give a prepared folder, or several: data=[a,b]")
    return parts[0] if len(parts) == 1 else SeveralCorpora(parts)
