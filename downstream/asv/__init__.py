"""Speaker verification: whether two utterances are of one speaker (equal error rate)."""

from speechssl.downstream.asv.task import SpeakerVerification

TASK = SpeakerVerification
