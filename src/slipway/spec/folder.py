"""The folders beside a spec: files, setup and firstboot scripts, faults.

What goes in: a folder on disk. What comes out: its contents, sorted, and errors for misplaced
entries. Invariants: no symbolic link is followed, so nothing outside the folder is read; every name
is UTF-8 without control characters or backslashes; a relative link's target stays below the image's
root.
"""

from __future__ import annotations

import codecs
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from slipway.errors import SpecError, Where, suggestion
from slipway.host.rooted import opened
from slipway.spec.patterns import DEVICES

__all__ = [
    "FIRST_LINE_BYTES",
    "SourceFile",
    "check_entries",
    "check_faults",
    "folder_entries",
    "open_content",
    "plain_files",
    "read_content",
    "read_files",
    "read_scripts",
    "require_unix_lines",
]

_SCRIPT: Final = re.compile(r"[0-9]{2}-[a-z0-9][a-z0-9._-]*\.sh")
_BAD_NAME: Final = re.compile(r"[\x00-\x1f\x7f\\\udc80-\udcff]")
#: How much of its first line the kernel reads (BINPRM_BUF_SIZE).
FIRST_LINE_BYTES: Final = 256
#: A first line naming a shell, and the bytes read of such a script.
_SHELL: Final = re.compile(rb"#!.*\b(?:ba|da|k|z)?sh\b")
_MAX_SHELL_BYTES: Final = 1 << 20
#: The first line of a patch's first change.
_HUNK: Final = re.compile(rb"^@@ .*\n", re.MULTILINE)
#: Templates, scripts and checks are read into memory; larger ones are refused.
MAX_FILE_BYTES: Final = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file of the image.

    ``path`` is the file on disk, ``target`` its absolute path in the image. ``mode`` is 0o755 or
    0o644, as git would keep it. ``template`` is True if the file is rendered first. ``link`` is the
    target of a symbolic link, or None.
    """

    path: Path
    target: str
    mode: int = 0o644
    template: bool = False
    link: str | None = None

    @property
    def depth(self) -> int:
        """The number of the path's last parts written by its author: the folder's name and the
        target's.
        """
        return 1 + self.target.count("/")


def read_content(path: Path, shown: Path | None = None, *, depth: int = 2) -> bytes:
    """Read a file found in a folder, if it is still a plain file.

    Args:
        depth: The number of the path's last parts written by the folder's author: none of them may
            be a link.

    Raises:
        SpecError: The file is now a link, a pipe or a device, is too large, or cannot be read.
    """
    with open_content(path, shown, depth=depth) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_FILE_BYTES:
            message = f"the file has {size} bytes; at most {MAX_FILE_BYTES} are read"
            raise SpecError(
                message,
                where=Where(shown or path),
                hint="make it smaller: a large file goes into files/ as it is",
            )
        return file.read(MAX_FILE_BYTES)


@contextmanager
def open_content(path: Path, shown: Path | None = None, *, depth: int = 2) -> Iterator[IO[bytes]]:
    """Open a file found in a folder, if it is still a plain file; see :func:`read_content`.

    Raises:
        SpecError: The file is now a link, a pipe or a device, or cannot be read.
    """
    with ExitStack() as stack:
        try:
            descriptor = stack.enter_context(opened(path, depth))
        except OSError as error:
            message = f"cannot be read: {(error.strerror or str(error)).lower()}"
            raise SpecError(
                message,
                where=Where(shown or path),
                hint="check its permissions, or put a plain file there",
            ) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SpecError(
                "this has to be a plain file", where=Where(shown or path), hint="replace it"
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file


def check_entries(
    folder: Path, shown: Path, known: Sequence[str], errors: list[SpecError]
) -> set[str]:
    """Report the entries of a folder that are unknown or of the wrong kind.

    A name in ``known`` with "/" at its end is a folder.

    Returns:
        The names of the known folders that exist.
    """
    folders = set()
    for entry in folder_entries(folder, shown, errors):
        where = Where(shown / entry.name)
        if entry.name + "/" in known:
            if entry.is_symlink():
                errors.append(
                    SpecError(
                        "this link leaves the appliance's folder",
                        where=where,
                        hint="make it a folder of its own",
                    )
                )
            elif not entry.is_dir():
                errors.append(SpecError("this has to be a folder", where=where, hint="replace it"))
            else:
                folders.add(entry.name)
        elif any(Path(entry.name).match(pattern) for pattern in known):
            if entry.is_symlink() or not entry.is_file():
                errors.append(
                    SpecError("this has to be a plain file", where=where, hint="replace it")
                )
        else:
            near = suggestion(entry.name, [name.rstrip("/") for name in known])
            errors.append(
                SpecError(
                    f'"{entry.name}" has no meaning here',
                    where=where,
                    hint=near or f"known here: {', '.join(known)}",
                )
            )
    return folders


def folder_entries(
    folder: Path, shown: Path, errors: list[SpecError]
) -> Iterator[os.DirEntry[str]]:
    """Yield a folder's entries by name; report bad names.

    A missing folder has no entries.
    """
    try:
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    except OSError as error:
        message = f"cannot be read: {(error.strerror or str(error)).lower()}"
        errors.append(SpecError(message, where=Where(shown), hint="check its permissions"))
        return
    for entry in entries:
        if _BAD_NAME.search(entry.name):
            name = ascii(entry.name)
            hint = "use a name without control characters and backslashes, in UTF-8"
            errors.append(SpecError(f"a file is named {name}", where=Where(shown), hint=hint))
        elif entry.name.lower().partition(".")[0] in DEVICES:
            message = f'"{entry.name}" is a device on Windows, where no checkout can have it'
            hint = "rename it; in an image a setup script can give it this name"
            errors.append(SpecError(message, where=Where(shown / entry.name), hint=hint))
        else:
            yield entry


def read_files(folder: Path, shown: Path, errors: list[SpecError]) -> tuple[SourceFile, ...]:
    """Return the files for the image's root, sorted by their path there.

    Templates lose the ``.j2`` of their names.

    Args:
        folder: The folder standing for the image's root; it need not exist.
        shown: Its path in errors.
        errors: The list that errors are added to.
    """
    found: dict[str, SourceFile] = {}
    for file in _walk(folder, shown, "", errors):
        other = found.setdefault(file.target, file)
        if other is not file:
            where = Where(shown / file.path.relative_to(folder))
            errors.append(
                SpecError(
                    f"{file.target} is also made from {other.path.name}",
                    where=where,
                    hint="remove one of the two",
                )
            )
    return tuple(found[target] for target in sorted(found))


def _walk(folder: Path, shown: Path, target: str, errors: list[SpecError]) -> Iterator[SourceFile]:
    for entry in folder_entries(folder, shown, errors):
        place, where = f"{target}/{entry.name}", Where(shown / entry.name)
        if entry.is_symlink():
            link = str(Path(entry.path).readlink())
            if _BAD_NAME.search(link):
                errors.append(
                    SpecError(
                        f"this link points to {link!a}", where=where, hint="use a plain UTF-8 path"
                    )
                )
            elif _climbs(target, link):
                hint = (
                    "a link's target is a path in the image: write it from the image's root, "
                    "with a leading /"
                )
                errors.append(
                    SpecError(
                        f"this link to {link} leaves the image's root", where=where, hint=hint
                    )
                )
            else:
                yield SourceFile(path=folder / entry.name, target=place, link=link)
        elif entry.is_dir(follow_symlinks=False):
            # left by an import of a program here: for this machine's Python, not the image's
            if entry.name == "__pycache__":
                continue
            yield from _walk(folder / entry.name, shown / entry.name, place, errors)
        elif not entry.is_file(follow_symlinks=False):
            errors.append(
                SpecError(
                    "this is neither a file nor a folder nor a symbolic link",
                    where=where,
                    hint="remove it",
                )
            )
        elif entry.name == ".j2":
            errors.append(
                SpecError(
                    "a template without a name",
                    where=where,
                    hint="name it after the file that it makes",
                )
            )
        else:
            executable = entry.stat(follow_symlinks=False).st_mode & stat.S_IXUSR
            template = entry.name.endswith(".j2")
            file = SourceFile(
                path=folder / entry.name,
                target=place.removesuffix(".j2"),
                mode=0o755 if executable else 0o644,
                template=template,
            )
            try:
                require_unix_lines(_unix_part(file, shown / entry.name), shown / entry.name, errors)
            except SpecError as error:
                errors.append(error)
            yield file


def _climbs(directory: str, link: str) -> bool:
    """Return True if a link in an image's directory climbs above the image's root."""
    depth = 0 if link.startswith("/") else directory.count("/")
    for part in link.split("/"):
        depth += -1 if part == ".." else 1 if part not in ("", ".") else 0
        if depth < 0:
            return True
    return False


def require_unix_lines(content: bytes, where: Path, errors: list[SpecError]) -> None:
    """Report the first trace of a Windows editor in a script.

    It is a byte order mark, UTF-16, or a line with a CR at its end, which a shell or the kernel
    takes for a part of the word before it.
    """
    if content.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        what = "this is UTF-16"
        hint = f"save it as UTF-8: iconv -f UTF-16 -t UTF-8 {where}"
        if content.startswith(codecs.BOM_UTF8):
            what = "this begins with a byte order mark"
            hint = f"sed -i '1s/^\\xef\\xbb\\xbf//' {where}"
        errors.append(SpecError(f"{what}, as on Windows", where=Where(where, 1, 1), hint=hint))
        return
    at = content.find(b"\r\n")
    if at >= 0:
        line = content.count(b"\n", 0, at) + 1
        column = at - content.rfind(b"\n", 0, at)
        hint = f"sed -i 's/\\r$//' {where}   (and in .gitattributes: * text=auto eol=lf)"
        errors.append(
            SpecError(
                "this line ends with CR LF, as on Windows",
                where=Where(where, line, column),
                hint=hint,
            )
        )


def _unix_part(source: SourceFile, shown: Path) -> bytes:
    """Return the part of a file that needs Unix line ends.

    It is the whole text of a shell script, and the first line of another program. An executable
    text without ``#!`` is a shell script, too: sh runs it (execvp(3)).

    Raises:
        SpecError: The file cannot be read.
    """
    with open_content(source.path, shown, depth=source.depth) as file:
        first = file.readline(FIRST_LINE_BYTES)
        named = first if first.removeprefix(codecs.BOM_UTF8).startswith(b"#!") else b""
        unnamed = source.mode == 0o755 and not named
        if not (_SHELL.match(first) or source.target.endswith(".sh") or unnamed):
            return named
        text = first + file.read(_MAX_SHELL_BYTES)
        return named if b"\0" in text else text  # an archive that unpacks itself


def read_scripts(folder: Path, shown: Path, errors: list[SpecError]) -> tuple[Path, ...]:
    """Return the scripts ``NN-name.sh`` in a folder, sorted by name."""
    hint = "name it NN-name.sh, such as 10-users.sh; the numbers give the order"
    scripts = [
        folder / entry.name
        for entry in plain_files(
            folder_entries(folder, shown, errors), shown, _SCRIPT, hint, errors
        )
    ]
    for script in scripts:
        try:
            require_unix_lines(
                read_content(script, shown / script.name), shown / script.name, errors
            )
        except SpecError as error:
            errors.append(error)
    return tuple(scripts)


def check_faults(folder: Path, shown: Path, errors: list[SpecError]) -> None:
    """Report patches converted to Windows line ends: they no longer apply."""
    for entry in folder_entries(folder, shown, errors):
        if entry.name.endswith(".patch") and entry.is_file(follow_symlinks=False):
            try:
                content = read_content(folder / entry.name, shown / entry.name)
                hunk = _HUNK.search(content)  # what follows may be about a file that has such lines
                require_unix_lines(
                    content[: hunk.end() if hunk else len(content)], shown / entry.name, errors
                )
            except SpecError as error:
                errors.append(error)


def plain_files(
    entries: Iterable[os.DirEntry[str]],
    shown: Path,
    pattern: re.Pattern[str],
    hint: str,
    errors: list[SpecError],
) -> Iterator[os.DirEntry[str]]:
    for entry in entries:
        where = Where(shown / entry.name)
        if entry.is_symlink():
            message = (
                "this link leaves the appliance's folder" if _leaves(entry) else "this is a link"
            )
            errors.append(SpecError(message, where=where, hint="put a copy of the script here"))
        elif not entry.is_file(follow_symlinks=False) or not pattern.fullmatch(entry.name):
            errors.append(SpecError(f'"{entry.name}" has no meaning here', where=where, hint=hint))
        else:
            yield entry


def _leaves(entry: os.DirEntry[str]) -> bool:
    """Return True if a link in an appliance's ``<folder>/`` points out of the appliance."""
    appliance = os.path.realpath(os.path.join(os.path.dirname(entry.path), ".."))  # noqa: PTH118, PTH120 - entry.path is text
    return not os.path.realpath(entry.path).startswith(appliance + os.sep)
