"""Phoneme recognition: ARPAbet phones with stress by CTC (phone error rate)."""

from speechssl.downstream.pr.task import PhonemeRecognition

TASK = PhonemeRecognition
