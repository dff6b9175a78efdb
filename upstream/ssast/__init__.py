"""SSAST: tell apart and reconstruct hidden patches of a spectrogram, patch and frame variant"""

from speechssl.upstream.ssast import convert as PUBLISHED
from speechssl.upstream.ssast import original as ORIGINAL
from speechssl.upstream.ssast.model import Ssast
from speechssl.upstream.ssast.pretrain import SsastPretraining

UPSTREAM = Ssast
PRETRAIN_TASK = SsastPretraining

__all__ = ["ORIGINAL", "PRETRAIN_TASK", "PUBLISHED", "UPSTREAM", "Ssast", "SsastPretraining"]
