"""BEATs: a Transformer over 16 x 16 patches of a log-mel spectrogram, with convolutional and relative positions.

Chen et al., "BEATs: Audio Pre-Training with Acoustic Tokenizers", ICML 2023, https://arxiv.org/abs/2212.09058. Checked
against the published code (https://github.com/microsoft/unilm, `beats/`), whose checkpoints it reads, and those of
OpenBEATs (https://arxiv.org/abs/2507.14129). Differs from that code: padding is found by what a patch covers
(`mask_rule="official"` brings their way back), so that a clip's features do not depend on its batch; `layer_drop` draws
in training only; classifiers return logits.
"""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.errors import UserError, nearest
from speechssl.interfaces import Features, Upstream
from speechssl.upstream.beats.encoder import Encoder, Stack
from speechssl.upstream.beats.masks import BANDS, HOP, PATCH, RULES, WINDOW, num_tokens
from speechssl.upstream.beats.patches import picture, to_patches
from speechssl.upstream.beats.spectrogram import AUDIOSET, Spectrogram

POOLINGS = ("mean", "concat", "none")


class Beats(Upstream):
    """Patch embedding and encoder. Tokens are time-major: number 8 * column + band, the lowest band first.

    Args:
        hidden_size: D.
        num_layers: L.
        num_heads: of the attention.
        intermediate_size: of the feed-forward blocks; None = 4 D.
        embedding_size: E, of a patch before it is projected to D.
        conv_positions, conv_position_groups: taps (in tokens) and groups of the convolutional positions.
        num_buckets, max_distance: of the relative position bias, see `RelativeBias`.
        deep_norm, gradient_decay, layer_drop: see `Stack`.
        pre_norm, gated, activation: see `Layer`.
        dropout, attention_dropout, activation_dropout: see `Layer`.
        input_dropout: of embedded patches.
        mean, std: see `Spectrogram`.
        mask_rule: how padding is found: "exact", or "official" as in the published code, see `masks`.
        frequency_pooling: how the eight tokens of a column become one vector: "mean"; "concat" (`hidden_size` = 8 D);
            or "none", all tokens one after the other.
        num_classes: size of a fine-tuned model's classifier, see `classify`; 0 = none.
        classifier_dropout: of its input.

    Raises:
        UserError: sizes that do not fit each other.
    """

    bands = BANDS
    min_samples = WINDOW + (PATCH - 1) * HOP
    essential = ("embedding.weight",)  # patches of another size are another model

    def __init__(
        self,
        hidden_size: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        intermediate_size: int | None = None,
        embedding_size: int = 512,
        conv_positions: int = 128,
        conv_position_groups: int = 16,
        num_buckets: int = 320,
        max_distance: int = 800,
        deep_norm: bool = True,
        pre_norm: bool = False,
        gated: bool = True,
        activation: str = "gelu",
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        activation_dropout: float = 0.0,
        input_dropout: float = 0.0,
        layer_drop: float = 0.0,
        gradient_decay: float = 1.0,
        mean: float | None = AUDIOSET[0],
        std: float | None = AUDIOSET[1],
        mask_rule: str = "exact",
        frequency_pooling: str = "mean",
        num_classes: int = 0,
        classifier_dropout: float = 0.0,
    ):
        super().__init__()
        for name, given, known in (
            ("mask_rule", mask_rule, RULES),
            ("frequency_pooling", frequency_pooling, POOLINGS),
        ):
            if given not in known:
                raise UserError(f"unknown {name} {given!r}; known: {', '.join(known)}{nearest(given, known)}")
        self.width, self.num_layers = hidden_size, num_layers
        self.mask_rule, self.frequency_pooling = mask_rule, frequency_pooling
        self.hidden_size = hidden_size * (BANDS if frequency_pooling == "concat" else 1)
        self.downsample_rate = PATCH * HOP // (BANDS if frequency_pooling == "none" else 1)
        self.input_dropout, self.classifier_dropout = input_dropout, classifier_dropout
        self.spectrogram = Spectrogram(mean, std)
        self.embedding = nn.Linear(PATCH * PATCH, embedding_size, bias=False)
        self.embedding_norm = nn.LayerNorm(embedding_size)
        self.projection = nn.Linear(embedding_size, hidden_size) if embedding_size != hidden_size else nn.Identity()
        self.stack_config = {  # of further stacks of the same kind: predictors and estimators
            "hidden_size": hidden_size,
            "num_heads": num_heads,
            "intermediate_size": intermediate_size or 4 * hidden_size,
            "num_buckets": num_buckets,
            "max_distance": max_distance,
            "deep_norm": deep_norm,
            "pre_norm": pre_norm,
            "gated": gated,
            "activation": activation,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "activation_dropout": activation_dropout,
        }
        self.position_config = {"conv_positions": conv_positions, "conv_position_groups": conv_position_groups}
        self.position_config |= {"pre_norm": pre_norm, "dropout": dropout}
        stack = Stack(num_layers=num_layers, layer_drop=layer_drop, gradient_decay=gradient_decay, **self.stack_config)
        self.encoder = Encoder(stack, hidden_size, **self.position_config)
        self.classifier = nn.Linear(hidden_size, num_classes) if num_classes else None
        self._initialise()

    def _initialise(self) -> None:
        nn.init.xavier_normal_(self.embedding.weight)
        if isinstance(self.projection, nn.Linear):
            nn.init.xavier_normal_(self.projection.weight)
            nn.init.zeros_(self.projection.bias)
        if self.classifier is not None:
            nn.init.normal_(self.classifier.weight, std=0.02)
            nn.init.zeros_(self.classifier.bias)

    def statistics_frontend(self) -> nn.Module | None:
        return None if self.spectrogram.known else self.spectrogram.fbank

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        self.spectrogram.set_statistics(mean, std)

    def num_tokens(self, frames: Tensor) -> Tensor:
        """Return (B,) tokens for (B,) frames."""
        return num_tokens(frames)

    def patches(self, cells: Tensor) -> Tensor:
        """Return (B, N, 256) patches of a normalised spectrogram (B, T, 128), inside a patch time slow and mel fast."""
        return to_patches(cells)

    def embed(self, patches: Tensor) -> Tensor:
        """Return (B, n, D) of any patches (B, n, 256)."""
        tokens = self.projection(self.embedding_norm(self.embedding(patches)))
        return F.dropout(tokens, self.input_dropout, self.training)

    def token_states(self, cells: Tensor, frames: Tensor, valid: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        """Return L + 1 states (B, N, D) of all tokens, and (B, N) bool, True on those that are valid.

        Args:
            cells: (B, T, 128) normalised spectrogram.
            frames: (B,) valid frames.
            valid: (B, N) bool where another rule than that of whole columns of valid frames says what is valid.
        """
        patches = self.patches(cells)
        if valid is None:
            valid = torch.arange(patches.shape[1], device=cells.device) < num_tokens(frames)[:, None]
        return self.encoder(self.embed(patches), _keys(valid)), valid

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Features:
        """Encode (B, S) waveforms with (B,) valid samples; the spectrogram takes no gradient."""
        states, valid = self._states(waveforms, lengths)
        folded = [self._fold(state, valid) for state in states]
        counts = valid.sum(dim=1)
        return Features(folded, counts if self.frequency_pooling == "none" else -(-counts // BANDS))

    def classify(
        self, waveforms: Tensor | Sequence[Tensor], lengths: Tensor | None = None, sample_rate: int | None = None
    ) -> Tensor:
        """Return logits (B, C), the mean of those of all valid patches, of what `forward` takes."""
        states, valid = self._states(*self.checked(waveforms, lengths, sample_rate))
        total = (self._classified(states[-1]) * valid[..., None]).sum(dim=1)
        return self.classifier(total / valid.sum(dim=1, keepdim=True).clamp(min=1))

    def patch_logits(self, hidden: Tensor) -> Tensor:
        """Return logits (B, N, C) of the last hidden state (B, N, D)."""
        return self.classifier(self._classified(hidden))

    def with_classifier(self, weight: Tensor, bias: Tensor) -> "Beats | None":
        """See `Upstream`. The mean of all patches is that of all columns, unless a column counts that is valid in part.

        Channels of bands of their own ("concat") fit no classifier of patches.
        """
        if self.frequency_pooling == "concat" or self.mask_rule != "exact":
            return None
        own = copy.deepcopy(self)
        own.classifier = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], device=weight.device)
        with torch.no_grad():
            own.classifier.weight.copy_(weight)
            own.classifier.bias.copy_(bias)
        own.config = {**self.config, "num_classes": len(weight)}
        return own

    def _classified(self, hidden: Tensor) -> Tensor:
        if self.classifier is None:
            raise UserError("this BEATs has no classifier; load a fine-tuned checkpoint, or set num_classes")
        return F.dropout(hidden, self.classifier_dropout, self.training)

    def _states(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the states of all tokens, and which are valid by the model's mask rule."""
        cells, frames, valid = picture(self.spectrogram, waveforms, lengths, self.mask_rule)
        return self.token_states(self.augmented(cells, frames), frames, valid)

    def _fold(self, states: Tensor, valid: Tensor) -> Tensor:
        """Return (B, K, D) or (B, K, 8 D) of (B, N, D), or the same for "none"."""
        if self.frequency_pooling == "none":
            return states
        grid = states.unflatten(1, (-1, BANDS))
        if self.frequency_pooling == "concat":
            return grid.flatten(2)
        if self.mask_rule == "exact":
            return grid.mean(dim=2)
        weights = valid.unflatten(1, (-1, BANDS))[..., None].to(states.dtype)  # a column may be valid in part
        return (grid * weights).sum(dim=2) / weights.sum(dim=2).clamp(min=1)


def _keys(valid: Tensor) -> Tensor | None:
    """Return the mask of attention keys, or None where it is known that nothing is padded.

    Without a mask attention takes faster kernels, but on a GPU looking waits for the device.
    """
    if valid.device.type == "cpu" and not torch.compiler.is_compiling() and bool(valid.all()):
        return None
    return valid
