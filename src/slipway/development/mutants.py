"""Mutants: faults planted in a copy of the checkout, to see the tests notice them.

What goes in: ``tests/mutants/*.yaml``, each a list of mutants. A mutant has a ``file``, a text
(``old``) found once in it, and the replacement (``new``). Its ``tests`` must fail with the fault.
What comes out: an :class:`Outcome` for each mutant.

Invariants: the checkout is only read; a copy holds one fault at a time; no copy and no process is
left after any end. Tests that fail without a fault prove nothing: all run unplanted first.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from slipway.errors import BuildError, SpecError, SpecErrors, UsageError, Where, suggestion
from slipway.host import process

__all__ = ["Mutant", "Outcome", "choose", "prove", "read", "require_killed"]

TABLES: Final = "tests/mutants"
_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_KEYS: Final = {"name", "file", "old", "new", "tests"}
#: The time limit of a mutant's tests, in seconds, beside twice the time of all without a fault.
_PATIENCE_S: Final = 60
#: Up to so many tests run faster in one process than in several.
_FEW: Final = 5
_FAILED: Final = re.compile(r"^(?:FAILED|ERROR) (\S+?::.+?)(?: - .*)?$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One fault, and its place in a table.

    ``survives`` is the reason why no test has to notice it, or empty.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    survives: str
    where: Where


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of a mutant.

    ``killed_by`` is the failed test, or None. ``problem`` is the reason why it proves nothing.
    """

    mutant: Mutant
    killed_by: str | None = None
    problem: str = ""
    duration_s: float = 0.0

    @property
    def good(self) -> bool:
        """True if the outcome is as the table says."""
        return not self.problem and (self.killed_by is None) == bool(self.mutant.survives)

    def __str__(self) -> str:
        if self.problem:
            said = f"PROVES NOTHING: {self.problem}"
        elif self.killed_by is None:
            said = f"survived: {self.mutant.survives}" if self.mutant.survives else "SURVIVED"
        else:
            said = f"killed by {self.killed_by}"
            said += ", BUT THE TABLE SAYS THAT IT SURVIVES" if self.mutant.survives else ""
        return f"{self.mutant.name}: {said} ({self.duration_s:.1f} s)"


def read(root: Path) -> tuple[Mutant, ...]:
    """Read the tables of a checkout, in the order of their names.

    Raises:
        SpecErrors: An entry is incomplete, does not fit its file, or names a missing test.
    """
    found: list[Mutant] = []
    errors: list[SpecError] = []
    for path in sorted((root / TABLES).glob("*.yaml")):
        shown = path.relative_to(root)
        try:
            items = _items(path)
        except yaml.YAMLError as error:
            said = " ".join(str(error).split())
            errors.append(SpecError(f"not YAML: {said}", where=Where(shown)))
            continue
        for line, item in items:
            where = Where(shown, line)
            problem = _shape(item)
            if problem:
                errors.append(SpecError(problem, where=where))
                continue
            mutant = Mutant(**{"survives": "", **item, "tests": tuple(item["tests"])}, where=where)
            if any(mutant.name == other.name for other in found):
                errors.append(SpecError(f'"{mutant.name}" is in the tables twice', where=where))
            for said in _misfits(root, mutant):
                errors.append(SpecError(f"{mutant.name}: {said}", where=where))
            found.append(mutant)
    if errors:
        raise SpecErrors(errors)
    return tuple(found)


def _items(path: Path) -> list[tuple[int, Any]]:
    """Read the items of a file's list with their lines; anything but a list is one item."""
    text = path.read_text(encoding="utf-8")
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        data: Any = loader.construct_document(node) if node else None
    finally:
        loader.dispose()
    if not isinstance(node, yaml.SequenceNode):
        return [(1, data)]
    return [(place.start_mark.line + 1, item) for place, item in zip(node.value, data, strict=True)]


def _shape(item: Any) -> str | None:
    """Return the error in an entry's keys or their types; None if there is none."""
    if not isinstance(item, dict) or not _KEYS <= item.keys() <= _KEYS | {"survives"}:
        return f"a mutant has the keys {', '.join(sorted(_KEYS))}, and may have survives"
    texts = [item[key] for key in ("name", "file", "old", "new")] + [item.get("survives", "why")]
    if not all(isinstance(text, str) for text in texts):
        return "name, file, old, new and survives are texts"
    if not re.fullmatch(r"[a-z0-9-]+", item["name"]):
        return "name: use lower-case letters, digits and hyphens"
    if not item.get("survives", "why"):
        return "survives: expected a reason"
    tests = item["tests"]
    if not isinstance(tests, list) or not tests or not all(isinstance(test, str) for test in tests):
        return "tests: expected a list of pytest's paths or node ids"
    return None


def _misfits(root: Path, mutant: Mutant) -> Iterator[str]:
    """Yield the reasons why a mutant cannot be planted or tested."""
    file = root / mutant.file
    count = file.read_bytes().count(mutant.old.encode()) if mutant.old and file.is_file() else 0
    if count != 1:
        yield f"does not fit: old has to occur once in {mutant.file}, and occurs {count} times"
    if mutant.old == mutant.new:
        yield "old and new are the same"
    for test in mutant.tests:
        path, *names = test.partition("[")[0].split("::")
        if not (root / path).exists():
            yield f"there is no {path}"
        elif names and names[-1] not in (known := _functions(root / path)):
            near = suggestion(names[-1], known)
            yield f"there is no test {names[-1]} in {path}" + (f": {near}" if near else "")


@cache
def _functions(path: Path) -> frozenset[str]:
    """Return the names of the functions and classes in a file of tests."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = ast.FunctionDef | ast.ClassDef
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def choose(mutants: Sequence[Mutant], names: Sequence[str]) -> tuple[Mutant, ...]:
    """Choose mutants by name, or by the name of their table; all of them without names.

    Raises:
        UsageError: A name is neither a mutant's nor a table's.
    """
    known = {mutant.name for mutant in mutants} | {mutant.where.path.stem for mutant in mutants}
    for name in names:
        if name not in known:
            hint = suggestion(name, known) or f"see {TABLES}/"
            raise UsageError(f'there is no mutant "{name}"', hint=hint)
    wanted = set(names) or known
    return tuple(each for each in mutants if {each.name, each.where.path.stem} & wanted)


def prove(root: Path, mutants: Sequence[Mutant], *, jobs: int = 2) -> Generator[Outcome]:
    """Run the tests of every mutant, each in a copy of the checkout with its fault planted.

    Args:
        root: The checkout; files ignored by git are not copied.
        jobs: The number of runs at the same time, each in a copy of its own.

    Raises:
        BuildError: Tests fail without a fault, or the checkout is no git repository.
    """
    if not mutants:  # no tests to name would be all tests to pytest
        return
    # A short path: tests put sockets below it, whose paths have 107 bytes (unix(7)).
    with tempfile.TemporaryDirectory(prefix="slipway-", ignore_cleanup_errors=True) as scratch:
        copies = [Path(scratch, str(number)) for number in range(max(1, min(jobs, len(mutants))))]
        _copy(root, copies[0])
        started = time.monotonic()
        tests = {test for mutant in mutants for test in mutant.tests}
        _require_passing(copies[0], sorted(tests), jobs)
        limit_s = _PATIENCE_S + 2 * (time.monotonic() - started)
        for copy in copies[1:]:
            # With the bytecode of the first one, which stays valid: it goes by the files' times.
            shutil.copytree(copies[0], copy, symlinks=True)
        yield from _run(mutants, copies, limit_s)


def _copy(root: Path, copy: Path) -> None:
    """Copy the files known to git, or not ignored by it, into a repository (some tests ask git)."""
    options = ["--cached", "--others", "--exclude-standard", "-z"]
    listed = process.run(["git", "-C", root, "ls-files", *options], what="listing the files")
    for name in sorted(set(os.fsdecode(listed.stdout).split("\0")) - {""}):
        source, target = root / name, copy / name
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    process.run(["git", "-C", copy, "init", "-q"])
    process.run(["git", "-C", copy, "add", "--all"])


def _pytest(copy: Path, tests: Sequence[str], *words: str) -> tuple[list[str], dict[str, str]]:
    """Return the command to run tests in a copy, and its environment."""
    argv = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"]
    temporary = _temporary(copy)
    temporary.mkdir(exist_ok=True)
    # Programs started by these tests import the copy too, and not the installed checkout.
    path = f"{copy / 'src'}:{copy / 'tests/support'}"
    argv += [f"--rootdir={copy}", f"--basetemp={temporary / 'p'}", *words, *tests]
    return argv, {"CI": "true", "PYTHONPATH": path, "TMPDIR": str(temporary)}


def _temporary(copy: Path) -> Path:
    """Return the folder for the temporary files of a copy's tests."""
    return copy.with_name(f"t{copy.name}")


def _end_left(temporary: Path) -> None:
    """End the processes left by tests of a copy: the fault may be in the code that ends processes.

    They are known by their environment (proc_pid_environ(5)), handed on by
    :mod:`slipway.host.process`.
    """
    mark = f"TMPDIR={temporary}".encode()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in environment.read_bytes().split(b"\0"):
                os.kill(int(environment.parent.name), signal.SIGKILL)


def _require_passing(copy: Path, tests: Sequence[str], jobs: int) -> None:
    log = copy.with_name("unplanted.log")
    argv, env = _pytest(copy, tests, *([f"-n{jobs}"] if len(tests) > _FEW else []))
    ended = process.run(argv, cwd=copy, env=env, log=log, check=False)
    if ended.returncode:
        text = log.read_text(errors="replace")
        failed = sorted(set(_FAILED.findall(text)))
        said = "\n".join(f"  {name}" for name in failed) or process.tail(log)
        message = f"the tests of the mutants have to pass without a fault:\n{said}"
        raise BuildError(message, hint="repair them first: ./run test")


class _Run:
    """The tests of one mutant, running in a copy with its fault."""

    def __init__(self, mutant: Mutant, copy: Path, number: int) -> None:
        self.mutant = mutant
        self.copy = copy
        self.file = copy / mutant.file
        self.output = copy.with_name(f"{copy.name}.log")
        self.stack = ExitStack()
        self.started = time.monotonic()
        content, status = self.file.read_bytes(), self.file.stat()
        self.stack.callback(os.utime, self.file, ns=(status.st_atime_ns, status.st_mtime_ns))
        self.stack.callback(self.file.write_bytes, content)
        self.stack.callback(_end_left, _temporary(copy))
        with self.stack:
            self.file.write_bytes(content.replace(mutant.old.encode(), mutant.new.encode()))
            # A time of its own: bytecode is valid if size and second of its source agree.
            os.utime(self.file, (0, 1_000_000_000 + number))
            argv, env = _pytest(copy, mutant.tests, "-x", "-p", "no:xdist")
            env["PYTHONDONTWRITEBYTECODE"] = "1"
            log = self.stack.enter_context(self.output.open("wb"))
            child = process.spawn(argv, cwd=copy, env=env, stdout=log, stderr=subprocess.STDOUT)
            self.child = self.stack.enter_context(child)
            self.descriptor = os.pidfd_open(self.child.pid)
            self.stack.callback(os.close, self.descriptor)
            self.stack = self.stack.pop_all()

    def outcome(self, limit_s: float) -> Outcome:
        """Return the outcome, after ending the run if it is out of time."""
        status, duration_s = self.child.poll(), time.monotonic() - self.started
        self.stack.close()
        killed_by, problem = self._verdict(status, limit_s)
        return Outcome(
            mutant=self.mutant,
            killed_by=killed_by,
            problem=problem,
            duration_s=duration_s,
        )

    def _verdict(self, status: int | None, limit_s: float) -> tuple[str | None, str]:
        """Return the failed test, if any, and the reason why it proves nothing, if so."""
        if status is None:
            return f"the time limit (no end after {limit_s:.0f} s)", ""
        if status == 0:
            return None, ""
        text = self.output.read_text(errors="replace")
        failed = _FAILED.search(text)
        if status == 1 and failed:
            return failed[1], ""
        errors = [line for line in text.splitlines() if line.startswith("E ")]
        last = errors[-1] if errors else f"pytest ended with status {status}"
        return None, " ".join(last.removeprefix("E ").split())


def _run(mutants: Sequence[Mutant], copies: Sequence[Path], limit_s: float) -> Iterator[Outcome]:
    """Run each mutant's tests as copies become free; yield outcomes in the order of their ends."""
    waiting, free = deque(enumerate(mutants)), list(copies)
    with ExitStack() as everything, selectors.DefaultSelector() as selector:
        running: list[_Run] = []
        while waiting or running:
            while waiting and free:
                number, mutant = waiting.popleft()
                one = _Run(mutant, free.pop(), number)
                everything.push(one.stack)
                selector.register(one.descriptor, selectors.EVENT_READ)
                running.append(one)
            deadline = min(one.started for one in running) + limit_s
            selector.select(max(0.0, deadline - time.monotonic()))
            now = time.monotonic()
            for one in list(running):
                if one.child.poll() is None and now < one.started + limit_s:
                    continue
                selector.unregister(one.descriptor)
                running.remove(one)
                free.append(one.copy)
                yield one.outcome(limit_s)


def require_killed(outcomes: Sequence[Outcome]) -> None:
    """Raise unless every mutant was killed, except the survivors listed in the table.

    Raises:
        BuildError: A mutant was not killed, a listed survivor was, or one proves nothing.
    """
    bad = [outcome.mutant.name for outcome in outcomes if not outcome.good]
    if bad:
        names = ", ".join(bad)
        raise BuildError(
            f"{len(bad)} of {len(outcomes)} mutants did not end as {TABLES}/ says: {names}",
            hint="write the test that notices it, or give the entry survives: REASON",
        )
