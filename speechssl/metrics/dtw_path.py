"""Where in a document a spoken query matches best: the two ends of the path of `speechssl.metrics.dtw`.

The cheapest path is known by its last document frame. Its first one is carried along: every cell remembers where the
best path to it began, so that nothing has to be traced back.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from speechssl.errors import UserError
from speechssl.metrics.dtw import frame_distances

CELLS = 2**22  # distances held at a time, float32
STEPS = 3  # document frames that a path may go on by: 0, 1 or 2


def best_matches(queries: Sequence[Tensor], documents: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Return (Q, N) costs as `matching_costs` gives them, and the first and one past the last document frame.

    Args:
        queries, documents: (T, D) features on one device.
    """
    if not (queries and documents and all(len(frames) for frames in (*queries, *documents))):
        raise UserError("expected queries and documents of at least one frame each; leave empty audio out")
    shape, device = (len(queries), len(documents)), queries[0].device
    costs = torch.empty(shape, device=device)
    starts, ends = torch.empty(2, *shape, dtype=torch.long, device=device)
    longest = max(len(query) for query in queries)
    for column, document in enumerate(documents):
        size = max(1, CELLS // (longest * len(document)))
        for first in range(0, len(queries), size):
            rows = slice(first, first + size)
            part = queries[rows]
            padded = torch.nn.utils.rnn.pad_sequence(list(part), batch_first=True)
            distances = frame_distances(F.normalize(padded, dim=-1), F.normalize(document[None], dim=-1))
            found = path_ends(distances[:, :, 0], [len(query) for query in part])
            costs[rows, column], starts[rows, column], ends[rows, column] = found
    return costs, starts, ends


def path_ends(distances: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean distance (Q,) along each query's best path, its first document frame and the one after its last.

    Args:
        distances: (Tq, Q, Td) of each query frame to all document frames.
        lengths: (Q,) frames of the queries; what comes after is padding.
    """
    frames, count = distances.shape[0], distances.shape[2]
    costs = distances.new_empty(distances.shape[1])
    starts, ends = torch.empty(2, len(costs), dtype=torch.long, device=distances.device)
    origin = torch.arange(count, device=distances.device).expand(distances.shape[1:])
    so_far = distances[0]
    for frame in range(frames):
        if frame:
            best, step = _earlier(so_far, torch.inf).min(dim=0)
            origin = _earlier(origin, 0).gather(0, step[None])[0]
            so_far = distances[frame] + best
        done = [query for query, length in enumerate(lengths) if length == frame + 1]
        if done:
            total, last = so_far[done].min(dim=-1)
            costs[done], ends[done] = total / (frame + 1), last + 1
            starts[done] = origin[done].gather(-1, last[:, None])[:, 0]
    return costs, starts, ends


def _earlier(values: Tensor, outside: float) -> Tensor:
    """Return (3, Q, Td): values (Q, Td) of the same document frame, of the one before, and of the one before that."""
    count = values.shape[-1]
    padded = F.pad(values, (STEPS - 1, 0), value=outside)
    return torch.stack([padded[:, STEPS - 1 - back : STEPS - 1 - back + count] for back in range(STEPS)])
