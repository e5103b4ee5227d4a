"""Which tests a call of the test task runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.development import KINDS, Selection, select
from slipway.errors import UsageError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("options", "store", "keyword", "selection"),
    [
        ([], "", "", Selection(lint=True, kinds=KINDS)),
        (["all"], "", "", Selection(lint=True, kinds=KINDS, nightly=True)),
        (["unit"], "", "", Selection(kinds=("unit",))),
        (["integration"], "", "", Selection(kinds=("integration",))),
        (["vm"], "", "", Selection(kinds=("vm",))),
        (["vm", "all"], "", "", Selection(kinds=("vm",), nightly=True)),
        (["vm", "unit"], "ceph", "", Selection(kinds=("unit", "ceph", "vm"))),
        ([], "", "kernel", Selection(kinds=KINDS, nightly=True, keyword="kernel")),
        (["vm"], "", "kernel", Selection(kinds=("vm",), nightly=True, keyword="kernel")),
        (["fresh"], "", "", Selection(fresh=True)),
        (["fresh"], "", "debian-13", Selection(fresh=True, keyword="debian-13")),
    ],
)
def test_options_select_kinds(
    options: list[str], store: str, keyword: str, selection: Selection
) -> None:
    assert select(options, store=store, keyword=keyword) == selection


@pytest.mark.parametrize(
    ("options", "store", "message"),
    [
        ([], "minio", 'error: there are no tests with the store "minio"\n  hint: there is: ceph'),
        (
            ["all", "fresh"],
            "",
            (
                "error: --fresh cannot go with --all\n"
                "  hint: it runs the unit and integration tests itself"
            ),
        ),
        (
            ["unit", "vm", "fresh"],
            "ceph",
            (
                "error: --fresh cannot go with --unit, --vm, --store ceph\n"
                "  hint: it runs the unit and integration tests itself"
            ),
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    options: list[str], store: str, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        select(options, store=store)
    assert str(caught.value) == message


def test_every_folder_of_tests_is_a_kind() -> None:
    assert {
        path.parent.relative_to(ROOT / "tests").parts[0] for path in ROOT.glob("tests/**/test_*.py")
    } == set(KINDS)
