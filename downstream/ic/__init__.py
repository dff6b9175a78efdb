"""Intent classification: all slots of a spoken command (joint accuracy)."""

from speechssl.downstream.ic.task import IntentClassification

TASK = IntentClassification
