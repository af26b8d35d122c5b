"""Where the score changes on the way to the image: evenly for a linear network, at once for one that saturates."""

import numpy as np
import pytest
import torch
from torch import nn

from chapters.attribution_fields.path_profile import halfway, path_scores

IMAGE = np.random.default_rng(0).normal(size=(6, 7)).astype(np.float32)
ALPHAS = np.linspace(0, 1, 41)


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.weight * x - 1


def test_the_score_of_a_linear_network_changes_evenly():
    scores = path_scores(Linear(), IMAGE, np.array([2, 3]), ALPHAS)
    assert scores == pytest.approx(2 * ALPHAS * IMAGE[2, 3] - 1, abs=1e-5)
    assert halfway(ALPHAS, scores) == pytest.approx(0.5, abs=1e-5)


def test_a_network_that_saturates_is_half_way_early():
    assert halfway(ALPHAS, np.tanh(30 * ALPHAS)) < 0.03
    assert halfway(ALPHAS, np.tanh(30 * (ALPHAS - 1))) > 0.97


def test_ways_up_and_down_count_alike():
    assert halfway(np.array([0.0, 0.5, 1.0]), np.array([0.0, 1.0, 0.0])) == pytest.approx(0.5)
    assert halfway(np.array([0.0, 0.5, 1.0]), np.array([0.0, -1.0, -1.0])) == pytest.approx(0.25)


def test_a_constant_score_has_no_half_way():
    assert np.isnan(halfway(ALPHAS, np.ones_like(ALPHAS)))
