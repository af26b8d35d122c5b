"""The loss of a membrane network is the paper's, in every precision that it is computed in."""

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import membrane_losses as reference
from scipy.special import expit
from torch import Tensor

from emseg.errors import InputError, UsageError
from emseg.membrane.losses import MembraneLoss, boundary_loss, dice_loss, focal_loss


def _batch(seed: int = 0, *, n: int = 3, size: tuple[int, int] = (9, 12)) -> tuple[Tensor, Tensor]:
    """Logits in float64, and membranes that are squares: they have an inside and a boundary."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, 1, *size, generator=generator, dtype=torch.float64)
    membrane = torch.zeros(n, 1, *size, dtype=torch.bool)
    for number in range(n):
        membrane[number, :, 1 + number : 6 + number, 2:7] = True
    return logits, membrane


def _arrays(logits: Tensor, membrane: Tensor) -> tuple[np.ndarray, np.ndarray]:
    return expit(logits[:, 0].numpy()), membrane[:, 0].numpy().astype(float)


def _sure(membrane: Tensor) -> Tensor:
    """Logits that are as good as certain of this membrane."""
    return 40.0 * (2.0 * membrane - 1)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_loss_is_lins_fourth_equation(gamma: float) -> None:
    logits, membrane = _batch()
    assert float(focal_loss(logits, membrane, gamma=gamma)) == pytest.approx(
        reference.focal(*_arrays(logits, membrane), gamma), rel=1e-10
    )


def test_dice_loss_is_the_textbooks_image_by_image() -> None:
    logits, membrane = _batch()
    assert float(dice_loss(logits, membrane)) == pytest.approx(reference.dice(*_arrays(logits, membrane)), rel=1e-10)
    alone = [float(dice_loss(logits[[n]], membrane[[n]])) for n in range(len(logits))]
    assert float(dice_loss(logits, membrane)) == pytest.approx(np.mean(alone), rel=1e-12)


def test_boundary_loss_is_bokhovkin_and_burnaevs() -> None:
    logits, membrane = _batch()
    assert float(boundary_loss(logits, membrane)) == pytest.approx(
        reference.boundary(*_arrays(logits, membrane)), rel=1e-10
    )


def test_the_loss_is_the_weighted_sum_and_the_papers_by_default() -> None:
    logits, membrane = _batch()
    p, y = _arrays(logits, membrane)
    focal, dice, boundary = reference.focal(p, y, 2.0), reference.dice(p, y), reference.boundary(p, y)
    assert float(MembraneLoss()(logits, membrane)) == pytest.approx(focal + dice, rel=1e-10)
    weighted = MembraneLoss(dice_weight=0.25, boundary_weight=3.0)
    assert float(weighted(logits, membrane)) == pytest.approx(focal + 0.25 * dice + 3 * boundary, rel=1e-10)
    assert set(weighted.terms(logits, membrane)) == {"focal", "dice", "boundary"}
    assert set(MembraneLoss(dice_weight=0.0).terms(logits, membrane)) == {"focal"}


def test_smp_computes_the_same_focal_loss_and_the_same_dice_loss_of_one_image() -> None:
    logits, membrane = _batch()
    theirs = smp.losses.FocalLoss("binary", gamma=2.0)(logits, membrane)
    assert float(focal_loss(logits, membrane)) == pytest.approx(float(theirs), rel=1e-9)
    # smp adds its constant to the intersection, we to twice that.
    dice = smp.losses.DiceLoss("binary", smooth=0.5)
    assert float(dice_loss(logits[:1], membrane[:1])) == pytest.approx(float(dice(logits[:1], membrane[:1])), rel=1e-9)
    assert float(dice_loss(logits, membrane)) != pytest.approx(float(dice(logits, membrane)), rel=1e-4)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_gradients_are_those_of_the_loss(gamma: float) -> None:
    logits, membrane = _batch(n=2, size=(7, 8))
    loss = MembraneLoss(gamma, 1.0, 0.7)
    assert torch.autograd.gradcheck(lambda x: loss(x, membrane), logits.requires_grad_())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-6), (torch.float16, 1e-6)])
def test_half_precision_logits_lose_nothing_within_the_loss(dtype: torch.dtype, tolerance: float) -> None:
    logits, membrane = _batch(size=(64, 64))
    logits = (4 * logits).to(dtype)
    loss = MembraneLoss(boundary_weight=1.0)
    computed = loss(logits, membrane)
    assert computed.dtype == torch.float32
    assert float(computed) == pytest.approx(float(loss(logits.double(), membrane)), rel=tolerance)


def test_autocast_changes_nothing() -> None:
    logits, membrane = _batch(size=(64, 64))
    loss = MembraneLoss(boundary_weight=1.0)
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss(logits.bfloat16(), membrane)
    assert float(inside) == pytest.approx(float(loss(logits.bfloat16(), membrane)), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_extreme_logits_give_finite_losses_and_gradients(dtype: torch.dtype) -> None:
    membrane = torch.tensor([True, False, True, False]).reshape(1, 1, 2, 2)
    logits = torch.tensor([6e4, 6e4, -6e4, -6e4], dtype=dtype).reshape(1, 1, 2, 2).requires_grad_()
    for gamma in (0.0, 0.5, 2.0):
        loss = MembraneLoss(gamma, 1.0, 1.0)(logits, membrane)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert torch.isfinite(gradient).all()
        # Half of the pixels are certainly wrong: 60,000 each of cross-entropy.
        assert loss.item() == pytest.approx(3e4, rel=0.01)
        assert gradient.flatten()[1] > 0 > gradient.flatten()[2]


def test_a_perfect_prediction_costs_nothing_and_its_inverse_most() -> None:
    _, membrane = _batch()
    loss = MembraneLoss(boundary_weight=1.0)
    assert float(loss(_sure(membrane), membrane)) == pytest.approx(0.0, abs=1e-6)
    assert float(dice_loss(_sure(~membrane), membrane)) > 0.98
    assert float(focal_loss(_sure(~membrane), membrane)) == pytest.approx(40.0, rel=1e-3)


def test_on_an_image_without_membrane_less_of_it_is_better() -> None:
    membrane = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    few, many = torch.full((1, 1, 8, 8), -20.0), torch.full((1, 1, 8, 8), -20.0)
    few[..., 3:5, 3:5] = 20
    many[..., 1:6, 1:6] = 20
    for term in (focal_loss, dice_loss, boundary_loss):
        empty = float(term(torch.full((1, 1, 8, 8), -20.0), membrane))
        assert empty == pytest.approx(0.0, abs=1e-5)
        assert empty < float(term(few, membrane)) < float(term(many, membrane))


@pytest.mark.parametrize(("shift", "free"), [(0, True), (1, True), (2, True), (4, False), (8, False)])
def test_the_boundary_may_be_two_pixels_off(shift: int, free: bool) -> None:
    membrane = torch.zeros(1, 1, 40, 40, dtype=torch.bool)
    membrane[..., :, 16:22] = True
    cost = float(boundary_loss(_sure(membrane.roll(shift, dims=3)), membrane))
    assert cost == pytest.approx(0.0, abs=1e-5) if free else cost > 0.4


@given(seed=st.integers(0, 1000), step=st.floats(0.05, 2.0))
@settings(max_examples=30, deadline=None)
def test_moving_a_logit_towards_the_truth_never_costs(seed: int, step: float) -> None:
    logits, membrane = _batch(seed, n=1)
    loss = MembraneLoss()
    better = logits + step * (2.0 * membrane - 1)
    assert float(loss(better, membrane)) < float(loss(logits, membrane))


def test_mixed_labels_weigh_both_classes() -> None:
    logits, membrane = _batch()
    half = torch.full_like(logits, 0.5)
    both = (focal_loss(logits, torch.ones_like(membrane)) + focal_loss(logits, torch.zeros_like(membrane))) / 2
    assert float(focal_loss(logits, half)) == pytest.approx(float(both), rel=1e-12)
    assert float(MembraneLoss()(logits, membrane.double())) == float(MembraneLoss()(logits, membrane))


@pytest.mark.parametrize("name", ["focal_gamma", "dice_weight", "boundary_weight"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "1", None, True])
def test_weights_that_are_none_are_named(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"`{name}` must be (finite|a number|at least 0)"):
        MembraneLoss(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("logits", "membrane", "message"),
    [
        (torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool), r"\[1, 1, 4, 4\] and \[1, 4, 4\]"),
        (torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 5, dtype=torch.bool), "one shape"),
        (torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4, dtype=torch.bool), "one shape"),
        (torch.zeros(0, 1, 4, 4), torch.zeros(0, 1, 4, 4, dtype=torch.bool), "one shape"),
        (torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.uint8), "torch.uint8.*code membrane as 0"),
    ],
)
def test_maps_that_do_not_fit_are_named(logits: Tensor, membrane: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        MembraneLoss()(logits, membrane)
