"""TERA: a Transformer encoder over normalised log-mel frames, one frame every 10 ms.

Liu, Li and Lee, "TERA: Self-Supervised Learning of Transformer Encoder Representation for Speech", 2021,
https://arxiv.org/abs/2007.06028. Checked against the authors' code (https://github.com/s3prl/s3prl, 0.4.18),
whose checkpoints it reads. Differs from that code: an utterance is encoded on its own whatever it is batched
with (there, the zeros that pad the waveform leak into the last frame); lengths are carried, not guessed from
zero frames; long recordings are not cut into pieces of 1500 frames. `batch_padded` and `max_frames` bring the
first and the last back.
"""

import math

import torch
from torch import Tensor, nn

from speechssl.audio import KaldiFbank, LogMel
from speechssl.errors import UserError, nearest
from speechssl.interfaces import Features, Upstream
from speechssl.nn.padding import key_mask
from speechssl.nn.positions import SinusoidalPositions
from speechssl.nn.transformer import PostNormLayer

FRONTENDS = ("log_mel", "kaldi_fbank", "features")
HOP = 160  # samples, 10 ms at 16 kHz


class Tera(Upstream):
    """Log-mel frontend and post-norm Transformer; hidden state 0 is the normalised input projection.

    Args:
        hidden_size: D.
        num_layers: L.
        num_heads: heads of the attention.
        intermediate_size: width inside the feed-forward blocks.
        num_mels: mel channels; with `frontend="features"` the width F of the features that will be given.
        frontend: "log_mel"; "kaldi_fbank"; or "features" for pre-extracted ones (fMLLR), given to
            `encode_features`.
        deltas: rounds of delta features to append, for "kaldi_fbank" (published: 2, so F = 240).
        normalization: of the features: "utterance" (as published), "corpus" (needs statistics, see
            `set_statistics`; on single words it keeps what utterance normalisation removes: the word's own
            average spectrum) or "none".
        dropout: on the input, after attention and after feed-forward.
        attention_dropout: on the attention weights; on a CPU any value above 0 makes training much slower.
        initializer_range: standard deviation of the initial weights.
        layer_norm_eps: added to the variance in every LayerNorm.
        max_frames: longer inputs are encoded in nearly equal pieces of at most this many frames, each from
            position 0 and blind to the others, as the authors' code does at 1500; 0 never splits.
        batch_padded: compute log-mel of the zero-padded batch, and lengths from it, as the authors' code.
    """

    downsample_rate = HOP

    def __init__(
        self,
        hidden_size: int = 768,
        num_layers: int = 3,
        num_heads: int = 12,
        intermediate_size: int = 3072,
        num_mels: int = 80,
        frontend: str = "log_mel",
        deltas: int = 0,
        normalization: str = "utterance",
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        initializer_range: float = 0.02,
        layer_norm_eps: float = 1e-12,
        max_frames: int = 0,
        batch_padded: bool = False,
    ):
        super().__init__()
        self.hidden_size, self.num_layers, self.max_frames = hidden_size, num_layers, max_frames
        self.initializer_range, self.batch_padded = initializer_range, batch_padded
        self.frontend_name = frontend
        self.frontend = _frontend(frontend, num_mels, deltas, normalization, batch_padded)
        self.num_features = num_mels * (deltas + 1)
        self.input_projection = nn.Linear(self.num_features, hidden_size)
        self.positions = SinusoidalPositions(hidden_size)
        self.input_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.input_dropout = nn.Dropout(dropout)
        widths = (hidden_size, num_heads, intermediate_size)
        self.layers = nn.ModuleList(
            PostNormLayer(*widths, dropout, attention_dropout, layer_norm_eps) for _ in range(num_layers)
        )
        initialize(self, initializer_range)

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Features:
        """Encode (B, S) waveforms with (B,) valid samples; the frontend takes no gradient."""
        features, frames = self.features(waveforms, lengths)
        return self.encode_features(self.augmented(features, frames), frames)

    def features(self, waveforms: Tensor, lengths: Tensor, rms: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return normalised features (B, T, F) in float32 and their lengths (B,), without gradients.

        Args:
            waveforms: (B, S) in [-1, 1].
            lengths: (B,) samples.
            rms: (B,) root mean square of the whole utterances, where the waveforms are crops of them.
        """
        if self.frontend is None:
            raise UserError("this TERA reads pre-extracted features; call encode_features(features, lengths) instead")
        if self.batch_padded:
            waveforms = waveforms[:, : int(lengths.max())]
        with torch.no_grad(), torch.autocast(waveforms.device.type, enabled=False):
            return self.frontend(waveforms, lengths, rms=rms)

    def encode_features(self, features: Tensor, lengths: Tensor) -> Features:
        """Encode normalised features (B, T, F) with (B,) valid frames; rows of length 0 give zeros.

        Raises:
            UserError: features of another width than the model's.
        """
        if features.dim() != 3 or features.shape[2] != self.num_features:
            raise UserError(f"expected features (B, T, {self.num_features}), found shape {tuple(features.shape)}")
        T = features.shape[1]
        if not self.max_frames or self.max_frames >= T:
            return Features(self._encode_piece(features, lengths), lengths)
        pieces, start = [], 0
        for piece in features.chunk(math.ceil(T / self.max_frames), dim=1):
            pieces.append(self._encode_piece(piece, (lengths - start).clamp(0, piece.shape[1])))
            start += piece.shape[1]
        return Features([torch.cat(states, dim=1) for states in zip(*pieces, strict=True)], lengths)

    def transform(self, features: Tensor, lengths: Tensor, *, look: bool = False) -> list[Tensor]:
        """Return all hidden states of features (B, T, F), each (B, T, D): what encoding and pretraining
        share.

        `look` reads the lengths to find out whether a mask is needed (see `speechssl.nn.padding.key_mask`).
        """
        T = features.shape[1]
        keys = key_mask(lengths, T, look=look or features.device.type == "cpu")
        projected = self.input_projection(features)
        x = self.input_dropout(self.input_norm(projected + self.positions(T, features.device)))
        hidden_states = [x]
        for layer in self.layers:
            x = layer(x, keys)
            hidden_states.append(x)
        return hidden_states

    def statistics_frontend(self) -> nn.Module | None:
        waiting = self.frontend is not None and self.frontend.normalization == "corpus"
        return self.frontend if waiting and not bool(self.frontend.statistics_known) else None

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        if self.frontend is None:
            raise UserError("this TERA reads pre-extracted features and uses no corpus statistics")
        self.frontend.set_statistics(mean, std)

    def _encode_piece(self, features: Tensor, lengths: Tensor) -> list[Tensor]:
        hidden_states = self.transform(features, lengths, look=not self.training)
        empty = (lengths == 0)[:, None, None]
        looking_is_free = features.device.type == "cpu" and not torch.compiler.is_compiling()
        if looking_is_free and not bool(empty.any()):
            return hidden_states
        return [states.masked_fill(empty, 0.0) for states in hidden_states]


def initialize(module: nn.Module, std: float) -> None:
    """Give all Linear weights of a module N(0, std), not truncated, and all their biases 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=std)
            nn.init.zeros_(part.bias)


def _frontend(name: str, num_mels: int, deltas: int, normalization: str, batch_padded: bool) -> nn.Module | None:
    if name not in FRONTENDS:
        raise UserError(f"unknown frontend {name!r}; known: {', '.join(FRONTENDS)}{nearest(name, FRONTENDS)}")
    if deltas and name != "kaldi_fbank":
        raise UserError(f"deltas are for frontend='kaldi_fbank', found frontend={name!r}")
    if batch_padded and name != "log_mel":
        raise UserError(f"batch_padded is for frontend='log_mel' (others never pad first), found {name!r}")
    if name == "features":
        return None
    if name == "kaldi_fbank":
        return KaldiFbank(num_mels=num_mels, deltas=deltas, normalization=normalization)
    return LogMel(num_mels=num_mels, normalization=normalization, batch_padded=batch_padded)
