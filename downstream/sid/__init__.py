"""Speaker identification: who of the speakers heard in training is speaking (accuracy)."""

from speechssl.downstream.sid.task import SpeakerIdentification

TASK = SpeakerIdentification
