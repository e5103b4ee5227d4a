"""A store's pages and indexes follow its channels.

What goes in: the workshop and a store's session. What comes out: the objects of
:mod:`slipway.catalog`, and the releases without a place in them. Invariant: indexes are views, so a
failure here changes no channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipway.errors import HostError, UserError
from slipway.job import Workshop

if TYPE_CHECKING:
    from slipway.channels.session import Session
    from slipway.records.manifest import Manifest

__all__ = ["Indexed", "update_catalog", "write_catalog"]


def update_catalog(shop: Workshop, session: Session) -> None:
    """Make a store's indexes follow its channels, if it has any.

    Nothing trusts these views. A failure here is reported, and changes to a channel stand.
    """
    from slipway import catalog

    try:
        if catalog.exists(session.store):
            write_catalog(shop, session)
    except UserError as error:
        shop.progress.line(f"the catalog does not follow every channel: {error}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """The result for a store's indexes.

    ``changed`` are the keys of changed objects. ``shown`` counts the releases shown; ``hidden``
    names the others. ``warnings`` are about channels shown in spite of a problem.
    """

    changed: list[str]
    shown: int
    hidden: list[str]
    warnings: list[str]


def write_catalog(
    shop: Workshop, session: Session, *, left_out: list[str] | None = None, dry_run: bool = False
) -> Indexed:
    """Write a store's indexes.

    Args:
        left_out: Gets a line for each untrusted channel; without it, such a channel is an error.
        dry_run: Only report the objects to change.

    Raises:
        HostError: No channel is trusted here.
    """
    from slipway.catalog import INDEXED, read_catalog, write
    from slipway.channels.expiry import Expired, require_fresh
    from slipway.channels.session import Untrusted, require_none

    channels, problems = session.readable()
    for name, error in problems.items():
        if isinstance(error, Untrusted):
            if left_out is None:
                raise error
            left_out.append(f"left out: {name}: {error.message}")
    require_none({name: error for name, error in problems.items() if isinstance(error, HostError)})
    if problems and not channels:
        require_none(
            {name: error for name, error in problems.items() if not isinstance(error, Untrusted)}
        )
        raise HostError(
            f"no channel of {session.store.url} is trusted here, so no index is written: "
            f"{', '.join(problems)}",
            hint=(
                "put the root of a channel, from its publisher, "
                f"into {session.trust}/CHANNEL.root.json"
            ),
        )
    found = read_catalog(session.store, channels)
    changed = write(session.store, found, shop.library.root / "templates", dry_run=dry_run)
    require_none(problems)  # what can be read is in the catalog; what cannot is not
    hidden = [
        f"{offer.manifest.ref} in {offer.channel}: it was made as "
        f"{_formats(offer.manifest)}, and indexes show {' and '.join(INDEXED)}"
        for offer in found.hidden
    ]
    warnings = []
    for channel in channels:
        try:
            require_fresh(channel, session.clock())
        except Expired as error:
            warnings.append(f"{error.message}: its readers refuse it; run: {error.todo}")
    return Indexed(changed=changed, shown=found.shown, hidden=hidden, warnings=warnings)


def _formats(manifest: Manifest) -> str:
    return ", ".join(sorted(artifact.format for artifact in manifest.artifacts)) or "nothing"
