"""BEATs: predict the discrete labels of hidden patches, with tokenizers distilled from the previous model"""

from speechssl.upstream.beats import convert as PUBLISHED
from speechssl.upstream.beats import original as ORIGINAL
from speechssl.upstream.beats.loop import stages as STAGES
from speechssl.upstream.beats.model import Beats
from speechssl.upstream.beats.pretrain import BeatsPretraining
from speechssl.upstream.beats.tokenizers import TOKENIZERS

UPSTREAM = Beats
PRETRAIN_TASK = BeatsPretraining

__all__ = ["ORIGINAL", "PRETRAIN_TASK", "PUBLISHED", "STAGES", "TOKENIZERS", "UPSTREAM", "Beats", "BeatsPretraining"]
