"""Reads programs.txt: the programs that Slipway starts, their packages, and the needs of tasks.

What goes in: programs.txt, and /etc/os-release for the names of packages on this system. What comes
out: records. `run` reads the same file, so a program is declared once.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["Needs", "Program", "needs_of", "package_of", "parse", "programs", "with_needs"]

TABLE = Path(__file__).with_name("programs.txt")


@dataclass(frozen=True, slots=True)
class Needs:
    """The needs of a task: a set of requirements/ and kinds of programs."""

    requirements: str
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """A program: its kinds, its packages by system ("" is any other), the programs it starts."""

    name: str
    kinds: tuple[str, ...]
    packages: tuple[tuple[str, str], ...]
    needs: tuple[str, ...] = ()

    def package(self, system: Mapping[str, str]) -> str | None:
        """Return the packages to install on a system, as words; None if the system has none.

        Args:
            system: The fields of /etc/os-release.
        """
        names = ("", system.get("ID"), system.get("VERSION_CODENAME"))
        found = next((package for when, package in self.packages if when in names), "-")
        return None if found == "-" else found.replace("+", " ")


def parse(text: str) -> tuple[dict[str, Needs], dict[str, Program]]:
    """Read a table: the needs of tasks, and the programs, by name.

    Raises:
        ValueError: A line is malformed, or declares something again.
    """
    tasks: dict[str, Needs] = {}
    found: dict[str, Program] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or line.startswith("#"):
            continue
        try:
            what, name, *rest = words
            if name in (tasks if what == "task" else found):
                raise ValueError(f"{name} is repeated")
            if what == "task":
                requirements, kinds = rest
                tasks[name] = Needs(requirements, _kinds(kinds))
            elif what in ("program", "file") and len(rest) > 1:
                packages = [word for word in rest[1:] if not word.startswith("needs:")]
                needs = tuple(
                    word.removeprefix("needs:") for word in rest[1:] if word.startswith("needs:")
                )
                found[name] = Program(name, _kinds(rest[0]), tuple(map(_package, packages)), needs)
            else:
                raise ValueError("neither a task, nor a program with its kinds and packages")
        except ValueError as error:
            raise ValueError(f"programs.txt:{number}: {error}") from None
    return tasks, found


def _kinds(text: str) -> tuple[str, ...]:
    return () if text == "-" else tuple(text.split(","))


def _package(word: str) -> tuple[str, str]:
    when, _, package = word.rpartition("=")
    return when, package


@cache
def _table() -> tuple[dict[str, Needs], dict[str, Program]]:
    return parse(TABLE.read_text(encoding="utf-8"))


@cache
def _system() -> Mapping[str, str]:
    with contextlib.suppress(OSError):
        return platform.freedesktop_os_release()
    return {}


def programs(*kinds: str) -> Iterator[Program]:
    """Yield the programs of some kinds with a package on this system."""
    for program in _table()[1].values():
        if (
            not program.name.startswith("/")
            and {*kinds} & {*program.kinds}
            and program.package(_system())
        ):
            yield program


def needs_of(task: str) -> Needs:
    """Return the needs of a task."""
    return _table()[0].get(task, Needs("tasks", ()))


def package_of(name: str) -> str | None:
    """Return the packages of a program on this system, as words; None if there is none."""
    program = _table()[1].get(name)
    return program.package(_system()) if program else None


def with_needs(*names: str) -> tuple[str, ...]:
    """Return programs and the programs they start in turn.

    Raises:
        KeyError: The table lacks a program.
    """
    found: dict[str, None] = {}
    todo = list(names)
    while todo:
        name = todo.pop(0)
        if name not in found:
            found[name] = None
            todo += _table()[1][name].needs
    return tuple(found)
