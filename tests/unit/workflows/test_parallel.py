"""Commands side by side: each ends for itself, never more at once than allowed, and nothing
outlives the block.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import closing
from pathlib import Path

import pytest

from slipway.terminal.progress import Progress
from slipway.workflows.parallel import Command, Ended, run_all


def commands(script: str, names: str, memory_mib: int = 1) -> list[Command]:
    """One command for each letter, with the letter as its first argument."""
    return [
        Command(name=name, argv=["sh", "-c", script, "sh", name], memory_mib=memory_mib)
        for name in names
    ]


def run(what: list[Command], *, jobs: int = 2, memory_mib: int = 100) -> tuple[list[Ended], str]:
    """How they ended, and what was shown."""
    shown = io.StringIO()
    with closing(
        run_all(what, jobs=jobs, memory_mib=memory_mib, progress=Progress(shown))
    ) as results:
        return list(results), shown.getvalue()


def test_one_that_fails_does_not_stop_the_others() -> None:
    ended, shown = run(
        commands('echo "about $1" >&2; printf "out of %s\\n" "$1"; [ "$1" != b ]', "abc")
    )
    assert {one.name: one.status for one in ended} == {"a": 0, "b": 1, "c": 0}
    assert {one.output for one in ended} == {"out of a\n", "out of b\n", "out of c\n"}
    lines = [line.split() for line in shown.splitlines()]
    assert all([name, "about", name] in lines for name in "abc")
    assert any(line[:4] == ["b", "exit", "code", "1"] for line in lines)


def test_a_line_without_an_end_and_one_in_pieces_are_shown_whole() -> None:
    _, shown = run(commands("printf one >&2; printf ' line\\n' >&2", "a"))
    assert ["a", "one", "line"] in [line.split() for line in shown.splitlines()]


@pytest.mark.parametrize(
    ("jobs", "memory_mib", "most"), [(1, 100, 1), (3, 100, 3), (3, 25, 2), (3, 5, 1)]
)
def test_no_more_run_at_once_than_jobs_and_memory_allow(
    tmp_path: Path, jobs: int, memory_mib: int, most: int
) -> None:
    # Each says that it is here, and waits until as many are as may be, or until it has waited for
    # long enough.
    script = f"""
        cd {tmp_path}; : >"$1"; n=0
        while [ $(ls | wc -l) -lt {most} ] && [ $n -lt 100 ]; do n=$((n + 1)); sleep 0.01; done
        ls | wc -l; sleep 0.2; ls | wc -l; rm "$1"
    """
    ended, _ = run(commands(script, "abc", memory_mib=10), jobs=jobs, memory_mib=memory_mib)
    seen = [int(line) for one in ended for line in one.output.split()]
    assert len(seen) == 6 and max(seen) == most


def own_children() -> set[str]:
    """The processes that this one has started (other tests may have left one that ends with it)."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_leaving_the_block_ends_what_still_runs() -> None:
    script = 'echo $$; [ "$1" = a ] || exec sleep 1000'
    before = own_children()
    with closing(
        run_all(commands(script, "ab"), jobs=2, memory_mib=100, progress=Progress(quiet=True))
    ) as results:
        assert next(results).name == "a"
        assert own_children() > before
    assert own_children() <= before


def test_the_environment_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_SOMETHING", "here")
    (ended,), _ = run(
        [
            Command(
                name="a",
                argv=[sys.executable, "-c", "import os; print(os.environ['SLIPWAY_SOMETHING'])"],
                memory_mib=1,
            )
        ]
    )
    assert ended.output == "here\n"


def test_what_belongs_to_the_job_stays_with_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each would begin a group in the lines of the others, and write into the summary."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "/summary")
    (ended,), _ = run(commands("env | grep -c ^GITHUB_", "a"))
    assert ended.output == "0\n"
