"""Where slot filling finds its labels: the column `slots` of a prepared corpus, beside `text`."""

LABEL = "slots"
