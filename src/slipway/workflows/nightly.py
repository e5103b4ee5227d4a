"""A night's work: renew every lock, build and boot the changes, publish them with one commit, renew
signatures, prune.

Its two halves run in two processes: :func:`build_all` has no credentials, :func:`deliver` runs no
appliance's code. A failed appliance does not keep the others from being published. A second run at
once is a no-op.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway import pipeline
from slipway.channels.session import Session, describe
from slipway.errors import BuildError, UserError
from slipway.job import Workshop, lock, prepare

__all__ = ["Night", "build_all", "deliver"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """The result of a night: lines for people, in Markdown; failures and builds, by appliance."""

    lines: tuple[str, ...]
    failed: dict[str, UserError]
    releases: dict[str, Path]

    def require_success(self) -> None:
        """Raise if an appliance failed.

        Raises:
            BuildError: An appliance failed; the lines say why.
        """
        if self.failed:
            raise BuildError(
                f"{len(self.failed)} appliances failed: {', '.join(self.failed)}",
                hint="the lines above say why",
            )


def build_all(
    shop: Workshop, *, names: Sequence[str] = (), builder: str = "mmdebstrap", arch: str = "amd64"
) -> Night:
    """Renew locks and build, for the given appliances or for all.

    Raises:
        UsageError: There is no such appliance, or no base is for this architecture.
    """
    lines: list[str] = []
    failed: dict[str, UserError] = {}
    releases: dict[str, Path] = {}
    appliances = shop.library.load_all(names)
    if appliances and not any(arch in each.base.architectures for each in appliances):
        appliances[0].base.architecture(arch)
    for appliance in appliances:
        try:
            _, difference = lock(shop, appliance, arch, fresh=True)
            lines += (
                [
                    f"* {appliance.name}: lock renewed",
                    *(f"  {line}" for line in str(difference).splitlines()),
                ]
                if difference
                else []
            )
            job = prepare(shop, appliance, builder=builder, architecture=arch)
            with shop.progress.group(job.headline):
                releases[appliance.name] = pipeline.build(shop, job).folder
        except UserError as error:
            failed[appliance.name] = error
            lines += [
                f"* {appliance.name}: **failed**",
                "",
                *(f"      {line}" for line in str(error).splitlines()),
                "",
            ]
            shop.progress.line(str(error))
    return Night(lines=tuple(lines), failed=failed, releases=releases)


def deliver(
    shop: Workshop, session: Session, folders: Sequence[Path], channel: str = "nightly"
) -> tuple[list[str], dict[str, UserError]]:
    """Publish a night's builds, renew signatures and prune, each even if the steps before failed.

    Returns:
        Lines for people, in Markdown; and the problems, by release or by step.
    """
    lines: list[str] = []
    problems: dict[str, UserError] = {}
    try:
        moves = pipeline.publish(shop, folders, session, channel, problems) if folders else []
        changed = [moved for moved in moves if moved.written]
        lines += [f"* {line}" for moved in changed for line in describe(moved)] or [
            "* nothing new to publish"
        ]
    except UserError as error:
        problems["publish"] = error
    try:
        session.refresh([channel], lambda line: lines.append(f"* warning: {line}"))
    except UserError as error:
        problems["refresh"] = error
    try:
        for name, releases in session.prune([channel]).get(channel, {}).items():
            lines.append(f"* {name}: {len(releases)} old releases dropped")
    except UserError as error:
        problems["prune"] = error
    return [
        *lines,
        *(f"* {name}: **failed**: {error.message}" for name, error in problems.items()),
    ], problems
