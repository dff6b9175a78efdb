"""Where classification finds its labels: the column `label` of a prepared corpus, or any other that is named."""

LABEL = "label"
