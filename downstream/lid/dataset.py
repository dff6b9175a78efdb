"""Where language identification finds its labels: the column `language` of any prepared corpus."""

LABEL = "language"
