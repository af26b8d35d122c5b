"""The learning rate as a function of the step alone.

    constant   eta (t + 1) / w             for t < w (linear warm-up over w steps), then eta
    onecycle   eta / 25 -> eta             half a cosine over the first w steps, the last of them with eta, then
               eta -> eta / 250,000        half a cosine over the rest

Source: Smith & Topin, Super-convergence (2018), with the numbers and the cosine of torch's OneCycleLR.
Deviation: Adam's momentum is left as it is; torch's default cycles it against the learning rate.
"""

import math

SCHEDULES = ("onecycle", "constant")
START_DIVISOR = 25.0
END_DIVISOR = 1e4  # of the start


def learning_rate_at(step: int, *, schedule: str, learning_rate: float, warm_up_steps: int, n_steps: int) -> float:
    """Return the learning rate of step `step`, counted from 0."""
    if schedule == "constant":
        return learning_rate * min(1.0, (step + 1) / warm_up_steps) if warm_up_steps else learning_rate
    start = learning_rate / START_DIVISOR
    top = max(0, warm_up_steps - 1)  # the step with the full rate
    if step < top:
        return _cosine(start, learning_rate, step / top)
    return _cosine(learning_rate, start / END_DIVISOR, (step - top) / max(1, n_steps - 1 - top))


def _cosine(begin: float, end: float, share: float) -> float:
    return end + (begin - end) / 2 * (1 + math.cos(math.pi * share))
