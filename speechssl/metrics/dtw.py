"""How well spoken queries match anywhere in spoken documents: subsequence dynamic time warping, many pairs at once.

SUPERB's query-by-example search (Yang et al., 2021), with s3prl's distances: exp(cosine distance) - 1 between all
frames of a query and of a document, scaled to 0..1 for every query frame. A path takes one query frame after the other
and 0, 1 or 2 document frames each time; it begins and ends anywhere in the document. The cost is a mean over query
frames.

Queries and documents of similar length are padded to blocks, whose distances are one matrix product. The only loop over
time is that over query frames; a step of it is a few operations on (queries, documents, frames) on the tensors' device.
"""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from speechssl.errors import UserError

CELLS = {"cuda": 2**27}  # distances held at a time, float32; several copies of them are alive
CELLS_ELSEWHERE = 2**22  # 16 MB, which suits the caches of a CPU
SMALLEST = 1e-9  # a query frame that is as far from all document frames has distance 0 to them


def matching_costs(queries: Sequence[Tensor], documents: Sequence[Tensor]) -> Tensor:
    """Return (Q, N) float32 costs per query frame, in 0..1, of the best match of each query in each document.

    Args:
        queries, documents: (T, D) features on one device.
    """
    if not all(len(frames) for frames in (*queries, *documents)):
        raise UserError("expected at least one frame in every query and document, found none; leave such audio out")
    device = queries[0].device
    costs = torch.empty(len(queries), len(documents), device=device)
    cells = CELLS.get(device.type, CELLS_ELSEWHERE)
    widest = max(max(len(query) for query in queries), queries[0].shape[1])  # frames or channels of a document's frame
    for rows in _blocks(documents, max(1, cells // widest)):
        block = _unit([documents[row] for row in rows], repeat=True)
        for picks in _blocks(queries, max(1, cells // (block.shape[0] * block.shape[1]))):
            part = [queries[pick] for pick in picks]
            distances = frame_distances(_unit(part), block)
            ends = [len(query) for query in part]
            costs[torch.tensor(picks)[:, None], torch.tensor(rows)] = subsequence_costs(distances, ends)
    return costs


def _blocks(sequences: Sequence[Tensor], frames: int) -> Iterator[list[int]]:
    """Yield indices of sequences of similar length, of at most so many padded frames, or of one sequence."""
    chosen: list[int] = []
    for index in sorted(range(len(sequences)), key=lambda i: len(sequences[i])):
        if chosen and (len(chosen) + 1) * len(sequences[index]) > frames:
            yield chosen
            chosen = []
        chosen.append(index)
    yield chosen


def _unit(sequences: Sequence[Tensor], *, repeat: bool = False) -> Tensor:
    """Return (B, T, D) frames of length 1, padded at the end with zeros or with the last frame again and again."""
    if repeat:
        times = torch.arange(max(map(len, sequences)), device=sequences[0].device)
        padded = torch.stack([frames[times.clamp(max=len(frames) - 1)] for frames in sequences])
    else:
        padded = torch.nn.utils.rnn.pad_sequence(list(sequences), batch_first=True)
    return F.normalize(padded, dim=-1)


def frame_distances(queries: Tensor, documents: Tensor) -> Tensor:
    """Return distances (Tq, Q, N, Td) in 0..1.

    Documents are padded with their last frame: that changes neither the smallest nor the largest distance, and a path
    that goes on into the padding costs what it costs to stay on the last frame. So nothing has to be masked.

    Args:
        queries: (Q, Tq, D) frames of length 1.
        documents: (N, Td, D) frames of length 1.
    """
    Q, Tq, D = queries.shape
    N, Td, _ = documents.shape
    opposite = queries.transpose(0, 1).reshape(Tq * Q, D).neg() @ documents.reshape(N * Td, D).T
    distances = opposite.view(
        Tq, Q, N, Td
    ).exp_()  # exp(1 - cosine) - 1, but for a factor and a shift that scaling undoes
    smallest, largest = distances.aminmax(dim=-1, keepdim=True)
    return distances.sub_(smallest).div_((largest - smallest).clamp(min=SMALLEST / math.e))


def subsequence_costs(distances: Tensor, ends: Sequence[int]) -> Tensor:
    """Return (Q, N) mean distances along the best paths through (Tq, Q, N, Td).

    Args:
        distances: of each query frame to all document frames.
        ends: (Q,) frames of the queries; what comes after is padding.
    """
    costs = distances.new_empty(distances.shape[1:3])
    so_far = F.pad(distances[0], (2, 0), value=torch.inf)  # two document frames before the first, which no path enters
    for frame in range(len(distances)):
        if frame:
            best = torch.minimum(so_far[..., 2:], so_far[..., 1:-1])
            torch.minimum(best, so_far[..., :-2], out=best)
            torch.add(distances[frame], best, out=so_far[..., 2:])
        done = [query for query, end in enumerate(ends) if end == frame + 1]
        if done:
            costs[done] = so_far[done].amin(dim=-1) / (frame + 1)
    return costs
