"""This machine: what it can do, and what its cache holds.

What goes in: arguments. What comes out: lines, or JSON.
"""

from __future__ import annotations

from typing import Final

from slipway.commands.options import Checkout, described
from slipway.commands.output import show
from slipway.invocation import task

__all__ = ["TASKS", "TITLE"]

TITLE: Final = "This machine"


@task(keyless=True, help=described("json"))
def doctor(*, at: Checkout, json: bool = False) -> None:
    """Show what this host can do, what is missing, and the command that installs it."""
    from slipway.doctor import examine
    from slipway.errors import HostError

    findings = examine(at.workshop())
    if json:
        show([finding.record for finding in findings], as_json=True)
    else:
        for finding in findings:
            print(finding.line)
    missing = [finding.name for finding in findings if finding.state == "missing"]
    if missing:
        raise HostError(f"missing: {', '.join(missing)}", hint="the commands above install it")


@task(
    keyless=True,
    help=described("json", action="prune: remove what was not used for the longest time, down to the limit", to="keep at most so many GiB"),
)
def cache(action: str = "", *, at: Checkout, to: int = -1, json: bool = False) -> None:
    """Show what the cache of finished stages holds, or prune it."""
    from slipway.errors import UsageError
    from slipway.progress import size

    if action not in ("", "prune"):
        raise UsageError(f'cache has no action "{action}"', hint="there is: prune")
    store = at.workshop().cache
    if action == "prune":
        removed = store.prune(keep_bytes=to * 2**30 if to >= 0 else None)
        print(f"{len(removed)} entries removed, {size(sum(entry.size for entry in removed))}")
        return
    rows = [{"id": entry.id[:12], "kind": entry.kind, "size": entry.size if json else size(entry.size)} for entry in store.usage()]
    show(rows, as_json=json)
    if not json:
        print(f"{store.directory}: {size(sum(entry.size for entry in store.usage()))} of {size(store.limit_bytes)}")


TASKS: Final = (
    doctor,
    cache,
)
