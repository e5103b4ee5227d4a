"""Mutants: that the tables fit the code, and that their runner tells a fault that is noticed from
one that is not.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from golden import require_golden
from slipway.development import mutants
from slipway.development.mutants import Mutant, Outcome
from slipway.errors import BuildError, SpecErrors, UsageError, Where

ROOT = Path(__file__).parents[3]
CODE = """\
def double(number):
    return number * 2


def limit(number):
    return min(number, 9)
"""
TESTS = """\
from code_of_it import double, limit


def test_double():
    assert double(3) == 6


def test_limit():
    assert limit(3) == 3
"""
TABLE = """\
- name: one-more
  file: src/code_of_it.py
  old: number * 2
  new: number * 3
  tests: [tests/test_it.py]
- name: same-length
  file: src/code_of_it.py
  old: number * 2
  new: number + 2
  tests: [tests/test_it.py::test_double]
- name: no-limit
  file: src/code_of_it.py
  old: min(number, 9)
  new: number
  tests: [tests/test_it.py]
- name: no-python
  file: src/code_of_it.py
  old: def double(number)
  new: def double(number))
  tests: [tests/test_it.py]
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with two functions, one of which is tested well, in a repository."""
    folder = tmp_path / "project"
    for name, text in {
        "src/code_of_it.py": CODE,
        "tests/test_it.py": TESTS,
        "tests/mutants/it.yaml": TABLE,
        "pytest.ini": (
            "[pytest]\naddopts = -ra -p no:hypothesispytest -p no:timeout\npythonpath = src\n"
        ),
        ".gitignore": "secret\n",
        "secret": "never copied\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    subprocess.run(["git", "init", "-q", folder], check=True)
    return folder


def test_every_mutant_here_fits_its_file_and_names_tests_that_exist() -> None:
    assert len(mutants.read(ROOT)) >= 70


@pytest.mark.integration
def test_a_fault_is_killed_by_a_test_or_survives(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file()
    }
    found = {outcome.mutant.name: outcome for outcome in mutants.prove(root, mutants.read(root))}
    assert {name: (outcome.killed_by, outcome.good) for name, outcome in found.items()} == {
        "one-more": ("tests/test_it.py::test_double", True),
        "same-length": ("tests/test_it.py::test_double", True),
        "no-limit": (None, False),
        "no-python": (None, False),
    }
    require_golden(found["no-python"].problem, "SyntaxError: <…>")
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before
    assert [path.name for path in tmp_path.iterdir()] == ["project"]
    with pytest.raises(BuildError) as caught:
        mutants.require_killed(list(found.values()))
    assert str(caught.value).startswith(
        "error: 2 of 4 mutants did not end as tests/mutants/ says: "
    )
    assert caught.value.exit_code == 5
    mutants.require_killed([outcome for outcome in found.values() if outcome.good])


def test_tests_that_fail_without_a_fault_prove_nothing(root: Path) -> None:
    (root / "tests/test_it.py").write_text(TESTS.replace("== 6", "== 7"))
    with pytest.raises(BuildError) as caught:
        list(mutants.prove(root, mutants.read(root)[:1], jobs=1))
    assert (
        caught.value.message
        == "the tests of the mutants have to pass without a fault:\n  tests/test_it.py::test_double"
    )
    assert caught.value.hint == "repair them first: ./run test"


def gone(pid: int) -> bool:
    """Whether a process has ended, after a moment for the kernel to say so."""
    for _ in range(20_000):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state in "ZX":
            return True
        os.sched_yield()
    return False


@pytest.mark.integration
def test_a_fault_that_hangs_is_killed_and_stopping_leaves_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(mutants, "_require_passing", lambda *_: None)
    monkeypatch.setattr(mutants, "_PATIENCE_S", 4)
    mark = tmp_path / "pid"
    leave = "__import__('subprocess').Popen(['sleep', '1000'], start_new_session=True).pid"
    hang = (
        f"__import__('pathlib').Path('{mark}').write_text(str({leave})) and "
        "__import__('signal').pause()"
    )
    (hanging,) = mutants.read(root)[:1]
    hanging = Mutant(**{**{name: getattr(hanging, name) for name in Mutant.__slots__}, "new": hang})
    (outcome,) = mutants.prove(root, [hanging])
    assert outcome.good
    assert outcome.killed_by == "the time limit (no end after 4 s)"
    assert gone(int(mark.read_text()))

    running = mutants.prove(root, [mutants.read(root)[0], hanging])
    assert next(running).mutant.name == "one-more"
    running.close()
    mark.unlink(missing_ok=True)
    assert [path.name for path in tmp_path.iterdir()] == ["project"]


def test_an_entry_that_fits_nothing_is_an_error_with_its_line(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "tests/mutants/it.yaml").write_text(
        TABLE.replace("number * 3", "number * 2").replace("test_double]", "test_duoble]")
    )
    (root / "tests/mutants/more.yaml").write_text(
        TABLE[: TABLE.index("- name: same")].replace("number * 2", "number", 1)
        + "- name: x\n- [a]\n"
    )
    (root / "tests/mutants/none.yaml").write_text("a: b: c\n")
    (root / "tests/mutants/other.yaml").write_text(
        "- {name: Bad name, file: a, old: b, new: c, tests: [d]}\n"
        "- {name: a, file: 1, old: b, new: c, tests: [d]}\n"
        "- {name: a, file: a, old: b, new: c, tests: [d], survives: ''}\n"
        "- {name: a, file: a, old: b, new: c, tests: []}\n"
    )
    with pytest.raises(SpecErrors) as caught:
        mutants.read(root)
    shape = "error: a mutant has the keys file, name, new, old, tests, and may have survives"
    lines = [
        "tests/mutants/it.yaml:1: error: one-more: old and new are the same",
        (
            "tests/mutants/it.yaml:6: error: same-length: there is no test test_duoble in "
            'tests/test_it.py: did you mean "test_double"?'
        ),
        'tests/mutants/more.yaml:1: error: "one-more" is in the tables twice',
        (
            "tests/mutants/more.yaml:1: error: one-more: does not fit: old has to occur once in "
            "src/code_of_it.py, and occurs 4 times"
        ),
        f"tests/mutants/more.yaml:6: {shape}",
        f"tests/mutants/more.yaml:7: {shape}",
        "tests/mutants/none.yaml: error: not YAML: <…>",
        ("tests/mutants/other.yaml:1: error: name: use lower-case letters, digits and hyphens"),
        "tests/mutants/other.yaml:2: error: name, file, old, new and survives are texts",
        "tests/mutants/other.yaml:3: error: survives: expected a reason",
        "tests/mutants/other.yaml:4: error: tests: expected a list of pytest's paths or node ids",
    ]
    require_golden(str(caught.value), "\n".join(lines))


def test_mutants_are_chosen_by_their_names_or_by_those_of_tables(root: Path) -> None:
    known = mutants.read(root)
    assert mutants.choose(known, []) == mutants.choose(known, ["it"]) == known
    assert mutants.choose(known, ["no-limit"]) == known[2:3]
    with pytest.raises(UsageError) as caught:
        mutants.choose(known, ["no-limits"])
    assert (
        str(caught.value)
        == 'error: there is no mutant "no-limits"\n  hint: did you mean "no-limit"?'
    )


@pytest.mark.parametrize(
    ("killed_by", "problem", "survives", "good", "said"),
    [
        ("a::b", "", "", True, "killed by a::b (1.5 s)"),
        (None, "", "", False, "SURVIVED (1.5 s)"),
        (None, "", "why", True, "survived: why (1.5 s)"),
        ("a::b", "", "why", False, "killed by a::b, BUT THE TABLE SAYS THAT IT SURVIVES (1.5 s)"),
        (None, "no Python", "", False, "PROVES NOTHING: no Python (1.5 s)"),
        (None, "no Python", "why", False, "PROVES NOTHING: no Python (1.5 s)"),
    ],
)
def test_only_what_the_table_says_is_good(
    killed_by: str | None, problem: str, survives: str, good: bool, said: str
) -> None:
    mutant = Mutant(
        name="x",
        file="f",
        old="a",
        new="b",
        tests=("t",),
        survives=survives,
        where=Where(Path("it.yaml"), 1),
    )
    outcome = Outcome(mutant=mutant, killed_by=killed_by, problem=problem, duration_s=1.5)
    assert (outcome.good, str(outcome)) == (good, f"x: {said}")
