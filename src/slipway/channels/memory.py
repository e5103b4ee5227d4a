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
from slipway.channels.keys import KeyRing, Seen, seen_from
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
            HostError: Others can write the file or its folder, or the file is damaged.
        """
        try:
            require_private(self.path.parent)
            require_private(self.path)
            data = json.loads(self.path.read_text())
            seen = seen_from(data["seen"]) if data["seen"] else None
            return Known(
                seen=self._newer(seen),
                begun={int(number): str(sha256) for number, sha256 in data["begun"].items()},
            )
        except FileNotFoundError:
            return Known(seen=self.floor)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise HostError(
                f"{self.path} cannot be understood: {error}",
                hint=f"restore it from a backup, or look with: invoke recover {self.channel}",
            ) from error
        except OSError as error:
            raise HostError(
                f"{self.path} cannot be read: {error.strerror}",
                hint="its owner can allow you to read it",
            ) from error

    def _newer(self, seen: Seen | None) -> Seen | None:
        """Return the newer one of the remembered state and the floor."""
        states = [each for each in (seen, self.floor) if each is not None]
        return max(states, key=lambda state: state.timestamp, default=None)

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
            try:
                known = self.load()
            except HostError:
                if not damaged:
                    raise
                known = Known()
            after = change(known)
            if damaged or not self.path.exists() or _hourly(after) != _hourly(known):
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
    name = hashlib.sha256(place.encode()).hexdigest()[:16]
    path = _folder(ring) / f"{channel}-{name}.json"
    return Memory(path, store=place, channel=channel, floor=ring.seen.get(place) if ring else None)


def seen_by(ring: KeyRing) -> dict[str, Seen]:
    """Return the states seen here of a ring's channel, by the name of the store.

    Raises:
        HostError: A memory is damaged, or others can write it.
    """
    found = {}
    for path in sorted(_folder(ring).glob(f"{ring.channel}-{'[0-9a-f]' * 16}.json")):
        memory = Memory(path, store="", channel=ring.channel)
        seen = memory.load().seen
        if seen is not None:
            found[str(json.loads(path.read_text())["store"])] = seen
    return found


def _folder(ring: KeyRing | None) -> Path:
    """Return the folder for the memories of a ring's channel."""
    if not os.environ.get(STATE) and ring is not None and ring.folder is not None:
        return ring.folder / "seen"
    return default_state() / "publishers"
