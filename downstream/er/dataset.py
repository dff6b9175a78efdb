"""Where emotion recognition finds its labels: the column `emotion` of any prepared corpus."""

LABEL = "emotion"
