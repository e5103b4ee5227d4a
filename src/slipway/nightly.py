"""A night's work: renew every lock, build and boot what changed, publish it with one commit, renew signatures, prune.

An appliance that fails does not keep the others from being published. Run again at once, it finds nothing to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway import pipeline
from slipway.channels.session import Session, describe
from slipway.errors import BuildError, UserError
from slipway.job import Workshop, lock, prepare

__all__ = ["Night", "nightly"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """What became of a night: lines for people, in Markdown, and what failed, by appliance."""

    lines: tuple[str, ...]
    failed: dict[str, UserError]

    def require_success(self) -> None:
        """Raise if an appliance failed.

        Raises:
            BuildError: One did; the lines say why.
        """
        if self.failed:
            raise BuildError(f"{len(self.failed)} appliances failed: {', '.join(self.failed)}", hint="the lines above say why")


def nightly(
    shop: Workshop,
    session: Session,
    *,
    names: Sequence[str] = (),
    channel: str = "nightly",
    builder: str = "mmdebstrap",
    arch: str = "amd64",
) -> Night:
    """Do it for the appliances named, or for all."""
    lines: list[str] = []
    failed: dict[str, UserError] = {}
    folders: list[Path] = []
    for appliance in shop.library.load_all(names):
        try:
            _, difference = lock(shop, appliance, arch, fresh=True)
            lines += [f"* {appliance.name}: lock renewed", *(f"  {line}" for line in str(difference).splitlines())] if difference else []
            job = prepare(shop, appliance, builder=builder, architecture=arch)
            shop.progress.line(job.headline)
            folders.append(pipeline.build(shop, job).folder)
        except UserError as error:
            failed[appliance.name] = error
            lines += [f"* {appliance.name}: **failed**", "", *(f"      {line}" for line in str(error).splitlines()), ""]
            shop.progress.line(str(error))
    if folders:
        moves = pipeline.publish(shop, folders, session, channel)
        changed = [moved for moved in moves if moved.written]
        lines += [f"* {line}" for moved in changed for line in describe(moved)]
        lines += [] if changed else ["* nothing new to publish"]
        session.refresh([channel])
        dropped = session.prune([channel]).get(channel, {})
        lines += [f"* {name}: {len(releases)} old releases dropped" for name, releases in dropped.items()]
    return Night(lines=tuple(lines), failed=failed)
