"""This machine: its abilities, and the content of its cache.

Takes arguments; prints lines, or JSON.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from slipway.commandline.answer import Answer, stamp
from slipway.commandline.invocation import task
from slipway.commands.options import Checkout
from slipway.commands.output import show
from slipway.commands.shapes import Cache, CacheEntry, Finding, Findings

if TYPE_CHECKING:
    from slipway.cache import Usage

__all__ = ["TASKS", "TITLE"]

#: "No limit": a number that cannot be typed (:mod:`slipway.commandline.arguments`).
_NO_LIMIT: Final = -(10**9)

TITLE: Final = "This machine"


@task(keyless=True)
def doctor(*, at: Checkout, answer: Answer) -> None:
    """Show this host's abilities, the missing ones, and the commands to install them."""
    from slipway.errors import HostError
    from slipway.workflows.doctor import examine

    shop = at.workshop()
    findings = examine(shop)
    answer.tell(Findings(findings=[Finding(**finding.record) for finding in findings]))
    for finding in findings:
        print(finding.line)
    sys.stdout.flush()
    _ = shop.settings  # its errors have their lines
    missing = [finding.name for finding in findings if finding.state == "missing"]
    if missing:
        raise HostError(
            f"missing: {', '.join(missing)}", hint="each line with an arrow says what to do"
        )


@task(
    keyless=True,
    help=dict(
        action="prune: remove what was not used for the longest time, down to the limit",
        limit="with prune: keep at most this many GiB (default: cache_limit_gib)",
    ),
)
def cache(action: str = "", *, at: Checkout, limit: int = _NO_LIMIT, answer: Answer) -> None:
    """Show the finished stages in the cache, or prune it."""
    from slipway.errors import UsageError
    from slipway.terminal.progress import size

    if action not in ("", "prune"):
        raise UsageError(f'cache has no action "{action}"', hint="choose from: prune")
    if limit != _NO_LIMIT and (action != "prune" or limit < 0):
        raise UsageError("--limit goes with cache prune, and needs a number from 0 on")
    store = at.workshop().cache
    removed = (
        store.prune(keep_bytes=limit * 2**30 if limit >= 0 else None) if action == "prune" else []
    )
    usage = store.usage()
    total = sum(entry.size for entry in usage)
    entries, gone = ([_entry(each) for each in found] for found in (usage, removed))
    answer.tell(
        Cache(
            folder=str(store.directory),
            limit=store.limit_bytes,
            size=total,
            entries=entries,
            removed=gone,
        )
    )
    if action == "prune":
        print(f"{len(removed)} entries removed, {size(sum(entry.size for entry in removed))}")
        return
    show({"id": entry.id[:12], "kind": entry.kind, "size": size(entry.size)} for entry in usage)
    print(f"{store.directory}: {size(total)} of {size(store.limit_bytes)}")


def _entry(found: Usage) -> CacheEntry:
    return CacheEntry(
        id=found.id,
        kind=found.kind,
        size=found.size,
        used=stamp(found.used) if found.used else None,
    )


TASKS: Final = (
    doctor,
    cache,
)
