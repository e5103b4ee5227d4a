"""The test task's way to call pytest."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.development import suite as development
from slipway.development.suite import Selection
from slipway.errors import BuildError, UsageError


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with a test that passes, one that fails, and one for the night that fails too."""
    (tmp_path / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\nmarkers = ["nightly: slow", "integration: of parts"]\n'
        'addopts = ["-p", "no:cacheprovider"]\n'
    )
    for kind in ("integration", "ceph"):
        (tmp_path / "tests" / kind).mkdir(parents=True)
    (tmp_path / "tests/integration/test_one.py").write_text(
        "import pytest\npytestmark = pytest.mark.integration\ndef test_good(): pass\n"
        "@pytest.mark.nightly\ndef test_night(): assert False\n"
    )
    (tmp_path / "tests/ceph/test_two.py").write_text("def test_bad(): assert False\n")
    return tmp_path


def test_a_nights_tests_are_run_only_when_they_are_wanted(project: Path) -> None:
    development.test(project, Selection(kinds=("integration",)))
    with pytest.raises(BuildError) as caught:
        development.test(project, Selection(kinds=("integration",), nightly=True))
    assert str(caught.value) == "error: failed: integration tests"


def test_a_keyword_may_match_in_some_kinds_but_not_in_none(project: Path) -> None:
    kinds = ("integration", "ceph")
    development.test(project, Selection(kinds=kinds, nightly=True, keyword="good"))
    with pytest.raises(BuildError) as failed:
        development.test(project, Selection(kinds=kinds, nightly=True, keyword="bad or night"))
    assert str(failed.value) == "error: failed: integration tests, ceph tests"
    with pytest.raises(UsageError) as caught:
        development.test(project, Selection(kinds=kinds, nightly=True, keyword="nothing"))
    assert (
        str(caught.value) == 'error: no test matches "nothing"\n  hint: pytest --help explains -k'
    )
