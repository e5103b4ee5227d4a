"""All orders in which actors can do their operations at a store: their real code, one operation at
a time.

Each actor is a thread. It stops before each operation that others could notice or disturb, and a
scheduler lets one of them go on. A run is a list of such choices; the search repeats runs from the
beginning and tries every choice. Two runs that come to the same world (the objects, the clock, and
what each actor has seen so far) go on in the same way, so the second one ends there. Reads of
numbered metadata, which nobody changes, belong to the operation before them. Time does not pass
between the check of a deadline and the swap or the deletion after it: no program can see to that.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from memory_store import MemoryStore
from slipway.errors import StoreError, UserError
from slipway.stores import MAX_READ, Blob, Status, Store
from store_faults import WrappedStore

__all__ = ["Search", "World"]

#: What is changed in place, so that a read of it may see this or that.
_MUTABLE = ("timestamp.json", "gc/lease")
_PATIENCE_S = 60


class _Stopped(BaseException):
    """The run is over before its actors are."""


@dataclass
class World:
    """A store and a clock, which the test's actors share."""

    now: float
    store: MemoryStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = MemoryStore(lambda: self.now)

    def copy(self) -> World:
        """Return a world of its own with the same objects and time."""
        other = World(self.now)
        other.store = self.store.copy(lambda: other.now)
        return other


Act = Callable[[World, Store], object]


class _Actor(WrappedStore):
    """An actor's view of the store: it stops before what others could notice."""

    def __init__(self, name: str, act: Act, world: World) -> None:
        super().__init__(world.store)
        self.name, self.act, self.world = name, act, world
        self.seen = hashlib.sha256()
        self.refused: UserError | None = None
        self.failure: BaseException | None = None
        self.done = self.stopped = False
        self.checked = False  # it waits between the check of a deadline and what follows
        self.steps = 0
        self._go: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._waits: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        self._waits.get(timeout=_PATIENCE_S)

    def _run(self) -> None:
        try:
            self._stop()
            self.act(self.world, self)
        except UserError as error:
            self.refused = error
        except _Stopped:
            pass
        except BaseException as error:
            self.failure = error
        self.done = True
        self._waits.put(True)

    def _stop(self, *, checked: bool = False) -> None:
        self.checked = checked
        if self.stopped:
            raise _Stopped
        self._waits.put(True)
        if not self._go.get(timeout=_PATIENCE_S):
            self.stopped = True
            raise _Stopped

    def step(self) -> None:
        """Let it do one operation, up to the next one or its end."""
        self.steps += 1
        self._go.put(True)
        self._waits.get(timeout=_PATIENCE_S)
        if self.failure:
            raise self.failure

    def end(self) -> None:
        """End it where it is."""
        if not self.done:
            self._go.put(False)
        self.thread.join(_PATIENCE_S)

    def _saw(self, result: object) -> Any:
        self.seen.update(repr(result).encode())
        return result

    def write(self, key: str, size: int, act: Callable[[], Any], *, checked: bool = False) -> Any:
        self._stop(checked=checked)
        try:
            return self._saw(act())
        except StoreError as error:
            self._saw(str(error))
            raise

    def swap(self, key: str, data: bytes, *, etag: str | None) -> str:
        return str(
            self.write(key, len(data), lambda: self.store.swap(key, data, etag=etag), checked=True)
        )

    def delete(self, key: str) -> None:
        self.write(key, 0, lambda: self.store.delete(key), checked=True)

    def read(self, key: str, *, limit: int = MAX_READ) -> Blob:
        if key.endswith(_MUTABLE):
            self._stop()
        blob = super().read(key)
        self._saw(blob.data)
        return blob

    def list(self, prefix: str = "") -> Iterator[Status]:
        self._stop()
        found = list(super().list(prefix))
        self._saw(found)
        return iter(found)

    def stat(self, key: str) -> Status | None:
        self._stop()
        found: Status | None = self._saw(super().stat(key))
        return found

    def now(self) -> float:
        return float(self._saw(super().now()))


def _able(actors: Mapping[str, _Actor]) -> list[str]:
    """Return who may do the next step."""
    able = [name for name, actor in actors.items() if not actor.done]
    checked = any(actor.checked for actor in actors.values() if not actor.done)
    return [name for name in able if name != "sleep" or not checked]


@dataclass
class Search:
    """The search of all orders.

    Args:
        begin: The world that every run begins with.
        actors: What each does, with its view of the store; one named "sleep" lets time pass.
        require: Looks at the world after a run; raises AssertionError for a loss.
    """

    begin: World
    actors: Mapping[str, Act]
    require: Callable[[World], None]
    current: Callable[[World], None] = lambda world: None
    seen: set[str] = field(default_factory=set)
    runs: int = 0
    whole: int = 0

    def search(self) -> None:
        """Try every order; raise AssertionError, with the order, for the first loss."""
        waiting: list[tuple[str, ...]] = [()]
        while waiting:
            self.runs += 1
            waiting += self._run(waiting.pop())

    def _run(self, chosen: tuple[str, ...]) -> list[tuple[str, ...]]:
        """Do a run that begins with these choices.

        Return those that others could have made on its way.
        """
        world = self.begin.copy()
        self.current(world)
        actors = {name: _Actor(name, act, world) for name, act in self.actors.items()}
        order: list[str] = []
        others: list[tuple[str, ...]] = []
        try:
            while able := _able(actors):
                if len(order) >= len(chosen):
                    if not self._is_new(world, actors):
                        return others
                    # The last one goes on; each of the others could.
                    last = order[-1] if order and order[-1] in able else able[0]
                    others += [(*order, name) for name in able if name != last]
                    order.append(last)
                else:
                    order.append(chosen[len(order)])
                actors[order[-1]].step()
            self.whole += 1
            try:
                self.require(world)
            except AssertionError as error:
                raise AssertionError(f"{error}; in the order {' '.join(order)}") from error
        finally:
            for actor in actors.values():
                actor.end()
        return others

    def _is_new(self, world: World, actors: Mapping[str, _Actor]) -> bool:
        state = hashlib.sha256(f"{world.store.digest()} {world.now}".encode())
        for actor in actors.values():
            state.update(f"{actor.done} {actor.steps} {actor.seen.hexdigest()} ".encode())
        key = state.hexdigest()
        new = key not in self.seen
        self.seen.add(key)
        return new
