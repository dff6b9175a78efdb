"""Keyword spotting: which word of a closed list is spoken (accuracy)."""

from speechssl.downstream.ks.task import KeywordSpotting

TASK = KeywordSpotting
