"""Where named entity recognition finds its labels: the column `entities` of a prepared corpus, beside `text`."""

LABEL = "entities"
