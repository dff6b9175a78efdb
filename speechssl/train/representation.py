"""How many directions a trained upstream uses: the effective rank of its utterance vectors."""

import numpy as np
import torch

from speechssl.data.cuts import Corpus
from speechssl.data.loader import utterance_batches
from speechssl.data.sampler import seeded_order
from speechssl.interfaces import Upstream
from speechssl.metrics.effective_rank import effective_rank
from speechssl.nn.pooling import masked_mean

UTTERANCES = 512
LONGEST_SECONDS = 30.0
BATCH_SECONDS = 60.0


@torch.inference_mode()
def rank_of(upstream: Upstream, corpus: Corpus) -> float | None:
    """Return the effective rank of the means over time of the last hidden state.

    Taken over at most 512 utterances of dev (of train where there is no dev) that last at most 30 s; None where fewer
    than two can be read. The model is put into eval mode and back.
    """
    table = corpus.table("dev" if "dev" in corpus.splits else "train")
    order = seeded_order(len(table), 0, 0, "representation")
    short = order[table.num_samples[order] <= LONGEST_SECONDS * upstream.sample_rate]
    chosen = table.select(np.sort(short[:UTTERANCES]))
    if len(chosen) < 2:
        return None
    device, training = next(upstream.parameters()).device, upstream.training
    upstream.eval()
    vectors = []
    for batch in utterance_batches(chosen, max_seconds=BATCH_SECONDS):
        if not batch.empty:
            states, lengths = upstream(batch.waveforms.to(device), batch.lengths.to(device))
            vectors.append(masked_mean(states[-1].float(), lengths).cpu())
    upstream.train(training)
    return effective_rank(torch.cat(vectors)) if sum(map(len, vectors)) > 1 else None
