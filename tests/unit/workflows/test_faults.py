"""Faults of appliances: what their files say, that they fit, and what is said of what became of
them.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from slipway.boot.report import CheckResult
from slipway.errors import BuildError, SpecError, SpecErrors
from slipway.spec.library import Appliance, Library
from slipway.workflows import faults
from slipway.workflows.faults import Fault, Proof

ROOT = Path(__file__).parents[3]
HEAD = "The greeting is another one.\n\nCaught-by: guest/10-greeting.sh\n\n"
DIFF = """\
diff --git a/files/etc/motd.j2 b/files/etc/motd.j2
--- a/files/etc/motd.j2
+++ b/files/etc/motd.j2
@@ -1 +1 @@
-{{ spec.name }} {{ spec.version }}: {{ spec.summary }}
+Good morning.
"""


@pytest.fixture
def appliance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Appliance:
    """A new appliance, in a library below the current directory."""
    (tmp_path / "templates").symlink_to(ROOT / "templates")
    monkeypatch.chdir(tmp_path)
    library = Library(Path())
    library.new("web")
    (tmp_path / "appliances/web/faults").mkdir()
    return library.load("web")


def write(appliance: Appliance, name: str, text: str) -> Path:
    path = appliance.folder / "faults" / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", Library(ROOT).names())
def test_every_appliance_here_has_faults_and_they_fit(name: str, tmp_path: Path) -> None:
    appliance = Library(ROOT).load(name)
    found = faults.read(appliance)
    assert found
    for fault in found:
        faults.apply(fault, appliance, tmp_path / fault.name)
        assert not (tmp_path / fault.name / "faults").exists()


def test_a_fault_changes_a_copy_of_the_folder_alone_wherever_that_is(
    appliance: Appliance, tmp_path: Path
) -> None:
    write(appliance, "morning.patch", HEAD + DIFF)
    (fault,) = faults.read(appliance)
    assert (fault.name, fault.summary, fault.caught_by) == (
        "morning",
        "The greeting is another one.",
        "guest/10-greeting.sh",
    )
    repository = tmp_path / "repository"
    subprocess.run(["git", "init", "-q", repository], check=True)
    for folder in (tmp_path / "copy", repository / "copy"):
        faults.apply(fault, appliance, folder)
        assert (folder / "files/etc/motd.j2").read_text() == "Good morning.\n"
    assert "spec.name" in (appliance.folder / "files/etc/motd.j2").read_text()


def test_a_fault_that_no_longer_fits_is_an_error(appliance: Appliance, tmp_path: Path) -> None:
    path = write(appliance, "morning.patch", HEAD + DIFF)
    (appliance.folder / "files/etc/motd.j2").write_text("Welcome.\n")
    (fault,) = faults.read(appliance)
    with pytest.raises(SpecError) as raised:
        faults.apply(fault, appliance, tmp_path / "copy")
    assert str(raised.value) == (
        f"{path}: error: the patch does not apply: error: patch failed: files/etc/motd.j2:1; "
        "error: files/etc/motd.j2: patch does not apply\n"
        "  hint: break appliances/web as it is now, then: git diff --relative=appliances/web"
    )


def test_everything_wrong_with_faults_is_said_at_once(appliance: Appliance) -> None:
    write(appliance, "a.patch", DIFF)
    write(appliance, "b.patch", "It is broken.\nCaught-by: guest/10-greetings.sh\n" + DIFF)
    write(appliance, "notes.txt", "")
    with pytest.raises(SpecErrors) as raised:
        faults.read(appliance)
    folder = appliance.folder / "faults"
    assert str(raised.value).splitlines() == [
        f"{folder}/a.patch:1:1: error: this does not say what it breaks, and which check notices",
        '  hint: begin with a line that says what is broken, and one "Caught-by: <place>/<check>"',
        f'{folder}/b.patch:2:12: error: there is no check "guest/10-greetings.sh"',
        '  hint: did you mean "guest/10-greeting.sh"?',
        f'{folder}/notes.txt: error: "notes.txt" has no meaning here',
        "  hint: faults are files that end in .patch",
    ]


def failure(name: str, output: str = "one\nthe last line\n\n") -> CheckResult:
    return CheckResult(
        name=name, place="guest", outcome="failed", duration_s=1.0, attempts=2, output=output
    )


@pytest.mark.parametrize(
    ("failed", "problem", "good", "said"),
    [
        (failure("10-a.sh"), "", True, "caught by guest/10-a.sh: the last line"),
        (
            failure("10-a.sh", "  x\n    assert one == 1\n    ^^^~~~\nAssertionError\n"),
            "",
            True,
            "caught by guest/10-a.sh: assert one == 1",
        ),
        (failure("10-a.sh", ""), "", True, "caught by guest/10-a.sh: (it said nothing)"),
        (
            failure("20-b.sh"),
            "",
            False,
            "caught by guest/20-b.sh, not by guest/10-a.sh: the last line",
        ),
        (None, "", False, "NOT CAUGHT: every check passed"),
        (None, "it did not start", False, "NOT CAUGHT: it did not start"),
    ],
)
def test_only_the_named_check_proves_anything(
    failed: CheckResult | None, problem: str, good: bool, said: str
) -> None:
    fault = Fault(
        name="a", path=Path("a.patch"), summary="It is broken.", caught_by="guest/10-a.sh"
    )
    proof = Proof(fault=fault, failed=failed, problem=problem)
    assert (proof.good, str(proof)) == (good, f"a: It is broken.\n  {said}")
    if good:
        faults.require_proven([proof])
    else:
        with pytest.raises(BuildError) as raised:
            faults.require_proven([proof, proof])
        assert (
            raised.value.message
            == "2 of 2 faults were not caught by the check that they name: a, a"
        )
