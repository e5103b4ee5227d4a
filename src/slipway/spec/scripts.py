"""Scripts of appliances, before any build: their shell syntax, and the program in their first line.

What goes in: loaded appliances. What comes out: every error with its file and line. Invariants: no
script is run; templates are skipped, because they are not scripts yet.
"""

from __future__ import annotations

import ast
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slipway.errors import SpecError, SpecErrors, Where
from slipway.host import process
from slipway.spec.folder import FIRST_LINE_BYTES, open_content, read_content
from slipway.spec.library import Appliance, Library

__all__ = ["interpreter", "load_checked", "script_errors"]

#: The interpreter of each kind of script, for messages.
_RUN_BY: Final = {"setup": "sh -eu", "firstboot": "sh -eu", "check": "sh -x"}
_FIRST_LINE: Final = re.compile(rb"#![ \t]*([^\s\0]+)(?:[ \t]+([^\r\n\0]*))?")
_SHELLS: Final = ("sh", "dash", "bash")
#: For each file its name (a number), then the shell's messages about it.
_LOOK: Final = 'for file; do echo "@ $file"; "$0" -n "$file" 2>&1; done; true'
_SAID: Final = re.compile(r"(?:line )?([0-9]+): (.*)")


@dataclass(frozen=True, slots=True)
class _Script:
    """A script: its path, its use ("setup", "firstboot", "check" or "file"), and its interpreter.

    ``depth`` is the argument of :func:`~slipway.spec.folder.read_content`.
    """

    path: Path
    kind: str
    runs: str
    depth: int


def load_checked(library: Library, names: Iterable[str]) -> tuple[Appliance, ...]:
    """Load appliances and check their scripts.

    Raises:
        UsageError: There is no appliance of a name.
        SpecErrors: Some appliances are wrong; all errors of all of them at once.
    """
    appliances: list[Appliance] = []
    errors: list[SpecError] = []
    for name in names:
        try:
            appliances.append(library.load(name))
        except SpecErrors as error:
            errors += error.errors
    errors += script_errors(appliances)
    if errors:
        raise SpecErrors({str(error): error for error in errors}.values())
    return tuple(appliances)


def script_errors(appliances: Iterable[Appliance]) -> list[SpecError]:
    """Return the errors in the scripts of appliances."""
    errors: list[SpecError] = []
    scripts = list(
        dict.fromkeys(script for each in appliances for script in _scripts(each, errors))
    )
    errors += [
        error for script in scripts if script.runs == "python3" for error in _python_errors(script)
    ]
    for shell in _SHELLS:
        errors += _shell_errors(shell, [script for script in scripts if script.runs == shell])
    return errors


def interpreter(content: bytes) -> tuple[str, str] | None:
    """Return the program's path and argument in a first line (execve(2)), or None without one."""
    match = _FIRST_LINE.match(content)
    return (
        (match[1].decode(errors="replace"), (match[2] or b"").decode(errors="replace").strip())
        if match
        else None
    )


def _scripts(appliance: Appliance, errors: list[SpecError]) -> Iterator[_Script]:
    """Yield the scripts of an appliance; report first lines with the wrong program."""
    plain = [
        *(("setup", path, 2) for path in appliance.setup),
        *(("firstboot", path, 2) for path in appliance.firstboot),
    ]
    for kind, path, depth in (
        *plain,
        *(("check", check.path, check.depth) for check in appliance.checks),
    ):
        runs = "python3" if path.suffix == ".py" else "sh"
        named = interpreter(read_content(path, depth=depth))
        if named and not _is(runs, *named):
            by = runs if runs == "python3" else _RUN_BY[kind]
            message = f"the first line names {named[0]}, and this is run by {by}"
            hint = f"write it for {runs}; or put the program into files/ and start it from here"
            errors.append(SpecError(message, where=Where(_shown(path), 1, 1), hint=hint))
            continue
        yield _Script(path, kind, runs, depth)
    for file in appliance.files:
        if file.template or file.link is not None or file.mode != 0o755:
            continue
        with open_content(file.path, depth=file.depth) as content:  # it may be large
            named = interpreter(content.read(FIRST_LINE_BYTES))
        if named and not named[0].startswith("/"):
            message = f"the first line names {named[0]}, which is not an absolute path"
            errors.append(
                SpecError(
                    message,
                    where=Where(_shown(file.path), 1, 1),
                    hint=f"such as #!/usr/bin/{named[0]}",
                )
            )
        elif named:
            runs = next((shell for shell in _SHELLS if _is(shell, *named, exact=True)), "")
            yield _Script(file.path, "file", runs, file.depth)


def _is(program: str, path: str, argument: str, *, exact: bool = False) -> bool:
    """Return True if a first line names a program, directly or by env(1)."""
    words = [word for word in argument.split() if not word.startswith("-")]
    name = Path(words[0] if Path(path).name == "env" and words else path).name
    if exact:
        return name == program
    return name.startswith("python3") if program == "python3" else name in ("sh", "dash")


def _python_errors(script: _Script) -> Iterator[SpecError]:
    """Yield the first syntax error of a Python program, as this host's Python sees it."""
    try:
        ast.parse(read_content(script.path, depth=script.depth))
    except SyntaxError as error:
        yield SpecError(
            f"no Python: {error.msg}",
            where=Where(_shown(script.path), error.lineno or 1, error.offset or 1),
        )
    except ValueError as error:
        yield SpecError(f"no Python: {error}", where=Where(_shown(script.path)))


def _shell_errors(shell: str, scripts: list[_Script]) -> Iterator[SpecError]:
    """Yield a shell's syntax errors in scripts, without running any (sh(1), ``-n``).

    The shell gets copies: otherwise it would follow a script replaced by a link, and show its
    target.
    """
    # The system's own shell, whatever the caller's PATH: builds start this sh, too.
    program = shutil.which(shell, path=process.SYSTEM_PATH) if scripts else None
    if program is None:
        return
    with tempfile.TemporaryDirectory(prefix="slipway-") as name:
        folder = Path(name)
        for number, script in enumerate(scripts):
            (folder / str(number)).write_bytes(read_content(script.path, depth=script.depth))
        words = ["sh", "-c", _LOOK, program, *map(str, range(len(scripts)))]
        told = process.run(words, what="reading the scripts", cwd=folder, timeout_s=60).stdout
    seen: set[int] = set()
    number = 0
    for line in told.decode(errors="replace").splitlines():
        mark = re.fullmatch(r"@ ([0-9]+)", line)
        if mark:
            number = int(mark[1])
        elif number not in seen:
            seen.add(number)  # what follows an error is a consequence of it
            path = scripts[number].path
            said = _SAID.fullmatch(line.removeprefix(f"{number}: "))
            where = Where(_shown(path), int(said[1]) if said else 0)
            yield SpecError(
                f"{shell} cannot read this: {said[2] if said else line}",
                where=where,
                hint=f"see: {shell} -n {where.path}",
            )


def _shown(path: Path) -> Path:
    """Return a path as shown in errors."""
    current = Path.cwd()
    return path.relative_to(current) if path.is_relative_to(current) else path
