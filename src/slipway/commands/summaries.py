"""The end of builds and publications: sizes, times, the next command; a table for a workflow.

What goes in: releases, and the durations of their steps. What comes out: lines for people, and rows
of the job's summary (:mod:`slipway.terminal.summary`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from slipway.commands.output import warn
from slipway.errors import UserError
from slipway.terminal.progress import Progress, seconds, size
from slipway.terminal.summary import add_table

if TYPE_CHECKING:
    from slipway.channels.moves import Moved
    from slipway.records.release import Release

__all__ = ["BuildSummary", "publication_table"]

#: How many steps are named, and from how many seconds on.
_NAMED, _NAMED_S = 3, 1.0


class BuildSummary:
    """Builds one after the other, with the outcome of each."""

    def __init__(self) -> None:
        self._rows: list[Sequence[object]] = []
        self._took_s = 0.0

    @contextmanager
    def row(self, name: str) -> Iterator[None]:
        """Measure a build; a failed one has its row, too."""
        begun = time.monotonic()
        try:
            yield
        except UserError as error:
            reason = error.message.partition("\n")[0]
            self._rows.append((name, f"failed: {reason}", "", "", ""))
            raise
        finally:
            self._took_s = time.monotonic() - begun

    def add(self, release: Release) -> None:
        """Add a finished build: the last one measured."""
        manifest = release.manifest
        boot = manifest.boot
        checks = f"{len(boot['checks'])} passed" if boot else "not booted"
        files = ", ".join(f"{each.format} {size(each.size)}" for each in manifest.artifacts)
        self._rows.append(
            (manifest.appliance, manifest.release, checks, files, seconds(self._took_s))
        )

    def lines(self, progress: Progress, release: Release, *, last: bool) -> list[str]:
        """Return a build's last lines: its durations and, if it is the last, the next command."""
        longest = sorted(progress.took.items(), key=lambda each: -each[1])[:_NAMED]
        parts = ", ".join(f"{label} {seconds(took)}" for label, took in longest if took >= _NAMED_S)
        lines = [f"  {seconds(self._took_s):>10}  in all{': ' * bool(parts)}{parts}"]
        if not last:
            return lines
        name = release.manifest.appliance
        publish = f"invoke publish {name}, or: " if release.manifest.boot_passed else ""
        return [*lines, f"next: {publish}invoke start {name}"]

    @contextmanager
    def written(self) -> Iterator[None]:
        """Write the job's summary after the block, however it ends."""
        try:
            yield
        finally:
            _add("Builds", ("appliance", "release", "checks", "images", "time"), self._rows)


def publication_table(
    moves: Sequence[Moved], channel: str, refused: Mapping[str, UserError]
) -> None:
    """Write a publication into the job's summary."""
    rows: list[Sequence[object]] = []
    for moved in moves:
        total = sum(count for blobs in moved.blobs for count, _ in blobs.files.values())
        became = "published" if moved.written else "there already"
        rows.append((moved.appliance, moved.release, channel, became, size(total)))
    rows += [
        (name, "", channel, f"refused: {error.message}", "") for name, error in refused.items()
    ]
    _add("Publication", ("appliance", "release", "channel", "outcome", "size"), rows)


def _add(title: str, headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Add a table to the job's summary; if that fails, only warn, as the work itself is done."""
    try:
        add_table(title, headings, rows)
    except OSError as error:
        warn(f"the job's summary has no table of this: {error}")
