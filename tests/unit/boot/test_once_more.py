"""Tests that start machines start them again after a crash, and after nothing else."""

from __future__ import annotations

import pytest

from once_more import Crashed, once_more
from slipway.boot.results import Died


def endings(*found: Exception | str) -> tuple[list[int], object]:
    """Run something that ends so, one time after the other: how often it was started, and its
    result.
    """
    started: list[int] = []

    def start() -> str:
        started.append(len(started))
        ending = found[started[-1]]
        if isinstance(ending, Exception):
            raise ending
        return ending

    try:
        return started, once_more(start)
    except (Died, AssertionError) as error:
        return started, error


def test_a_machine_that_died_is_started_once_more_and_that_is_said() -> None:
    with pytest.warns(Crashed) as said:
        started, result = endings(Died("QEMU ended with status -11"), "passed")
    assert (len(started), result) == (2, "passed")
    assert [str(each.message) for each in said] == [
        "a machine was started once more: QEMU ended with status -11"
    ]


def test_a_machine_that_died_twice_is_a_failure() -> None:
    with pytest.warns(Crashed):
        started, result = endings(Died("first"), Died("second"), "passed")
    assert len(started) == 2
    assert isinstance(result, Died) and str(result) == "second"


def test_a_failed_check_is_never_tried_on_another_machine() -> None:
    started, result = endings(AssertionError("10-script.sh: no"), "passed")
    assert len(started) == 1
    assert str(result) == "10-script.sh: no"
