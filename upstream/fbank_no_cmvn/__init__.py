"""Kaldi filter banks with deltas, not normalised: the informative baseline, nothing is learned."""

from speechssl.upstream.fbank_no_cmvn.model import FbankNoCmvn

UPSTREAM = FbankNoCmvn
