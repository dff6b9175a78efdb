"""Waveforms as users give them: a padded tensor with lengths, or a list; checked, and turned into the former."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from speechssl.errors import UserError


def pad_waveforms(waveforms: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack 1-D waveforms into (B, S) with zeros at the end, and their lengths (B,) in samples."""
    lengths = torch.tensor([w.shape[0] for w in waveforms], device=waveforms[0].device)
    return nn.utils.rnn.pad_sequence(list(waveforms), batch_first=True), lengths


def check_waveforms(waveforms: Tensor | Sequence[Tensor], lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return a padded float32 tensor (B, S) and (B,) int64 lengths in samples of what users give.

    Args:
        waveforms: a padded (B, S) tensor, or a list of 1-D tensors.
        lengths: (B,) valid samples; None for a list, or for a tensor without padding.

    Raises:
        UserError: wrong rank, dtype or lengths.
    """
    if not isinstance(waveforms, Tensor):
        if lengths is not None:
            raise UserError("give lengths only with a padded (B, S) tensor, not with a list of waveforms")
        bad = [tuple(w.shape) for w in waveforms if w.dim() != 1]
        if bad or len(waveforms) == 0:
            raise UserError(f"expected a non-empty list of 1-D waveforms, found shapes {bad or 'none at all'}")
        waveforms, lengths = pad_waveforms(waveforms)
    if waveforms.dim() != 2 or not waveforms.is_floating_point() or waveforms.shape[0] == 0:
        raise UserError(
            f"expected float waveforms of shape (B, S) in [-1, 1], found {tuple(waveforms.shape)} {waveforms.dtype}"
        )
    if lengths is None:
        lengths = torch.full((waveforms.shape[0],), waveforms.shape[1], device=waveforms.device)
    lengths = torch.as_tensor(lengths, device=waveforms.device)
    if lengths.shape != waveforms.shape[:1] or lengths.is_floating_point():
        raise UserError(f"expected (B,) = ({waveforms.shape[0]},) integer lengths in samples, found {lengths}")
    if int(lengths.max()) > waveforms.shape[1] or int(lengths.min()) < 0:
        raise UserError(f"lengths must lie in 0..{waveforms.shape[1]} samples, found {lengths.tolist()}")
    return waveforms.float(), lengths.long()


def check_rate(owner: object, expected: int, found: int | None) -> None:
    """Raise UserError where audio has another sampling rate (Hz) than its reader; None is not checked."""
    if found is not None and found != expected:
        raise UserError(
            f"{type(owner).__name__} expects {expected} Hz, found {found} Hz; "
            "resample first, for example with speechssl.audio.resample"
        )
