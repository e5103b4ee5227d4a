"""Options shared by several tasks, as groups, and the objects they open.

What goes in: the values of options. What comes out: the workshop, jobs, and the session of a store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from slipway.commandline.invocation import option

if TYPE_CHECKING:
    from slipway.channels.keys import KeyRing
    from slipway.channels.session import Session
    from slipway.job import Job, Workshop

__all__ = [
    "MADE",
    "Checkout",
    "Place",
    "Reading",
    "Recipe",
    "Working",
    "all_names",
    "at_least_one",
    "chosen",
    "described",
    "folders",
    "prepared",
    "require_folder",
    "require_formats",
    "require_words",
    "shared",
]

#: The help of --format for tasks that make nothing.
MADE: Final = "as it was built with: --format"
_HELP: Final = {
    "names": "appliances",
    "name": "an appliance",
    "all": "every appliance",
    "jobs": "how many appliances at once",
    "channel": "a channel; can be given again",
    "dry_run": "say what would be done, and change nothing",
    "yes": "do not ask",
    "from_": "the channel that has it",
    "build": "a build id, or a release (default: the current one)",
    "format": "make this format instead of those in the spec; can be given again",
    "firmware": "bios, uefi or secureboot",
    "built": "write into this directory where each finished release is, as <appliance>.json",
}


def described(*names: str, **more: str) -> dict[str, str]:
    """Return the help of a task's parameters: shared texts by name, others as given."""
    return {name: _HELP[name] for name in names} | more


def shared(name: str, default: Any) -> Any:
    """Declare a field of a group with a shared help text."""
    return option(default, _HELP[name])


@dataclass(frozen=True, slots=True)
class Checkout:
    """The folder of the appliances and templates."""

    root: str = option(".", "where appliances/ and templates/ are")

    def workshop(self) -> Workshop:
        """Return the surroundings for the pipeline."""
        from slipway.job import Workshop

        return Workshop(root=Path(self.root).absolute())


@dataclass(frozen=True, slots=True)
class Working(Checkout):
    """A checkout for a task of some length."""

    quiet: bool = option(False, "print results and errors alone")
    verbose: bool = option(False, "say more: why a stage is made, each check as it ends")

    def workshop(self) -> Workshop:
        """Return the surroundings for the pipeline.

        Raises:
            UsageError: Both ``--quiet`` and ``--verbose`` are given.
        """
        from slipway.errors import UsageError
        from slipway.job import Workshop
        from slipway.terminal.progress import Progress

        if self.quiet and self.verbose:
            raise UsageError("--quiet and --verbose exclude one another", hint="give one of them")
        progress = Progress(quiet=self.quiet, verbose=self.verbose)
        return Workshop(root=Path(self.root).absolute(), progress=progress)

    def words(self) -> list[str]:
        """Return these options for another process, without the checkout."""
        return ["--quiet"] * self.quiet + ["--verbose"] * self.verbose


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an image is made."""

    builder: str = option("mmdebstrap", "image builder")
    arch: str = option("amd64", "processor architecture of the image, in Debian's words")

    def words(self) -> list[str]:
        """Return these options for another process."""
        return [f"--builder={self.builder}", f"--arch={self.arch}"]


@dataclass(frozen=True, slots=True)
class Reading(Working):
    """A store to read, with the keys or roots of its channels."""

    store: str = option(
        "",
        "s3://bucket/prefix?options, a directory, or https://... to read "
        "(default: SLIPWAY_STORE, slipway.toml, or build/store)",
    )
    endpoint_url: str = option("", "the S3 server, where it is not Amazon's")
    keys: str = option(
        "", "the folder of channels' keys (default: SLIPWAY_KEYS, or ~/.config/slipway/keys)"
    )

    def open(
        self, *, new: bool = False, reading: bool = False, dry_run: bool = False
    ) -> tuple[Workshop, Session]:
        """Return the workshop and the session of the store.

        Args:
            new: Allow a store that begins now.
            reading: Nothing will be written.
            dry_run: Nothing will be written this time.

        Raises:
            OSError: The store is to be written, and cannot be.
        """
        from slipway.pipeline import session

        shop = self.workshop()
        single_writer = "1" if getattr(self, "single_writer", False) else ""
        opened = session(
            shop,
            self.store,
            keys=self.keys,
            new=new,
            reading=reading,
            endpoint_url=self.endpoint_url,
            single_writer=single_writer,
        )
        if not (reading or dry_run):
            opened.require_writable(keys=False)
        return shop, opened


@dataclass(frozen=True, slots=True)
class Place(Reading):
    """A store to change, with the keys of its channels."""

    single_writer: bool = option(
        False, "use a server that ignores conditional writes, and promise that nobody else writes"
    )

    def publishing(
        self, channel: str, *, dry_run: bool = False
    ) -> tuple[Workshop, Session, KeyRing | None]:
        """Return the workshop, the session and the channel's keys, for publishing.

        With ``dry_run``, the keys are None if publishing would make them.

        Raises:
            MissingKeys: The keys are not here, and publishing does not make them.
        """
        from slipway.channels.beginning import begins, publishing_ring

        shop, session = self.open(new=True, dry_run=dry_run)
        default_store = not self.store and shop.settings.store is None
        if dry_run and begins(session, channel, default_store=default_store):
            return shop, session, None
        return (
            shop,
            session,
            publishing_ring(session, channel, default_store=default_store, say=shop.progress.line),
        )


def chosen(shop: Workshop, names: Sequence[str], everything: bool) -> tuple[str, ...]:
    """Return the names of the appliances chosen on the command line.

    Raises:
        UsageError: No appliance is named, names and ``--all`` are both given, or none exists.
    """
    from slipway.errors import UsageError

    if bool(names) == everything:
        raise UsageError(
            "name appliances, or give --all"
            if not names
            else "name appliances or give --all, not both"
        )
    return tuple(dict.fromkeys(folders(names))) or all_names(shop)


def all_names(shop: Workshop) -> tuple[str, ...]:
    """Return the name of every appliance.

    Raises:
        UsageError: There is no appliance.
    """
    from slipway.errors import UsageError

    found = shop.library.names()
    if not found:
        hint = "another checkout is named by --root; to make an appliance: invoke new NAME"
        raise UsageError(f"there is no appliance in {shop.root / 'appliances'}", hint=hint)
    return found


def folders(names: Sequence[str]) -> list[str]:
    """Return names of appliances; a folder, as shells complete it, counts as its name.

    Raises:
        UsageError: One word has several names.
    """
    from slipway.errors import UsageError

    found = []
    for name in names:
        if "," in name:
            raise UsageError(
                f'"{name}" is not a name',
                hint=f"names are separated by spaces: {' '.join(name.split(','))}",
            )
        parts = Path(name).parts
        found.append(parts[-1] if len(parts) > 1 and parts[-2] == "appliances" else name)
    return found


def at_least_one(option: str, number: int) -> int:
    """Return a number from 1 on.

    Raises:
        UsageError: The number is less.
    """
    from slipway.errors import UsageError

    if number < 1:
        raise UsageError(f"{option} needs a number from 1 on, not {number}")
    return number


def require_folder(option: str, path: str) -> None:
    """Refuse a folder that takes no files.

    Raises:
        UsageError: The folder does not exist.
        OSError: The folder cannot be written.
    """
    from slipway.errors import UsageError
    from slipway.host.ownership import require_writable

    if not path:
        return
    if not Path(path).is_dir():
        raise UsageError(f"there is no folder {path}", hint=f"{option} needs an existing folder")
    require_writable(Path(path))


def require_words(builder: str, formats: Sequence[str]) -> None:
    """Refuse an unknown builder or format.

    Raises:
        UsageError: The builder or a format does not exist.
    """
    from slipway.builders import builder as find_builder

    find_builder(builder)
    require_formats(formats)


def require_formats(formats: Sequence[str]) -> None:
    """Refuse unknown formats.

    Raises:
        UsageError: A format does not exist, or one word has several.
    """
    from slipway.errors import UsageError
    from slipway.formats import load

    for each in formats:
        if "," in each:
            hint = (
                "give the option once for each: "
                f"{' '.join(f'--format {name}' for name in each.split(','))}"
            )
            raise UsageError(f'"{each}" is no format', hint=hint)
        load(each)


def prepared(
    shop: Workshop, names: Sequence[str], recipe: Recipe, formats: Sequence[str] = ()
) -> list[Job]:
    """Return jobs for appliances; find every error of every spec before anything is made.

    Raises:
        UsageError: An appliance, the builder or a format does not exist, or a base lacks this
            architecture.
    """
    from slipway.job import prepare
    from slipway.spec.scripts import load_checked

    require_words(recipe.builder, formats)
    appliances = load_checked(shop.library, folders(names))
    for appliance in appliances:
        appliance.base.architecture(recipe.arch)
    return [
        prepare(shop, appliance, builder=recipe.builder, architecture=recipe.arch, formats=formats)
        for appliance in appliances
    ]
