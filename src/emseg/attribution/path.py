"""The straight path from the baseline to the image, and the rules that integrate a gradient along it.

    map = (x - b) * integral over alpha in [0, 1] of grad f(b + alpha (x - b))
        ~ (x - b) * sum over k of weight_k grad f(b + alpha_k (x - b))

x, b    image and baseline, [height, width]
alpha   [point] where on the path the gradient is taken;  weight  [point] its share of the integral

The rules are captum's, name by name, so that maps can be compared pixel by pixel. Two of them deserve a word.
"riemann_right", the default and the U-RISC authors' choice, uses the image itself and not the baseline.
"riemann_trapezoid" spreads n points over [0, 1] but gives them the weights of n intervals where there are n - 1, so
that its weights sum to 1 - 1/n: its maps fall short by that share, and the completeness gap shows it.

Source: Sundararajan, Taly, Yan 2017, equations 1 and 3; captum 0.9, `captum/attr/_utils/approximation_methods.py`.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from emseg.errors import UsageError, suggest

Quadrature = Literal["riemann_right", "riemann_left", "riemann_middle", "riemann_trapezoid", "gausslegendre"]


@dataclass(frozen=True, eq=False)
class PathRule:
    """Points on the path from 0 (baseline) to 1 (image), and the weights of their gradients."""

    alphas: Float[np.ndarray, " point"]
    weights: Float[np.ndarray, " point"]

    def __len__(self) -> int:
        return len(self.alphas)


def path_rule(quadrature: Quadrature, n_steps: int) -> PathRule:
    """Return the points and weights of a rule with `n_steps` points; captum's, to the last bit of float64."""
    allowed = get_args(Quadrature)
    if quadrature not in allowed:
        raise UsageError(
            f"`quadrature` must be one of {', '.join(allowed)}; got {quadrature!r}." + suggest(str(quadrature), allowed)
        )
    least = 1 if quadrature == "gausslegendre" else 2
    if not isinstance(n_steps, int | np.integer) or isinstance(n_steps, bool) or n_steps < least:
        raise UsageError(
            f"`n_steps` must be a whole number from {least} up for {quadrature}; got {n_steps!r}. The paper uses 100."
        )
    n = int(n_steps)
    if quadrature == "gausslegendre":
        nodes, weights = np.polynomial.legendre.leggauss(n)
        return PathRule(0.5 * (1 + nodes), 0.5 * weights)
    first, last = {
        "riemann_right": (1 / n, 1.0),
        "riemann_left": (0.0, 1 - 1 / n),
        "riemann_middle": (1 / (2 * n), 1 - 1 / (2 * n)),
        "riemann_trapezoid": (0.0, 1.0),
    }[quadrature]
    weights = np.full(n, 1 / n)
    if quadrature == "riemann_trapezoid":
        weights[[0, -1]] /= 2
    return PathRule(np.linspace(first, last, n), weights)
