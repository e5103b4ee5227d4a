"""The pages that people read -> their blocks; and a reader, who types what a page says.

What goes in: Markdown. What comes out: a :class:`Block` for each fenced or indented block, with
what stands above it (``<!-- example: why -->`` or ``<!-- minutes: what it does -->``). A
``console`` block has commands behind ``$``; other lines are what they print, where ``...`` stands
for anything.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Block", "Reader", "blocks", "is_console", "pages"]

ROOT = Path(__file__).parents[2]
#: Fences that nobody types.
_PLAIN = ("text", "mermaid", "yaml", "toml", "hcl", "sh", "json")
_MARK = re.compile(r"<!-- (example|minutes): (\S.*\S) -->")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\r")
#: What a person answers, by the end of what stands on the terminal.
_ANSWERS = {
    "[y/N] ": "y",
    "keys: ": "words of a reader",
    "again: ": "words of a reader",
    ".pem: ": "words of a reader",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block of a page; ``mark`` and ``reason`` are what the comment above it says."""

    page: str
    line: int
    language: str | None
    text: str
    mark: str = ""
    reason: str = ""

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """The commands, each with the lines that it prints."""
        found: list[tuple[str, list[str]]] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif found and found[-1][0].endswith("\\"):
                found[-1] = (f"{found[-1][0][:-1]}{line.lstrip('> ')}", [])
            elif line.strip():
                found[-1][1].append(line)
        return found


def pages() -> list[Path]:
    """List the pages that say what to type."""
    own = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
    return [
        *own,
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "appliances").glob("*/README.md")),
    ]


def is_console(block: Block) -> bool:
    """Return True for a block that a reader would type."""
    return block.language not in _PLAIN


def blocks(path: Path) -> list[Block]:
    """Read the blocks of a page."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found, number, mark = [], 0, ("", "")
    while number < len(lines):
        line = lines[number]
        fence = re.fullmatch(r" *```(\w*)", line)
        begins = fence or (
            line.startswith("    ") and (number == 0 or not lines[number - 1].strip())
        )
        if not begins:
            seen = _MARK.fullmatch(line.strip())
            mark = (seen[1], seen[2]) if seen else mark if not line.strip() else ("", "")
            number += 1
            continue
        start = number + 1 if fence else number
        end = _end(lines, start, bool(fence))
        text = "\n".join(
            line.strip() if fence and fence[0].startswith(" ") else line[0 if fence else 4 :]
            for line in lines[start:end]
        )
        language = fence[1] if fence else None
        page = path.relative_to(ROOT).as_posix()
        found.append(
            Block(
                page=page,
                line=number + 1,
                language=language,
                text=text,
                mark=mark[0],
                reason=mark[1],
            )
        )
        mark, number = ("", ""), end + bool(fence)
    return found


def _end(lines: list[str], start: int, fenced: bool) -> int:
    """Return the number of the line after a block's last one."""
    for number in range(start, len(lines)):
        if (
            lines[number].strip() == "```"
            if fenced
            else lines[number].strip() and not lines[number].startswith("    ")
        ):
            return number
    return len(lines)


@dataclass
class Reader:
    """A person at a terminal in a checkout, with a home of their own, who answers yes to every
    question.
    """

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the checkout and the home."""
        home = self.folder / "home"
        (home / ".ssh").mkdir(parents=True)
        run = self.project / "run"
        self.project.mkdir()
        run.write_text(
            f"#!/bin/sh\nSLIPWAY_RUN=./run exec {sys.executable} -P -m slipway --search-root "
            f'{self.project} "$@"\n'
        )
        run.chmod(0o755)
        (self.project / "templates").symlink_to(ROOT / "templates")
        (self.project / "appliances").mkdir()
        for each in (ROOT / "appliances").iterdir():
            (self.project / "appliances" / each.name).symlink_to(each)
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        self.variables = {
            **kept,
            "HOME": str(home),
            "PYTHONPATH": str(ROOT / "src"),
            "TERM": "dumb",
            "COLUMNS": "200",
            **self.variables,
        }

    @property
    def project(self) -> Path:
        """The checkout."""
        return self.folder / "slipway"

    def types(self, command: str, timeout_s: float = 120) -> tuple[int, str]:
        """Run a command on a terminal, and answer what it asks.

        Return its status and what stood there.
        """
        argv = ["script", "--quiet", "--return", "--flush", "--command", command, "/dev/null"]
        with subprocess.Popen(
            argv,
            cwd=self.project,
            env=self.variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        ) as child:
            limit = threading.Timer(timeout_s, child.kill)
            limit.start()
            assert child.stdin and child.stdout
            said, answered = "", 0
            while data := os.read(child.stdout.fileno(), 4096):
                said += _CONTROL.sub("", data.decode(errors="replace"))
                answer = next(
                    (text for end, text in _ANSWERS.items() if said[answered:].endswith(end)), None
                )
                if answer:
                    answered = len(said)
                    os.write(child.stdin.fileno(), f"{answer}\n".encode())
            limit.cancel()
        return child.returncode, said

    def follows(self, block: Block) -> None:
        """Type a block, and see that every command succeeds and prints the lines that the page
        shows.
        """
        for command, lines in block.commands:
            status, said = self.types(command)
            place = f"{block.page}:{block.line}: {command}\n{said}"
            assert status == 0, place
            for line in lines:
                pattern = "".join(
                    " +" if part.isspace() else ".*" if part == "..." else re.escape(part)
                    for part in _parts(line)
                )
                assert re.search(f"^{pattern}$", said, re.MULTILINE), f"{place}\nlacks: {line}"


def _parts(line: str) -> list[str]:
    return [part for part in re.split(r"( +|\.\.\.)", line.rstrip()) if part]
