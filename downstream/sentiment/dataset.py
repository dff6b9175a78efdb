"""Where sentiment analysis finds its labels: the column `sentiment` of any prepared corpus."""

LABEL = "sentiment"
