"""Where the labels to predict come from: a tokenizer that runs along, or storage."""

from torch import Tensor, nn

from speechssl.errors import UserError
from speechssl.interfaces import Batch, Labels, Tokenizer
from speechssl.nn.frozen import Frozen
from speechssl.upstream.beats.masks import BANDS, HOP, PATCH, WINDOW
from speechssl.upstream.beats.spectrogram import Spectrogram


class Targets(nn.Module):
    """Labels (B, N) int64 of a batch, -1 on padding."""

    num_codes: int  # V

    def forward(self, batch: Batch, cells: Tensor, frames: Tensor) -> Tensor:
        """Return the labels of a batch with spectrograms (B, T, 128) of (B,) valid frames."""
        raise NotImplementedError(f"{type(self).__name__} has to implement forward(batch, cells, frames)")

    def check_statistics(self, spectrogram: Spectrogram) -> None:
        """Raise UserError where the labels belong to spectrograms with other statistics."""


class TokenizedTargets(Targets):
    """Those of a tokenizer, computed from the spectrograms that the encoder sees."""

    def __init__(self, tokenizer: Tokenizer):
        super().__init__()
        self.num_codes = tokenizer.num_codes
        self.tokenizer = Frozen(tokenizer)

    def forward(self, batch: Batch, cells: Tensor, frames: Tensor) -> Tensor:
        return self.tokenizer.module.codes(cells, frames)

    def check_statistics(self, spectrogram: Spectrogram) -> None:
        own = self.tokenizer.module.spectrogram
        if not own.known:  # of a patch tokenizer that came with the objective: it reads whatever the encoder reads
            own.mean.copy_(spectrogram.mean)
            own.std.copy_(spectrogram.std)
        check_same(own, spectrogram, "the tokenizer")


class StoredTargets(Targets):
    """Labels of whole utterances. A crop has to start at a whole column of patches."""

    def __init__(self, labels: Labels):
        super().__init__()
        self.num_codes, self.labels = labels.num_codes, labels

    def forward(self, batch: Batch, cells: Tensor, frames: Tensor) -> Tensor:
        column = PATCH * HOP
        starts = [0] * len(batch.ids) if batch.starts is None else batch.starts.tolist()
        if any(start % column for start in starts):
            raise UserError(f"stored labels need crops that start at multiples of {column} samples, found {starts}")
        lengths = batch.lengths.tolist()
        counts = [BANDS * ((1 + (length - WINDOW) // HOP) // PATCH) for length in lengths]
        rows = self.labels.rows(batch.ids, [BANDS * (start // column) for start in starts], counts)
        padded = nn.functional.pad(rows, (0, BANDS * (cells.shape[1] // PATCH) - rows.shape[1]), value=-1)
        return padded.to(cells.device)


def check_same(first: Spectrogram, second: Spectrogram, what: str) -> None:
    """Raise UserError where two spectrograms are normalised differently."""
    one, other = ((float(part.mean), float(part.std)) for part in (first, second))
    if one != other:
        raise UserError(
            f"{what} was made for spectrograms with mean and std {one}, the encoder normalises with {other}; "
            f"set upstream.mean={one[0]} upstream.std={one[1]}"
        )
