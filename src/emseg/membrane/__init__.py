"""Membranes in electron micrographs: networks, data sets, training, pretraining, scores (Shi et al. 2022, U-RISC)."""
