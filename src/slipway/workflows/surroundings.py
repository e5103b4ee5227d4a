"""One appliance, built in different surroundings: the same bytes, or the cause of a difference.

What goes in: an appliance. What comes out: a :class:`Row` for each build, with the surroundings
found by the building process itself and the SHA-256 of its artifacts.

Invariants: six rows hold every pair of two surroundings' values. Each builds from an empty cache
and then again from its layers. A build with other surroundings than planned is an error: a row
shows facts, not the plan.

Another user and another host name need root. For an ordinary user, both are the same in all rows.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Final

from slipway.cache import Entry
from slipway.errors import BuildError, HostError
from slipway.host import process
from slipway.host.credentials import build_environment
from slipway.job import Workshop, prepare
from slipway.pipeline import export
from slipway.terminal.progress import Progress

__all__ = ["Row", "Surroundings", "build_in_all", "main", "require_same", "rows_of"]

#: The user of the second kind: it exists in the private view of one build, and nowhere else.
_OTHER: Final = "slipway-other"
_HOSTS: Final = ("first-host", "second-host.example")
_ZONES: Final = ("UTC0", "<+1245>-12:45")
#: The values of (user, host, zone, work), as numbers, for both builds with each umask: of any two
#: columns, the three pairs of rows hold both the same and another value, so each pair of values is
#: there.
_PLAN: Final = (
    ("0022", "0000"),
    ("0022", "1111"),
    ("0002", "0011"),
    ("0002", "1100"),
    ("0077", "0101"),
    ("0077", "1010"),
)
#: The first subordinate id of the other user where nobody has any.
_SUBORDINATE: Final = 100_000
_RANGE: Final = 65_536

#: Makes the surroundings, then runs a command: view, umask, host, and the user to be with its
#: group.
_ENTER: Final = """\
set -eu
view=$1 umask=$2 host=$3 user=$4
shift 4
mount --make-rprivate /
for name in passwd group subuid subgid; do
    mount --bind "$view/$name" "/etc/$name"
done
hostname "$host"
umask "$umask"
[ "$user" != 0 ] || exec "$@"
exec setpriv --reuid="$user" --regid="$user" --clear-groups --inh-caps=-all -- "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Influences that a build must not depend on; ``work`` is memory or disk."""

    umask: str
    user: str
    host: str
    zone: str
    work: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The result of one build, by format: the SHA-256 of each artifact."""

    surroundings: Surroundings
    layers: str
    made: dict[str, str]

    def record(self) -> dict[str, Any]:
        """Return the row as a table's line."""
        around = {name: getattr(self.surroundings, name) for name in Surroundings.__slots__}
        return {
            **around,
            "layers": self.layers,
            **{name: digest[:16] for name, digest in self.made.items()},
        }


def rows_of(users: Sequence[str], hosts: Sequence[str]) -> tuple[Surroundings, ...]:
    """Return the surroundings to build in; a single user or host name is in every row."""
    found = []
    for umask, values in _PLAN:
        user, host, zone, work = (int(value) for value in values)
        found.append(
            Surroundings(
                umask=umask,
                user=users[user % len(users)],
                host=hosts[host % len(hosts)],
                zone=_ZONES[zone],
                work=("memory", "disk")[work],
            )
        )
    return tuple(found)


def build_in_all(
    shop: Workshop, name: str, recipe: Sequence[str], formats: Sequence[str] = ()
) -> Iterator[Row]:
    """Build an appliance in each of the surroundings, and yield each build's rows when it is done.

    Args:
        recipe: The builder and the architecture.

    Raises:
        HostError: The checkout is closed to the other user, or a user's surroundings cannot be
            made.
        BuildError: A build failed, or did not have its surroundings.
    """
    root = os.geteuid() == 0
    me = pwd.getpwuid(os.geteuid()).pw_name
    users, hosts = ((me, _OTHER), _HOSTS) if root else ((me,), (os.uname().nodename,))
    if root:
        for path in (
            shop.root / "appliances",
            Path(__file__).parents[1],
            Path(sys.prefix),
            Path(sys.executable).resolve(),
        ):
            _require_open(path)
    with _room(shop) as room:
        view = _View(room) if root else None
        mirror = {"SLIPWAY_MIRROR": shop.mirrors["debian"]} if "debian" in shop.mirrors else {}
        for number, around in enumerate(rows_of(users, hosts)):
            with shop.progress.step(f"build {number + 1} of {len(_PLAN)}") as step:
                home = _home(shop, room, around.user)
                program = [
                    sys.executable,
                    "-P",
                    "-m",
                    "slipway.workflows.surroundings",
                    str(shop.root),
                    str(home / "work"),
                ]
                argv = _wrapped([*program, name, *recipe, *formats], around, view)
                told = build_environment() | mirror | _environment(shop, around, home)
                step.detail = " ".join(getattr(around, field) for field in Surroundings.__slots__)
                said = process.run(
                    argv, what=f"a build with {step.detail}", env=told, timeout_s=7200
                ).stdout
                found = json.loads(said)
                _require_around(around, Surroundings(**found["around"]))
            for layers in ("cold", "cached"):
                yield Row(surroundings=around, layers=layers, made=found[layers])


def require_same(rows: Sequence[Row]) -> None:
    """Compare the artifacts of all rows.

    Raises:
        BuildError: Two rows differ; the message names the surroundings that decide alone, if any.
    """
    problems = []
    for form in rows[0].made:
        kinds = {row.made[form] for row in rows}
        if len(kinds) == 1:
            continue
        columns = {
            name: {_value(row, name): set[str]() for row in rows}
            for name in (*Surroundings.__slots__, "layers")
        }
        for name, row in product(columns, rows):
            columns[name][_value(row, name)].add(row.made[form])
        deciding = [
            name for name, made in columns.items() if all(len(each) == 1 for each in made.values())
        ]
        why = (
            f"it depends on: {', '.join(deciding)}"
            if deciding
            else "no single one of its surroundings decides"
        )
        problems.append(f"{form} differs in {len(kinds)} ways; {why}")
    if problems:
        raise BuildError(
            "\n  ".join(problems),
            hint="find the files that differ: invoke build NAME --verify-reproducible",
        )


def _value(row: Row, name: str) -> str:
    return row.layers if name == "layers" else str(getattr(row.surroundings, name))


def _require_around(asked: Surroundings, had: Surroundings) -> None:
    wrong = [
        f"{name} {getattr(had, name)}, not {getattr(asked, name)}"
        for name in Surroundings.__slots__
        if getattr(had, name) != getattr(asked, name)
    ]
    if wrong:
        raise BuildError(
            f"a build had other surroundings than it was to have: {'; '.join(wrong)}",
            hint="this is a bug in slipway",
        )


def _wrapped(
    argv: Sequence[str | Path], around: Surroundings, view: _View | None
) -> list[str | Path]:
    """Return a command to run another with these surroundings."""
    if view is None:
        return ["sh", "-c", 'umask "$1" && shift && exec "$@"', "sh", around.umask, *argv]
    user = view.uid if around.user == _OTHER else 0
    return [
        "unshare",
        "--mount",
        "--uts",
        "sh",
        "-c",
        _ENTER,
        "sh",
        view.folder,
        around.umask,
        around.host,
        str(user),
        *argv,
    ]


def _environment(shop: Workshop, around: Surroundings, home: Path) -> dict[str, str]:
    """Return the differing variables of the environment.

    The present user's builds share everything but finished stages; the other user has a cache of
    its own.
    """
    names = {"TZ": around.zone, "USER": around.user, "LOGNAME": around.user}
    memory = {"SLIPWAY_MEMORY_MIB": "1"} if around.work == "disk" else {}
    if around.user == _OTHER:
        return {
            **names,
            **memory,
            "HOME": str(home),
            "SLIPWAY_CACHE": str(home / "cache"),
            "TMPDIR": str(home),
        }
    return {**names, **memory, "SLIPWAY_CACHE": str(shop.settings.cache)}


def _require_open(path: Path) -> None:
    """Require a path to be open to another user.

    Raises:
        HostError: A folder is closed to others.
    """
    for place in (*reversed(path.parents), path):
        if place.stat().st_mode & 0o005 != 0o005:
            hint = (
                f"run: chmod o+rx {place}, or use a checkout, and a Python for its .venv, elsewhere"
            )
            raise HostError(
                f"{place} is closed to other users, and one of them is to build what is there",
                hint=hint,
            )


@contextmanager
def _room(shop: Workshop) -> Iterator[Path]:
    """Hold a folder to build in; root's is open to another user, too."""
    if os.geteuid():
        with shop.cache.scratch() as room:
            yield room
        return
    # large, and on disk
    with tempfile.TemporaryDirectory(prefix="slipway-", dir="/var/tmp") as name:
        Path(name).chmod(0o711)
        yield Path(name)


def _home(shop: Workshop, room: Path, user: str) -> Path:
    """Return a folder of the building user, with no stages in it."""
    home = room / user
    home.mkdir(mode=0o700, exist_ok=True)
    shutil.rmtree(home / "work", ignore_errors=True)
    if user == _OTHER:
        uid = _View(room).uid
        os.chown(home, uid, uid)
    return home


class _View:
    """A host's list of users with one more in it, as files to mount over those in /etc."""

    def __init__(self, room: Path) -> None:
        self.folder = room / "view"
        self.uid = next(number for number in range(64_000, 65_000) if not _known(number))
        if self.folder.is_dir():
            return
        self.folder.mkdir()
        home = room / _OTHER
        lines = {
            "passwd": f"{_OTHER}:x:{self.uid}:{self.uid}::{home}:/bin/sh\n",
            "group": f"{_OTHER}:x:{self.uid}:\n",
        }
        for name in ("passwd", "group", "subuid", "subgid"):
            source = Path("/etc", name)
            if not source.is_file():
                raise HostError(f"there is no {source}", hint=f"run: touch {source}")
            text = source.read_text()
            text += "" if text.endswith("\n") or not text else "\n"
            (self.folder / name).write_text(
                text + lines.get(name, f"{_OTHER}:{_free(text)}:{_RANGE}\n")
            )


def _known(number: int) -> bool:
    try:
        pwd.getpwuid(number)
    except KeyError:
        return False
    return True


def _free(text: str) -> int:
    """Return the first subordinate id behind all given ones (subuid(5))."""
    given = re.findall(r"^[^:\n]+:([0-9]+):([0-9]+)$", text, re.MULTILINE)
    return max([_SUBORDINATE, *(int(start) + int(count) for start, count in given)])


def main(argv: Sequence[str]) -> int:
    """Build here, in the present surroundings, and print them with the artifacts' digests."""
    root, work, name, builder, architecture, *formats = argv
    place = Path(work)
    umask = os.umask(0o022)
    os.umask(umask)
    place.mkdir(mode=0o700)
    progress = _Noting()
    shop = Workshop(root=Path(root), progress=progress, cache_directory=place / "stages")
    job = prepare(
        shop, shop.library.load(name), builder=builder, architecture=architecture, formats=formats
    )
    job = replace(job, outputs=place / "outputs")
    cold = export(shop, job)
    work_on = "disk" if "memory" in progress.noted else "memory"
    for stage in job.plan.stages:
        if stage.kind.startswith("artifact:"):
            shop.cache.drop(stage.id)
    digests = {"cold": _digests(cold), "cached": _digests(export(shop, job))}
    zone = os.environ["TZ"] if time.tzname[0] in os.environ["TZ"] else "/".join(time.tzname)
    user = pwd.getpwuid(os.geteuid()).pw_name
    around = {
        "umask": f"{umask:04o}",
        "user": user,
        "host": os.uname().nodename,
        "zone": zone,
        "work": work_on,
    }
    shutil.rmtree(place, ignore_errors=True)
    sys.stdout.write(json.dumps({"around": around, **digests}) + "\n")
    return 0


def _digests(entries: dict[str, Entry]) -> dict[str, str]:
    return {name: str(entry.facts["sha256"]) for name, entry in entries.items()}


class _Noting(Progress):
    """Progress with a memory of its notes' labels."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[str] = []

    def note(self, label: str, text: str) -> None:
        """Remember a note's label, and show it."""
        self.noted.append(label)
        super().note(label, text)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
