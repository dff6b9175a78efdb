"""SUPERB's speaker verification head: an x-vector network on features, and the cosines to its training speakers.

Snyder et al., 2018, "X-vectors: robust DNN embeddings for speaker recognition", as in s3prl's `sv_voxceleb1`: Linear to
512, five layers over time windows without padding, mean and standard deviation over time, two linear layers, ReLU
after each but the first, neither batch norm nor dropout. The embedding is the output of the first layer after the
pooling. Differs from s3prl in what padding does: its pooling takes in one padded frame of shorter batch mates.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.nn.padding import lengths_to_mask
from speechssl.nn.pooling import masked_deviation, masked_mean

CONTEXTS = ((5, 1), (3, 2), (3, 3), (1, 1), (1, 1))  # frames that each layer sees, and the distance between them
SHORTEST = 1 + sum((frames - 1) * distance for frames, distance in CONTEXTS)  # 15 frames make one


class TimeWindow(nn.Module):
    """Linear and ReLU over some frames at equal distances: (B, T, in) to (B, T - (frames - 1) * distance, out)."""

    def __init__(self, input_size: int, output_size: int, frames: int, distance: int):
        super().__init__()
        self.frames, self.distance = frames, distance
        self.linear = nn.Linear(input_size * frames, output_size)

    def forward(self, x: Tensor) -> Tensor:
        count = x.shape[1] - (self.frames - 1) * self.distance
        shifted = [x[:, i * self.distance : i * self.distance + count] for i in range(self.frames)]
        return F.relu(self.linear(torch.cat(shifted, dim=-1)))


class XVector(nn.Module):
    """Cosines to the training speakers, or embeddings of any speaker.

    Args:
        hidden_size: D of the features.
        num_speakers: C.
        width: of the layers over time, and of the embedding.
        pooled_size: channels whose mean and standard deviation are taken.
    """

    stackable = True

    def __init__(self, hidden_size: int, num_speakers: int, width: int = 512, pooled_size: int = 1500):
        super().__init__()
        self.projection = nn.Linear(hidden_size, width)
        sizes = [width] * len(CONTEXTS) + [pooled_size]
        self.frames = nn.Sequential(
            *(TimeWindow(sizes[i], sizes[i + 1], *context) for i, context in enumerate(CONTEXTS))
        )
        self.embedding = nn.Linear(2 * pooled_size, width)
        self.hidden = nn.Linear(width, width)
        self.speakers = nn.Parameter(nn.init.xavier_normal_(torch.empty(num_speakers, width)))

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (B, T, D) with (B,) valid frames; the lengths are handed through.

        In training mode cosines (B, C) to the speakers, else embeddings (B, width) of length 1.
        """
        x, frames = repeat_short(self.projection(features), lengths, SHORTEST)
        embedding = F.relu(self.embedding(statistics(self.frames(x), frames - SHORTEST + 1)))
        if not self.training:
            return F.normalize(embedding, dim=-1), lengths
        hidden = F.normalize(F.relu(self.hidden(embedding)), dim=-1)
        return F.linear(hidden, F.normalize(self.speakers, dim=-1)), lengths


def repeat_short(x: Tensor, lengths: Tensor, shortest: int) -> tuple[Tensor, Tensor]:
    """Repeat rows of (B, T, D) with fewer valid frames than `shortest` from their beginning until they have as many."""
    # An exported program has room for the shortest always: what is added is in no valid frame.
    room = shortest if torch.compiler.is_exporting() else max(0, shortest - x.shape[1])
    x = F.pad(x, (0, 0, 0, room))
    position = torch.arange(shortest, device=x.device).expand(x.shape[0], -1)
    short = lengths[:, None] < shortest
    index = torch.where(short, position % lengths.clamp(min=1)[:, None], position)
    beginning = x[:, :shortest].gather(1, index[..., None].expand(-1, -1, x.shape[2]))
    return torch.cat([beginning, x[:, shortest:]], dim=1), lengths.clamp(min=shortest)


def statistics(x: Tensor, lengths: Tensor) -> Tensor:
    """Return (B, 2 D): means of (B, T, D) over valid frames, then standard deviations with Bessel's correction.

    One frame has the deviation 0.
    """
    unbiased = (lengths / (lengths - 1).clamp(min=1)).sqrt()[:, None]
    valid = x.masked_fill(~lengths_to_mask(lengths, x.shape[1])[..., None], 0.0)
    return torch.cat([masked_mean(valid, lengths), masked_deviation(valid, lengths) * unbiased], dim=-1)
