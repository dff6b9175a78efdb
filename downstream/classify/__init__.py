"""Classification by any column: a labelled folder or manifest becomes a task (accuracy, macro F1)."""

from speechssl.downstream.classify.task import Classification

TASK = Classification
