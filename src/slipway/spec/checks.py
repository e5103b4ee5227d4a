"""The checks beside a spec: scripts for the guest, and for each network around it.

What goes in: a folder on disk. What comes out: a :class:`Check` for each script, with the settings
from its first comments, and errors for misplaced entries.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slipway.errors import BuildError, SpecError, Where, choose
from slipway.spec.folder import folder_entries, plain_files, read_content, require_unix_lines

__all__ = ["Check", "read_checks"]

_CHECK: Final = re.compile(r"(?=.{1,100}\Z)[a-z0-9][a-z0-9._-]*\.(sh|py)")
_SETTING: Final = re.compile(r"#\s*(timeout|before|with)\s*:\s*(.*?)\s*")
DEFAULT_TIMEOUT_S: Final = 60
MAX_TIMEOUT_S: Final = 3600
#: Possible actions before a check: cut the machine's power, or let it reboot itself.
BEFORE: Final = ("reset", "reboot")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """An acceptance check: ``place`` is "guest", or the interface whose network it runs from.

    ``name`` is the file's name, unique at one place. The rest is set in the file's first comments.
    ``timeout_s`` comes from ``# timeout: SECONDS``. ``before`` is an action on the machine before
    the check, or empty (``# before: reset`` or ``reboot``). ``instances`` are the further instances
    needed (``# with: NAMES``).
    """

    name: str
    path: Path
    place: str
    timeout_s: int = DEFAULT_TIMEOUT_S
    before: str = ""
    instances: tuple[str, ...] = ()
    sha256: str

    @property
    def depth(self) -> int:
        """The number of the path's last parts written by the appliance's author."""
        return 2 if self.place == "guest" else 3

    def read(self) -> bytes:
        """Return the file's content, as it was when the appliance was loaded.

        Raises:
            BuildError: The file has changed since.
        """
        content = read_content(self.path, depth=self.depth)
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise BuildError(
                f"the check {self.place}/{self.name} has changed since this command began",
                hint="run the command again",
            )
        return content


def read_checks(
    folder: Path,
    shown: Path,
    interfaces: Sequence[str] | None,
    instances: Sequence[str],
    errors: list[SpecError],
) -> tuple[Check, ...]:
    """Read the checks in a folder: those for the guest, and a folder of them for each interface.

    Args:
        interfaces: The known interfaces; None if any is allowed (a mix-in).
        instances: The known further instances.
    """
    checks: list[Check] = []
    hint = (
        "checks end in .sh or .py and have lower-case names of up to 100 characters; "
        "or a folder named after an interface"
    )
    plain = []
    for entry in folder_entries(folder, shown, errors):
        if not entry.is_dir(follow_symlinks=False):
            plain.append(entry)
        elif interfaces is not None and entry.name not in interfaces:
            message = f'there is no interface "{entry.name}"'
            near = choose(entry.name, interfaces)
            errors.append(SpecError(message, where=Where(shown / entry.name), hint=near))
        else:
            inside = shown / entry.name
            found = plain_files(
                folder_entries(folder / entry.name, inside, errors), inside, _CHECK, hint, errors
            )
            checks += [
                _read_check(folder / entry.name / file.name, inside, entry.name, instances, errors)
                for file in found
            ]
    guest = [
        _read_check(folder / file.name, shown, "guest", (), errors)
        for file in plain_files(plain, shown, _CHECK, hint, errors)
    ]
    return (*guest, *checks)


def _read_check(
    path: Path, shown: Path, place: str, instances: Sequence[str], errors: list[SpecError]
) -> Check:
    try:
        content = read_content(path, shown / path.name, depth=2 if place == "guest" else 3)
    except SpecError as error:
        errors.append(error)
        content = b""
    require_unix_lines(content, shown / path.name, errors)
    settings: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(content.decode(errors="replace").splitlines(), 1):
        if not line.startswith("#"):
            break
        match = _SETTING.fullmatch(line)
        if match:
            settings[match[1]] = (number, match[2])
    number, text = settings.get("timeout", (1, str(DEFAULT_TIMEOUT_S)))
    timeout_s = int(text) if re.fullmatch(r"[0-9]{1,6}", text) else 0
    if not 1 <= timeout_s <= MAX_TIMEOUT_S:
        hint = f"write seconds, 1 to {MAX_TIMEOUT_S}: # timeout: 90"
        errors.append(
            SpecError(
                f'"{text}" is not a time limit',
                where=Where(shown / path.name, number, 1),
                hint=hint,
            )
        )
    number, before = settings.get("before", (1, ""))
    if before and (before not in BEFORE or place == "guest"):
        hint = (
            f"write one of: {', '.join(BEFORE)}"
            if before not in BEFORE
            else "only a check from outside outlives that: move it to an interface's folder"
        )
        errors.append(
            SpecError(
                f'"before: {before}" cannot be done here',
                where=Where(shown / path.name, number, 1),
                hint=hint,
            )
        )
    number, text = settings.get("with", (1, ""))
    for name in text.split():
        if name not in instances:
            hint = "instances of a spec are for its checks in an interface's folder"
            if instances:
                hint = choose(name, instances)
            errors.append(
                SpecError(
                    f'there is no instance "{name}" here',
                    where=Where(shown / path.name, number, 1),
                    hint=hint,
                )
            )
    return Check(
        name=path.name,
        path=path,
        place=place,
        timeout_s=timeout_s,
        before=before,
        instances=tuple(text.split()),
        sha256=hashlib.sha256(content).hexdigest(),
    )
