"""Where speaker identification finds its labels: the column `speaker` of any prepared corpus."""

LABEL = "speaker"
