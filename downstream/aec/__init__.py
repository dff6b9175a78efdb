"""Audio event classification: one event per clip (accuracy), or any number of them (mAP)."""

from speechssl.downstream.aec.task import AudioEventClassification

TASK = AudioEventClassification
