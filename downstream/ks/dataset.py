"""Where keyword spotting finds its labels: the column `keyword` of any prepared corpus."""

LABEL = "keyword"
