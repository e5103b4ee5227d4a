"""A new appliance's folder: the smallest possible one, or a copy of another.

What goes in: its path. What comes out: a folder, ready to validate, build and pass its checks
unchanged. It is written beside its place and renamed, so it is whole or absent.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slipway.errors import UsageError
from slipway.spec.text import read_document

if TYPE_CHECKING:
    from slipway.spec.library import Appliance

__all__ = ["copy_appliance", "new_appliance"]

_SPEC: Final = """\
# yaml-language-server: $schema=../../docs/appliance.schema.json
# docs/reference/spec.md explains every key.
schema: 1
name: {name}
version: 0.1.0
summary: A new appliance
category: custom
# include: [security-updates]      installs them every night; docs/reference/spec.md names the \
other mix-ins
packages: []
services: {{enable: [], disable: []}}
ports:
  - {{port: 22, protocol: tcp, purpose: SSH}}
"""

_README: Final = """\
# {name}

What it is for, and how one uses it.

| file | what it is |
|-|-|
| `appliance.yaml` | packages, services, ports, parameters |
| `files/` | copied over the image's root; a `.j2` name is rendered |
| `setup/NN-name.sh` | runs in the image when it is built |
| `firstboot/NN-name.sh` | runs once in every instance |
| `checks/` | what has to hold before it may be published |

## What it promises

| promise | check |
|-|-|
| Whoever logs in is greeted with its name and version. | `10-greeting.sh` |
| It takes logins by SSH, with a key. | `outside/20-ssh.py` |
| No port answers but those of the spec. | `ports-closed` |
"""

_GREETING: Final = "{{ spec.name }} {{ spec.version }}: {{ spec.summary }}\n"

_CHECK: Final = """\
#!/bin/sh
# Passes if it exits with 0; tried again every second until its time is up.
# timeout: 30
set -eu
grep -Eq '^[a-z0-9-]+ [0-9.]+' /etc/motd
"""

_CLIENT: Final = """\
#!/usr/bin/env python3
# Runs on the building machine, as a client in the network of the interface "outside".
# timeout: 60
from slipway_check import root, tcp

with tcp(22) as connection:
    assert connection.recv(4) == b"SSH-", "somebody else answers on the port of SSH"
print(root("cat /etc/motd"))
"""


def new_appliance(folder: Path) -> None:
    """Write the smallest appliance.

    Raises:
        UsageError: The folder exists.
    """
    with _place(folder) as place:
        place.mkdir()
        (place / "appliance.yaml").write_text(_SPEC.format(name=folder.name), encoding="utf-8")
        (place / "README.md").write_text(_README.format(name=folder.name), encoding="utf-8")
        greeting = place / "files/etc/motd.j2"
        greeting.parent.mkdir(parents=True)
        greeting.write_text(_GREETING, encoding="utf-8")
        for name, text in (("10-greeting.sh", _CHECK), ("outside/20-ssh.py", _CLIENT)):
            check = place / "checks" / name
            check.parent.mkdir(exist_ok=True)
            check.write_text(text, encoding="utf-8")
            check.chmod(0o755)


def copy_appliance(like: Appliance, folder: Path) -> None:
    """Copy an appliance under another name, without its locks.

    Raises:
        UsageError: The folder exists.
    """
    with _place(folder) as place:
        shutil.copytree(
            like.folder, place, symlinks=True, ignore=shutil.ignore_patterns("lock.*.json")
        )
        spec = place / "appliance.yaml"
        line, column = read_document(spec).values["name",]
        lines = spec.read_text(encoding="utf-8").splitlines(keepends=True)
        text = lines[line - 1]
        lines[line - 1] = text[: column - 1] + re.sub(
            r"\A(\"[^\"]*\"|'[^']*'|[a-z0-9-]+)", folder.name, text[column - 1 :]
        )
        spec.write_text("".join(lines), encoding="utf-8")
        readme = place / "README.md"
        if readme.is_file():
            heading, newline, rest = readme.read_text(encoding="utf-8").partition("\n")
            heading = re.sub(rf"(?<![\w-]){re.escape(like.name)}(?![\w-])", folder.name, heading)
            readme.write_text(heading + newline + rest, encoding="utf-8")


@contextmanager
def _place(folder: Path) -> Iterator[Path]:
    """Hold a path to write to, beside an appliance's folder.

    It is renamed to the folder if all goes well, and removed otherwise.

    Raises:
        UsageError: The folder exists.
    """
    if folder.exists() or folder.is_symlink():
        raise UsageError(
            f'there is an appliance "{folder.name}" already', hint="choose another name"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder.parent) as temporary:
        place = Path(temporary) / folder.name
        yield place
        place.rename(folder)
