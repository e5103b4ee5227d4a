"""Read a channel's releases of one appliance from its metadata: signed, but not therefore sound.

Input: the verified metadata of an appliance's role. Output: a :class:`Shelf`.

Invariants: Every value in a shelf has the type, the form and the range that slipway writes.
Anything else is a VerificationError, be it a mistake or the work of a thief of the channel's keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from slipway.channels.metadata import CUSTOM
from slipway.errors import StoreError, UsageError, VerificationError, suggestion
from slipway.terminal.text import one_line

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, Snapshot, Targets

__all__ = [
    "MAX_RECORD",
    "Listed",
    "Shelf",
    "Tombstone",
    "find_release",
    "is_name",
    "malformed",
    "matches",
    "nearest",
    "past_of",
    "require_sound",
    "to_shelf",
]

#: The largest size of a file beside the images, in bytes: it is read into memory.
MAX_RECORD: Final = 64 << 20
_MAX_SIZE: Final = 1 << 44
_MAX_TIME: Final = 253_402_300_799  # the end of the year 9999
_MAX_TEXT: Final = 4_000
#: The number of formerly current releases that a channel remembers.
_MAX_PAST: Final = 50
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,179}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A release in a channel.

    Attributes:
        created: The time of its build, in seconds since 1970.
        added: The time of its arrival here, in seconds since 1970.
        files: Size in bytes and SHA-256 by file.
    """

    created: int
    added: int
    files: Mapping[str, tuple[int, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """The note of a withdrawn release; ``time`` is in seconds since 1970."""

    reason: str
    replacement: str | None
    time: int


@dataclass(slots=True, kw_only=True)
class Shelf:
    """One appliance in a channel, open to changes: its releases by name, in the order of arrival.

    ``past`` are the formerly current releases, the last one at the end.
    """

    current: str | None = None
    past: list[str] = field(default_factory=list)
    releases: dict[str, Listed] = field(default_factory=dict)
    withdrawn: dict[str, Tombstone] = field(default_factory=dict)

    def add(self, release: str, listed: Listed) -> None:
        """Add a release, and make it the current one."""
        self.releases[release] = listed
        self.make_current(release)

    def make_current(self, release: str) -> None:
        """Make a release the current one, and remember the one before."""
        if release != self.current:
            self.past = [*self.past, *([self.current] if self.current else [])][-_MAX_PAST:]
            self.current = release

    def go_back(self, release: str | None) -> None:
        """Make a formerly current release current again, and forget the ones after it."""
        if release in self.past:
            del self.past[len(self.past) - 1 - self.past[::-1].index(release) :]
        self.current = release

    def previous(self) -> str | None:
        """Return the last formerly current release that is still listed.

        Early metadata has no such history: then it is the one that arrived before the current one.
        """
        known = [name for name in self.past if name in self.releases and name != self.current]
        return known[-1] if known else self.before(self.current)

    def before(self, release: str | None) -> str | None:
        """Return the release that arrived before another one, None for the first."""
        names = list(self.releases)
        place = names.index(release) if release in self.releases else 0
        return names[place - 1] if place else None


def nearest(appliance: str, known: Iterable[str]) -> str:
    """Return a hint for an appliance without a release, from the known appliances."""
    others = [name for name in known if name != appliance]  # a mistyped one may be there, empty
    return suggestion(appliance, others) or "see: invoke channels"


def find_release(
    shelf: Shelf, appliance: str, channel: str, build: str | None, *, known: Iterable[str] = ()
) -> str:
    """Return the release meant by a build id or a release's name; the current one for None.

    Args:
        known: The channel's appliances, for whoever mistyped one.

    Raises:
        StoreError: There is no such release.
        UsageError: Several releases could be meant.
    """
    if build is None:
        if shelf.current is None:
            raise StoreError(
                f"{channel} has no release of {appliance}", hint=nearest(appliance, known)
            )
        return shelf.current
    found = [name for name in shelf.releases if matches(name, build)] or [
        name for name in shelf.releases if name.startswith(f"{build}-")
    ]
    if not found:
        listing = (
            f"choose from: {', '.join(shelf.releases)}"
            if shelf.releases
            else nearest(appliance, known)
        )
        dead = next(
            (stone for name, stone in shelf.withdrawn.items() if matches(name, build)), None
        )
        hint = (
            f"it was withdrawn: {one_line(dead.reason)}"
            if dead
            else suggestion(build, shelf.releases) or listing
        )
        raise StoreError(f"{channel} has no release {build} of {appliance}", hint=hint)
    if len(found) > 1:
        raise UsageError(
            f"{build} may be several releases of {appliance}",
            hint=f"name one: {', '.join(found)}",
        )
    return found[0]


def matches(release: str, build: str) -> bool:
    """Return True if a build id or a release's name means this release."""
    return release == build or release.endswith(f"-{build}")


class _Unsound(Exception):
    """The metadata holds a value that slipway does not write."""


def is_name(text: Any) -> bool:
    """Return True if an appliance, a release or a file can have this name."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def malformed(channel: str, what: str, problem: str) -> VerificationError:
    """Return the error for signed but malformed metadata."""
    return VerificationError(
        f"{what} of the channel {channel} is signed, but malformed: {problem}",
        hint=(
            "slipway never wrote this: somebody else may have its keys; see: "
            f"invoke keys rotate {channel}"
        ),
    )


def to_shelf(role: Metadata[Targets], appliance: str, channel: str) -> Shelf:
    """Read the shelf of an appliance from its metadata.

    Raises:
        VerificationError: The metadata is malformed.
    """
    try:
        return _shelf(role, appliance)
    except _Unsound as error:
        raise malformed(channel, f"the list of {appliance}", str(error)) from error


def require_sound(role: Metadata[Targets], appliance: str) -> None:
    """Refuse to write metadata that :func:`to_shelf` would refuse to read.

    Raises:
        StoreError: The metadata is malformed.
    """
    try:
        _shelf(role, appliance)
    except _Unsound as error:
        raise StoreError(
            f"{appliance} cannot be listed so: {error}",
            hint="nothing was changed; say it otherwise",
        ) from error


def _shelf(role: Metadata[Targets], appliance: str) -> Shelf:
    own = _typed(role.signed.unrecognized_fields.get(CUSTOM, {}), dict, CUSTOM)
    files = _files(role.signed.targets, appliance)
    releases = {}
    for each in _typed(own.get("releases", []), list, "releases"):
        entry = _typed(each, dict, "a release")
        name = _name(entry.get("release"), "a release")
        if name in releases:
            raise _Unsound(f"{name} is repeated")
        if name not in files:
            raise _Unsound(f"{name} has no files")
        created, added = (
            _number(entry.get(key), f"{key} of {name}", _MAX_TIME) for key in ("created", "added")
        )
        releases[name] = Listed(created=created, added=added, files=files[name])
    withdrawn = {
        _name(name, "a withdrawn release"): _stone(
            name, _typed(item, dict, f"the tombstone of {name}")
        )
        for name, item in _typed(own.get("withdrawn", {}), dict, "withdrawn").items()
    }
    current = own.get("current")
    _require_consistent(current, releases, withdrawn, files)
    past = [
        _name(name, "a release that was current")
        for name in _typed(own.get("past", []), list, "past")
    ]
    return Shelf(current=current, past=past, releases=releases, withdrawn=withdrawn)


def _files(targets: Mapping[str, Any], appliance: str) -> dict[str, dict[str, tuple[int, str]]]:
    """Return size and SHA-256 by release and file."""
    files: dict[str, dict[str, tuple[int, str]]] = {}
    for path, target in targets.items():
        parts = path.split("/")
        if len(parts) != 3 or parts[0] != appliance or not all(map(is_name, parts)):
            raise _Unsound(f"no path of a file of it: {path[:100]!r}")
        limit = MAX_RECORD if parts[2].endswith(".json") else _MAX_SIZE
        length = _number(target.length, f"the size of {path}", limit)
        sha256 = target.hashes.get("sha256")
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise _Unsound(f"{path} has no SHA-256")
        files.setdefault(parts[1], {})[parts[2]] = (length, sha256)
    return files


def _stone(name: str, item: Mapping[str, Any]) -> Tombstone:
    replacement = item.get("replacement")
    return Tombstone(
        reason=_text(item.get("reason"), f"the reason for withdrawing {name}"),
        replacement=None
        if replacement is None
        else _name(replacement, f"the replacement of {name}"),
        time=_number(item.get("time"), f"the time of withdrawing {name}", _MAX_TIME),
    )


def _require_consistent(
    current: Any,
    releases: Mapping[str, Any],
    withdrawn: Mapping[str, Any],
    files: Mapping[str, Any],
) -> None:
    if current is not None and (not isinstance(current, str) or current not in releases):
        raise _Unsound(f"its current release is not one of its releases: {str(current)[:100]!r}")
    for name in files:
        if name not in releases:
            raise _Unsound(f"there are files of {name}, which is not one of its releases")
    for name in withdrawn:
        if name in releases:
            raise _Unsound(f"{name} is listed and withdrawn")


def past_of(snapshot: Metadata[Snapshot], channel: str) -> int:
    """Return the number of the snapshot that this one replaced; 0 for none.

    Raises:
        VerificationError: The number is missing, or cannot be an earlier one.
    """
    version = snapshot.signed.version
    try:
        own = _typed(snapshot.signed.unrecognized_fields.get(CUSTOM), dict, CUSTOM)
        return _number(own.get("previous"), "the number of the one before", version - 1)
    except _Unsound as error:
        raise malformed(channel, f"snapshot {version}", str(error)) from error


def _typed(value: Any, kind: type, what: str) -> Any:
    if not isinstance(value, kind):
        raise _Unsound(f"{what} is {type(value).__name__}, not {kind.__name__}")
    return value


def _name(value: Any, what: str) -> str:
    if not is_name(value):
        raise _Unsound(f"{what} has no name that it can have: {str(value)[:100]!r}")
    return str(value)


def _number(value: Any, what: str, limit: int) -> int:
    if type(value) is not int or not 0 <= value <= limit:
        raise _Unsound(f"{what} is not a number from 0 to {limit}")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT or re.search(r"[\ud800-\udfff]", value):
        raise _Unsound(f"{what} is not text of at most {_MAX_TEXT} characters")
    return value
