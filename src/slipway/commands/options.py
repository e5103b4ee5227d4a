"""Options that several tasks share, as groups, and what they open.

What goes in: the values of options. What comes out: the workshop, jobs, and the session of a store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slipway.invocation import option

if TYPE_CHECKING:
    from slipway.channels.session import Session
    from slipway.job import Job, Workshop

__all__ = ["Checkout", "Place", "Recipe", "chosen", "described", "prepared"]

_HELP: Final = {
    "names": "appliances",
    "name": "an appliance",
    "json": "print JSON",
    "all": "every appliance",
    "jobs": "how many appliances at once",
    "channel": "a channel; can be given again",
    "dry_run": "say what would be removed, and remove nothing",
    "yes": "do not ask",
    "from_": "the channel that has it",
    "build": "a build id, or a release; without it the current one",
    "format": "make this format instead of those in the spec; can be given again",
    "firmware": "bios, uefi or secureboot",
    "built": "write into this directory where each finished release is, as <appliance>.json",
}


def described(*names: str, **more: str) -> dict[str, str]:
    """Return the help of a task's parameters: shared texts by name, others as given."""
    return {name: _HELP[name] for name in names} | more


@dataclass(frozen=True, slots=True)
class Checkout:
    """Where appliances and templates are."""

    root: str = option(".", "where appliances/ and templates/ are")

    def workshop(self) -> Workshop:
        """Return what the pipeline works with."""
        from slipway.job import Workshop

        return Workshop(root=Path(self.root).absolute())


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an image is made."""

    builder: str = option("mmdebstrap", "image builder")
    arch: str = option("amd64", "processor architecture of the image, in Debian's words")

    def words(self) -> list[str]:
        """Return these options for another process."""
        return [f"--builder={self.builder}", f"--arch={self.arch}"]


@dataclass(frozen=True, slots=True)
class Place(Checkout):
    """A store, with the keys of its channels."""

    store: str = option(
        "", "s3://bucket/prefix?options, a directory, or https://... to read; without it SLIPWAY_STORE, slipway.toml, or build/store"
    )
    endpoint_url: str = option("", "the S3 server, where it is not Amazon's")
    single_writer: bool = option(False, "use a server that ignores conditional writes, and promise that nobody else writes")
    keys: str = option("", "where the keys of channels are; without it SLIPWAY_KEYS, or ~/.config/slipway/keys")

    def open(self, *, new: bool = False, reading: bool = False) -> tuple[Workshop, Session]:
        """Return what a task about a store works with; with ``new``, the store may begin now."""
        from slipway.pipeline import session

        shop = self.workshop()
        single_writer = "1" if self.single_writer else ""
        return shop, session(
            shop, self.store, keys=self.keys, new=new, reading=reading, endpoint_url=self.endpoint_url, single_writer=single_writer
        )


def chosen(shop: Workshop, names: Sequence[str], everything: bool) -> tuple[str, ...]:
    """Return the appliances that a command is about.

    Raises:
        UsageError: None is named, or some and all.
    """
    from slipway.errors import UsageError

    if bool(names) == everything:
        raise UsageError("name appliances, or give --all" if not names else "name appliances or give --all, not both")
    return tuple(dict.fromkeys(names)) or shop.library.names()


def prepared(shop: Workshop, names: Sequence[str], recipe: Recipe, formats: Sequence[str] = ()) -> list[Job]:
    """Return jobs for appliances; every error of every spec is found before anything is made."""
    from slipway.job import prepare

    appliances = shop.library.load_all(names)
    return [prepare(shop, appliance, builder=recipe.builder, architecture=recipe.arch, formats=formats) for appliance in appliances]
