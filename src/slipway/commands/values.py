"""Values of parameters, as ``start`` takes them -> text by name.

What goes in: the words of ``--set`` and ``--set-file``. What comes out: a value for each name.
Invariant: only the named files are read, so errors here are found before any others.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

__all__ = ["given_values"]

#: The size limit for a file with a value, in bytes; the longest value is shorter.
_MAX_BYTES = 1 << 20


def given_values(plain: Iterable[str], files: Iterable[str]) -> dict[str, str]:
    """Return the values of parameters.

    Args:
        plain: Each as name=value.
        files: Each as name=PATH; one line feed at the end of a file does not count.

    Raises:
        UsageError: A word has another form, a name is given twice, or a file is not text.
        OSError: A file cannot be read.
    """
    values: dict[str, str] = {}
    for word in plain:
        _add(values, "--set", "value", word)
    for word in files:
        name, path = _add(values, "--set-file", "PATH", word)
        values[name] = _text(path)
    return values


def _add(values: dict[str, str], option: str, what: str, word: str) -> tuple[str, str]:
    from slipway.errors import UsageError

    name, equals, value = word.partition("=")
    if not equals or not name.strip() or (what == "PATH" and not value):
        raise UsageError(
            f'{option} needs name={what}, not "{word}"'
            if option == "--set-file"
            else f"{option} needs name={what}"
        )
    if name in values:
        raise UsageError(
            f'the parameter "{name}" is given twice', hint="give it once, with --set or --set-file"
        )
    values[name] = value
    return name, value


def _text(path: str) -> str:
    """Return the text of a file."""
    from slipway.errors import UsageError

    file = Path(path).expanduser()
    if file.is_dir():
        raise UsageError(
            f"{path} is a folder", hint="--set-file needs name=PATH, with the path of a file"
        )
    if not file.exists():
        raise UsageError(f"there is no file {path}", hint="--set-file needs name=PATH")
    with file.open("rb") as stream:
        content = stream.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise UsageError(
            f"{path} has more than {_MAX_BYTES} bytes", hint="a value is a line of text"
        )
    try:
        return content.decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{path}:{line}: this is not UTF-8", hint="save it as UTF-8; a value is text"
        ) from None
