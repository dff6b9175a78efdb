"""TERA: reconstruct log-mel frames from a copy altered in time, frequency and magnitude"""

from speechssl.upstream.tera import convert as PUBLISHED
from speechssl.upstream.tera import original as ORIGINAL
from speechssl.upstream.tera.model import Tera
from speechssl.upstream.tera.pretrain import TeraPretraining

UPSTREAM = Tera
PRETRAIN_TASK = TeraPretraining

__all__ = ["ORIGINAL", "PRETRAIN_TASK", "PUBLISHED", "UPSTREAM", "Tera", "TeraPretraining"]
