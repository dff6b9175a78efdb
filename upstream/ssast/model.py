"""SSAST: a Vision Transformer over the patches of a log-mel spectrogram.

Gong, Lai, Chung and Glass, "SSAST: Self-Supervised Audio Spectrogram Transformer", AAAI 2022,
https://arxiv.org/abs/2110.09784. Checked against the authors' code (https://github.com/YuanGongND/ssast), whose
checkpoints it reads. Differs from that code: clips keep their own length, batches carry masks, long recordings are cut
into pieces, and positions are adapted when a clip is encoded, not when a checkpoint is loaded. `target_frames` brings
their fixed length back, `superb_window` the way s3prl 0.4.18 cuts its input.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.errors import UserError, nearest
from speechssl.interfaces import Features, Upstream
from speechssl.nn.patches import count, fold_rows, to_patches
from speechssl.nn.transformer import PreNormLayer
from speechssl.upstream.ssast import pieces, positions, superb, traced
from speechssl.upstream.ssast.spectrogram import AUDIOSET, Spectrogram

HOP = 160  # samples, 10 ms at 16 kHz
WINDOW = 400  # samples, 25 ms
HEAD_SIZE = 64  # channels per attention head in all published models
POOLINGS = ("mean", "concat", "none")


class Ssast(Upstream):
    """Patch embedding and pre-norm Transformer; hidden state 0 is the embedded patches, the last one is normalised.

    Args:
        hidden_size: D.
        num_layers: L.
        num_heads: of the attention; None = D / 64.
        patch_frequency, patch_time: size of a patch, in mel bins and frames: 16 x 16, or 128 x 2 ("frame").
        frequency_stride, time_stride: from patch to patch; None = the size. Smaller ones overlap (published
            fine-tuning: 10 and 10, frame 128 and 1).
        num_mels: F.
        input_frames: of the pretraining input. Longer clips are encoded in pieces of at most this.
        position_grid: rows and columns of the position table where it is not that of the pretraining input (a
            fine-tuned checkpoint).
        positions: how the table is fitted to another grid, "official" or "aligned" (see `positions`).
        initial_positions: "normal", with a standard deviation of 0.02 (published), or "sinusoidal", waves over rows and
            columns: neighbours resemble each other from the first step on, which short trainings cannot learn.
        class_tokens: in front of the patches; 2 in all published models.
        mean, std, target_frames, pad_before_norm: see `Spectrogram`.
        frequency_pooling: how the rows of patches at one time become one vector: "mean"; "concat" (`hidden_size`
            grows by the number of rows); or "none", all patches one after the other, frequency slow.
        superb_window: seconds; cut the waveform into windows as s3prl does (published: 1.0), each padded on its own
            and encoded from position 0; the last hidden state is not normalised. None cuts nothing.
        num_classes: size of a fine-tuned model's classifier, see `classify`; 0 = none.
        layer_norm_eps: added to the variance in the encoder.

    Raises:
        UserError: sizes that do not fit each other.
    """

    essential = ("embedding.weight",)  # patches of another size are another model

    def __init__(
        self,
        hidden_size: int = 768,
        num_layers: int = 12,
        num_heads: int | None = None,
        patch_frequency: int = 16,
        patch_time: int = 16,
        frequency_stride: int | None = None,
        time_stride: int | None = None,
        num_mels: int = 128,
        input_frames: int = 1024,
        position_grid: Sequence[int] | None = None,
        positions: str = "official",
        initial_positions: str = "normal",
        class_tokens: int = 2,
        mean: float | None = AUDIOSET[0],
        std: float | None = AUDIOSET[1],
        target_frames: int | None = None,
        pad_before_norm: bool = True,
        frequency_pooling: str = "mean",
        superb_window: float | None = None,
        num_classes: int = 0,
        layer_norm_eps: float = 1e-6,
    ):
        super().__init__()
        self.width, self.num_layers = hidden_size, num_layers
        self.patch = (patch_frequency, patch_time)
        self.stride = (frequency_stride or patch_frequency, time_stride or patch_time)
        self.num_mels, self.input_frames = num_mels, input_frames
        self.frequency_pooling, self.position_mode, self.superb_window = frequency_pooling, positions, superb_window
        self.grid = tuple(position_grid) if position_grid else (num_mels // patch_frequency, input_frames // patch_time)
        self._check_settings(initial_positions)
        self.rows = count(num_mels, patch_frequency, self.stride[0])
        self.longest = max(1, count(input_frames, patch_time, self.stride[1]))  # columns of a piece
        self.downsample_rate = HOP * self.stride[1]
        self.hidden_size = hidden_size * (self.rows if frequency_pooling == "concat" else 1)
        self.min_samples = WINDOW + (patch_time - 1) * HOP
        pad_before_norm = pad_before_norm and superb_window is None
        target = target_frames if superb_window is None else superb.frames(superb_window)
        self.spectrogram = Spectrogram(num_mels, mean, std, target, pad_before_norm)
        self.embedding = nn.Conv2d(1, hidden_size, self.patch, self.stride)
        self.class_tokens = nn.Parameter(torch.empty(class_tokens, hidden_size))
        self.class_positions = nn.Parameter(torch.empty(class_tokens, hidden_size))
        self.positions = nn.Parameter(torch.empty(*self.grid, hidden_size))
        if num_heads is None and hidden_size % HEAD_SIZE:
            raise UserError(f"hidden_size {hidden_size} is no multiple of {HEAD_SIZE}; say num_heads=...")
        heads = num_heads or hidden_size // HEAD_SIZE
        layer = (hidden_size, heads, 4 * hidden_size, 0.0, 0.0, layer_norm_eps)
        self.layers = nn.ModuleList(PreNormLayer(*layer) for _ in range(num_layers))
        self.norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self._initialise(initial_positions)
        self.classifier: nn.Sequential | None = None
        if num_classes:
            self.classifier = nn.Sequential(nn.LayerNorm(hidden_size), nn.Linear(hidden_size, num_classes))

    def _check_settings(self, initial_positions: str) -> None:
        (height, width), mode, pooling = self.patch, self.position_mode, self.frequency_pooling
        if height > self.num_mels or width > self.input_frames:
            raise UserError(
                f"a patch of {height} mel bins x {width} frames does not fit an input of {self.num_mels} mel bins x "
                f"{self.input_frames} frames"
            )
        if min(self.grid) < 1 or len(self.grid) != 2:
            raise UserError(f"position_grid expects rows and columns, found {list(self.grid)}")
        for name, given, known in (
            ("positions", mode, positions.MODES),
            ("frequency_pooling", pooling, POOLINGS),
            ("initial_positions", initial_positions, positions.INITIAL),
        ):
            if given not in known:
                raise UserError(f"unknown {name} {given!r}; known: {', '.join(known)}{nearest(given, known)}")

    def _initialise(self, initial_positions: str) -> None:
        for part in self.layers.modules():
            if isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02)
                nn.init.zeros_(part.bias)
        for table in (self.class_tokens, self.class_positions, self.positions):
            nn.init.trunc_normal_(table, std=0.02)
        if initial_positions == "sinusoidal":
            with torch.no_grad():
                self.positions.copy_(positions.sinusoidal_positions(*self.grid, self.width))

    @property
    def mask_value(self) -> float:
        """What a cell of value 0 becomes: SpecAugment masks before the normalisation."""
        return self.spectrogram.zero

    def statistics_frontend(self) -> nn.Module | None:
        return None if self.spectrogram.known else self.spectrogram.fbank

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        self.spectrogram.set_statistics(mean, std)

    def num_columns(self, frames: Tensor) -> Tensor:
        """Return (B,) columns of patches for (B,) frames."""
        return count(frames, self.patch[1], self.stride[1])

    def embed(self, spectrogram: Tensor) -> Tensor:
        """Return embedded patches (B, R, K, D) of a normalised spectrogram (B, T, F), without positions.

        Raises:
            UserError: another number of mel bins than the model's.
        """
        if spectrogram.dim() != 3 or spectrogram.shape[2] != self.num_mels:
            raise UserError(f"expected spectrograms (B, T, {self.num_mels}), found shape {tuple(spectrogram.shape)}")
        missing = self.patch[1] - spectrogram.shape[1]
        if missing > 0:
            spectrogram = F.pad(spectrogram, (0, 0, 0, missing))
        if self.stride == self.patch:  # a matrix product is faster than the convolution that it equals
            patches = to_patches(spectrogram, *self.patch)
            return F.linear(patches, self.embedding.weight.flatten(1), self.embedding.bias)
        return self.embedding(spectrogram.transpose(1, 2)[:, None]).permute(0, 2, 3, 1)

    def position_table(self, columns: int) -> Tensor:
        """Return positions (R, columns, D) for a clip of that many columns."""
        if self.position_mode == "official":
            return positions.official_positions(self.positions, self.rows, columns)
        steps = (self.stride[0] / self.patch[0], self.stride[1] / self.patch[1])
        return positions.aligned_positions(self.positions, self.rows, columns, steps)

    def transform(self, tokens: Tensor, keys: Tensor | None = None) -> list[Tensor]:
        """Return all hidden states (B, class tokens + N, D) of patch tokens (B, N, D) that carry their positions.

        Args:
            tokens: without class tokens.
            keys: (B, N) bool, True where a patch may be attended to; None is all. Class tokens always may.
        """
        first = (self.class_tokens + self.class_positions).to(tokens.dtype)
        x = torch.cat([first.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        if keys is not None:
            keys = F.pad(keys, (len(first), 0), value=True)
        hidden_states = [x]
        for layer in self.layers:
            x = layer(x, keys)
            hidden_states.append(x)
        if self.superb_window is None:
            hidden_states[-1] = self.norm(x)
        return hidden_states

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Features:
        """Encode (B, S) waveforms with (B,) valid samples; the spectrogram takes no gradient."""
        if self.superb_window is None:
            cells, frames = self.spectrogram(waveforms, lengths)
            return self.encode_spectrogram(self.augmented(cells, frames), frames)
        windows = superb.cut(waveforms, lengths, self.superb_window)
        cells, frames = self.spectrogram(windows.waveforms, windows.lengths)
        features = self.encode_spectrogram(cells, frames)
        frames = superb.valid(windows, features.hidden_states[0].shape[1], self.downsample_rate)
        most = int(frames.max())
        return Features([superb.join(states, windows)[:, :most] for states in features.hidden_states], frames)

    def encode_spectrogram(self, spectrogram: Tensor, frames: Tensor) -> Features:
        """Encode normalised spectrograms (B, T, F) with (B,) valid frames."""
        grids, _, columns = self._grids(spectrogram, frames)
        folded = [fold_rows(grid, columns, self.frequency_pooling) for grid in grids]
        return Features([states for states, _ in folded], folded[0][1])

    def classify(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Return logits (B, C) of (B, S) waveforms with (B,) valid samples, for a fine-tuned model."""
        return self.classify_spectrogram(*self.spectrogram(waveforms, lengths))

    def classify_spectrogram(self, spectrogram: Tensor, frames: Tensor, pooling: str = "patches") -> Tensor:
        """Return logits (B, C) of normalised spectrograms (B, T, F) with (B,) valid frames.

        Args:
            pooling: "patches", the mean over all patches (published), or "class_tokens", that of the class tokens.
        """
        if self.classifier is None:
            raise UserError("this SSAST has no classifier; load a fine-tuned checkpoint, or set num_classes")
        grids, tokens, columns = self._grids(spectrogram, frames)
        if pooling == "class_tokens":
            return self.classifier(tokens.mean(dim=1))
        total = grids[-1].sum(dim=(1, 2))  # zero beyond the valid columns
        return self.classifier(total / (self.rows * columns.clamp(min=1)[:, None]))

    def _grids(self, spectrogram: Tensor, frames: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Return hidden states (B, R, K, D), final class tokens (B, class tokens, D) and valid columns (B,)."""
        columns = self.num_columns(frames).clamp(min=1)
        if torch.compiler.is_exporting():
            return *self._traced_grids(spectrogram, columns), columns
        if self.spectrogram.target_frames is not None:  # known without looking at the device
            counts = [max(1, count(spectrogram.shape[1], *self._along_time))] * len(frames)
        else:
            counts = columns.tolist()
        parts = pieces.cut(counts, self.longest)
        cells = pieces.gather(self.embed(spectrogram), parts)
        tokens, keys = self._positioned(cells, [part.count for part in parts])
        states = self.transform(tokens.flatten(1, 2), keys)
        first = len(self.class_tokens)
        shape, most = cells.shape, max(counts)
        grids = [pieces.join(state[:, first:].reshape(shape), parts, most) for state in states]
        return grids, pieces.average(states[-1][:, :first], parts), columns

    def _traced_grids(self, spectrogram: Tensor, columns: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the first two of `_grids`, computed without a look at single lengths."""
        most = columns.max().item()
        torch._check(most >= 1)
        inside = torch.arange((most - 1) * self.stride[1] + self.patch[1], device=columns.device)
        cuts = traced.layout(columns, self.longest)
        cells = traced.gather(self.embed(spectrogram.index_select(1, inside)), cuts)
        steps = (self.stride[0] / self.patch[0], self.stride[1] / self.patch[1])
        tokens = cells + traced.positions(self.positions, cuts, self.rows, self.position_mode, steps)
        states = self.transform(tokens.flatten(1, 2), traced.keys(cuts, self.rows))
        first = len(self.class_tokens)
        grids = [traced.join(state[:, first:].reshape(cells.shape), cuts, most) for state in states]
        return grids, traced.average(states[-1][:, :first], cuts)

    @property
    def _along_time(self) -> tuple[int, int]:
        return self.patch[1], self.stride[1]

    def _positioned(self, cells: Tensor, counts: list[int]) -> tuple[Tensor, Tensor | None]:
        """Add to embedded patches (S, R, K, D) the positions of their own number of columns; keys (S, R * K)."""
        width = cells.shape[2]
        tables = {size: self.position_table(size) for size in sorted(set(counts))}
        if len(tables) == 1 and width in tables:
            return cells + tables[width], None
        table = torch.stack([F.pad(tables[size], (0, 0, 0, width - size)) for size in tables])
        order = {size: number for number, size in enumerate(tables)}
        which = torch.tensor([order[size] for size in counts], device=cells.device)
        valid = torch.arange(width, device=cells.device) < torch.tensor(counts, device=cells.device)[:, None]
        keys = valid[:, None].expand(-1, self.rows, -1).flatten(1)
        return cells + table[which], keys
