"""Which way to a model suits a data set and a number of hours: predicted before, and tried if asked."""
