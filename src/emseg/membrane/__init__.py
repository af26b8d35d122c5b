"""Segmenting membranes: data sets, networks, training, pretraining and scoring."""
