"""Remember the newest state of a channel, so that a publisher never signs on top of an older one.

Each channel and store has one file: the newest state a command read or made, and the snapshots that
commands here began. It is kept with the channel's keys, in ``<keys>/<channel>/seen/``. If
``SLIPWAY_STATE`` is set, or the keys are in no folder, it is kept in the user's state directory. A
bundle of keys brings along the states seen before its export.

Invariants: A state is remembered before a command reports success, and before anything is signed on
top of it. The memory never goes back, except by `invoke recover`. A snapshot is noted before it is
created.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from slipway.cache import create_file
from slipway.channels.keys import BUNDLE, KeyRing, Seen, newer, seen_from
from slipway.channels.places import place_of, private_folder, require_private
from slipway.errors import HostError
from slipway.settings import STATE, default_state
from slipway.stores import Store

__all__ = ["Known", "Memory", "Seen", "memory_of", "seen_by"]

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Everything known here of a channel.

    ``begun`` has the hashes of the snapshots that commands here began, by number.
    """

    seen: Seen | None = None
    begun: Mapping[int, str] = field(default_factory=dict)


class Memory:
    """The file of one channel in one store.

    Args:
        path: The file; its folder is made on the first write.
        floor: A state seen elsewhere. It counts unless a newer one is remembered.
    """

    def __init__(self, path: Path, *, store: str, channel: str, floor: Seen | None = None) -> None:
        self.path, self.store, self.channel, self.floor = path, store, channel, floor

    def load(self) -> Known:
        """Read the memory.

        Raises:
            HostError: Others can write the file or its folder, it is damaged, or it contradicts the
                floor.
        """
        return self._above_floor(self._kept())

    def _kept(self) -> Known:
        """Read the file alone."""
        try:
            require_private(self.path.parent)
            require_private(self.path)
            data = json.loads(self.path.read_text())
            seen = seen_from(data["seen"]) if data["seen"] else None
            return Known(
                seen=seen,
                begun={int(number): str(sha256) for number, sha256 in data["begun"].items()},
            )
        except FileNotFoundError:
            return Known()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self.unintelligible(str(error)) from error
        except OSError as error:
            raise HostError(
                f"{self.path} cannot be read: {error.strerror}",
                hint="ask its owner for read permission",
            ) from error

    def unintelligible(self, problem: str) -> HostError:
        """Return the error for a file that is damaged."""
        return HostError(
            f"{self.path} cannot be understood: {problem}",
            hint=f"restore it from a backup, or inspect it with: invoke recover {self.channel}",
        )

    def _above_floor(self, known: Known) -> Known:
        """Return what is remembered, or the floor where that is newer."""
        if known.seen is None or self.floor is None:
            return replace(known, seen=known.seen or self.floor)
        try:
            return replace(known, seen=newer(known.seen, self.floor))
        except ValueError as error:
            raise HostError(
                f"{self.path} and {BUNDLE} do not agree about the channel {self.channel}: {error}",
                hint="the channel's keys signed both; inspect it with: "
                f"invoke recover {self.channel}",
            ) from error

    def begin(self, number: int, sha256: str) -> bool:
        """Note a snapshot that is about to be created.

        Returns:
            False, with nothing noted, if another one was begun here under this number. An
            interrupted commit may have left that one in the store.
        """
        free = False

        def noted(known: Known) -> Known:
            nonlocal free
            free = known.begun.get(number, sha256) == sha256
            return replace(known, begun={number: sha256, **known.begun})

        self._update(noted)
        return free

    def remember(self, seen: Seen) -> None:
        """Keep a state, unless a newer one is known."""

        def newer(known: Known) -> Known:
            if known.seen and known.seen.timestamp > seen.timestamp:
                return known
            kept = (
                seen if known.seen is None else replace(seen, root=max(seen.root, known.seen.root))
            )
            # A commit on top of this state takes a higher number than any of the dropped ones.
            return Known(
                seen=kept,
                begun={
                    number: sha256
                    for number, sha256 in known.begun.items()
                    if number > seen.snapshot
                },
            )

        self._update(newer)

    def reset(self, seen: Seen | None) -> None:
        """Make this state the newest one, whatever was known."""
        self._update(lambda known: Known(seen=seen), damaged=True)

    def _update(self, change: Callable[[Known], Known], *, damaged: bool = False) -> None:
        with self._locked():
            kept = Known() if damaged else self._kept()
            after = change(kept if damaged else self._above_floor(kept))
            if damaged or not self.path.exists() or _hourly(after) != _hourly(kept):
                self._write(after)

    def _write(self, known: Known) -> None:
        record: dict[str, Any] = {
            "format": _FORMAT,
            "store": self.store,
            "channel": self.channel,
            "seen": asdict(known.seen) if known.seen else None,
            "begun": {str(number): sha256 for number, sha256 in sorted(known.begun.items())},
        }
        try:
            with create_file(self.path, mode=0o600) as file:
                file.write((json.dumps(record, indent=1) + "\n").encode())
        except OSError as error:
            raise self._unkept(error) from error

    def _unkept(self, error: OSError) -> HostError:
        return HostError(
            f"what was seen of the channel {self.channel} cannot be kept in {self.path.parent}: "
            f"{error.strerror}",
            hint=f"name a folder that lasts: {STATE}",
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of this memory's folder."""
        try:
            private_folder(self.path.parent)
            descriptor = os.open(
                self.path.parent / ".lock",
                os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC,
                0o600,
            )
        except OSError as error:
            raise self._unkept(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _hourly(known: Known) -> Known:
    """Return the memory with its time in hours: looking again soon writes nothing."""
    return (
        replace(known, seen=replace(known.seen, time=known.seen.time // 3600))
        if known.seen
        else known
    )


def memory_of(store: Store, ring: KeyRing | None, channel: str) -> Memory:
    """Return the memory of a channel in a store, beside its keys or in the state directory."""
    place = place_of(store)
    path = _folder_file(_folder(ring), channel, place)
    return Memory(path, store=place, channel=channel, floor=ring.seen.get(place) if ring else None)


def seen_by(ring: KeyRing) -> dict[str, Seen]:
    """Return the states of a ring's channel seen here and by its bundle's maker, by store.

    Raises:
        HostError: A memory is damaged, or others can write it.
    """
    found = dict(ring.seen)
    for path in sorted(_folder(ring).glob(f"{ring.channel}-{'[0-9a-f]' * 16}.json")):
        place = _store_of(path, ring.channel)
        seen = Memory(path, store=place, channel=ring.channel, floor=found.get(place)).load().seen
        if seen is not None:
            found[place] = seen
    return found


def _store_of(path: Path, channel: str) -> str:
    """Return the name of a memory's store, and refuse a file under another store's name.

    Raises:
        HostError: It is damaged, or others can write it.
    """
    memory = Memory(path, store="", channel=channel)
    memory.load()
    place = json.loads(path.read_text()).get("store")
    if not isinstance(place, str) or path != _folder_file(path.parent, channel, place):
        raise memory.unintelligible("it does not name its store")
    return place


def _folder_file(folder: Path, channel: str, place: str) -> Path:
    """Return the file of a channel in a store, in the folder of memories."""
    return folder / f"{channel}-{hashlib.sha256(place.encode()).hexdigest()[:16]}.json"


def _folder(ring: KeyRing | None) -> Path:
    """Return the folder for the memories of a ring's channel."""
    if not os.environ.get(STATE) and ring is not None and ring.folder is not None:
        return ring.folder / "seen"
    return default_state() / "publishers"
