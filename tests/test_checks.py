"""Every refusal of a value says what must hold, what came and, where there is one, the repair."""

import dataclasses
import pickle
from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
import pytest
from pydantic import Field

from emseg.checks import (
    Count,
    CountOrZero,
    Fraction,
    Items,
    Positive,
    changed,
    plain,
    require_count,
    require_number,
    require_one_of,
    validated,
)
from emseg.errors import UsageError


@validated
class InnerPlan:
    """A plan within a plan."""

    share: Fraction = 0.5


@validated
class ToyPlan:
    """A plan with one field of each kind."""

    n_steps: Count = 10
    n_workers: CountOrZero = 0
    optimizer: Literal["adam", "adamw"] = "adam"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    learning_rate: Positive | None = None
    flips: Items[Literal["horizontal", "vertical"]] = ()
    tensorboard: bool = False
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    inner: InnerPlan = dataclasses.field(default_factory=InnerPlan)

    def __post_init__(self) -> None:
        if self.n_workers > self.n_steps:
            raise UsageError("more workers than steps. Use fewer.")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_steps": 0}, "`n_steps` must be at least 1; got 0."),
        ({"n_steps": True}, "`n_steps` must be a whole number; got True."),
        ({"n_steps": 2.0}, "`n_steps` must be a whole number; got 2.0."),
        ({"n_steps": "3"}, "`n_steps` must be a whole number; got '3'."),
        ({"optimizer": "adma"}, "`optimizer` must be one of 'adam', 'adamw'; got 'adma'. Did you mean 'adam'?"),
        ({"momentum": 1}, "`momentum` must be below 1; got 1."),
        ({"learning_rate": 0}, "`learning_rate` must be greater than 0; got 0."),
        ({"learning_rate": float("nan")}, "`learning_rate` must be finite; got nan."),
        ({"learning_rate": "fast"}, "`learning_rate` must be a number; got 'fast'."),
        ({"flips": 3}, "`flips` must be a list; got 3."),
        ({"flips": ["up"]}, "`flips.0` must be one of 'horizontal', 'vertical'; got 'up'."),
        ({"tensorboard": 1}, "`tensorboard` must be true or false; got 1."),
        ({"n_stps": 1}, "a toy plan has no 'n_stps'. Did you mean 'n_steps'?"),
        ({"n_workers": 11}, "more workers than steps. Use fewer."),
    ],
)
def test_a_wrong_field_gets_one_sentence(values, message):
    with pytest.raises(UsageError) as caught:
        ToyPlan(**values)
    assert str(caught.value) == message
    with pytest.raises(UsageError) as caught:
        changed(ToyPlan(), **values)
    assert str(caught.value) == message


def test_a_field_given_by_position_is_refused_by_its_name():
    assert ToyPlan(3, 2) == ToyPlan(n_steps=3, n_workers=2)
    with pytest.raises(UsageError, match="`optimizer` must be one of 'adam', 'adamw'; got 'adma'"):
        ToyPlan(3, 2, "adma")
    with pytest.raises(TypeError, match="multiple values"):
        ToyPlan(3, n_steps=3)


def test_a_validated_class_is_frozen_comparable_and_plain():
    plan = ToyPlan(flips=["vertical"], momentum=0)
    assert plan.flips == ("vertical",)
    assert plan == changed(ToyPlan(), flips=("vertical",), momentum=0.0)
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert plain(plan)["flips"] == ["vertical"]
    assert plain(plan)["inner"] == {"share": 0.5}
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.n_steps = 1


def test_single_arguments_are_checked_alike():
    assert require_count("n", np.int64(3)) == 3
    with pytest.raises(UsageError, match="`n` must be a whole number of at least 1; got 0"):
        require_count("n", 0)
    with pytest.raises(UsageError, match="`n` must be a whole number from 0 to 4; got 5"):
        require_count("n", 5, 0, 4)
    with pytest.raises(UsageError, match="`n` must be a whole number of at least 1; got True"):
        require_count("n", True)
    assert require_number("x", 1, least=0) == 1.0
    with pytest.raises(UsageError, match="`x` must be a finite number greater than 0 and at most 1 nm; got 0"):
        require_number("x", 0, above=0, most=1, unit="nm")
    with pytest.raises(UsageError, match="`x` must be a finite number; got nan"):
        require_number("x", float("nan"))
    with pytest.raises(UsageError, match=r"`kind` must be one of 'a', 'bee'; got 'be'\. Did you mean 'bee'\?"):
        require_one_of("kind", "be", ("a", "bee"))
