"""Image formats: a raw disk -> one file of a format, with its sizes, hashes and compression.

A format is one module of this package with a class of its capitalised name (``qcow2.py`` has
``Qcow2``); there is no list of them.

Invariants: the same raw disk gives the same bytes, on any number of processors. An output file gets
its name only when it is complete. If another program wrote it, it was also compared with the disk.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from slipway.errors import BuildError, UsageError, choose

if TYPE_CHECKING:
    from slipway.builders import Source

__all__ = [
    "Artifact",
    "Description",
    "Format",
    "describe",
    "file_name",
    "load",
    "names",
    "require",
    "smallest",
    "with_needed",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One file of a release.

    Sizes are in bytes, hashes are 64 hexadecimal digits. ``uncompressed_size`` and
    ``uncompressed_sha256`` describe the raw disk behind the file. ``compression`` names the
    algorithm used inside or around the file; None is no compression. ``fingerprints`` maps formats
    to the SHA-256 of this file followed by the other format's file: Incus and LXD identify split
    images so.
    """

    format: str
    file: str
    size: int
    sha256: str
    uncompressed_size: int
    uncompressed_sha256: str
    compression: str | None
    fingerprints: Mapping[str, str] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """Return plain data for a cache entry or the manifest."""
        facts = asdict(self)
        if not self.fingerprints:
            del facts["fingerprints"]
        return facts

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any], *, file: str | None = None) -> Artifact:
        """Return the artifact behind :meth:`facts`, under another file name if one is given."""
        return cls(**{**facts, "file": file or facts["file"]})


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """The machine around a disk, for formats with more than the disk in them.

    ``architecture`` is in Debian's words. ``interfaces`` have a name and a summary; ``parameters``
    are the spec's. ``system`` is the operating system's name for people. ``epoch`` is the time of
    its packages in seconds since 1970. ``images`` are the finished files of the formats in
    ``needs``.
    """

    name: str
    version: str
    summary: str
    architecture: str
    system: str
    kernel: str
    epoch: int
    cpus: int
    memory_mib: int
    interfaces: Sequence[Any]
    parameters: Sequence[Any]
    templates: Path
    images: Mapping[str, Path] = field(default_factory=dict)


def describe(source: Source) -> Description:
    """Return the description of an appliance's machine."""
    spec = source.appliance.spec
    return Description(
        name=spec.name,
        version=spec.version,
        summary=spec.summary,
        architecture=source.lock.architecture,
        system=source.appliance.base.summary,
        kernel=spec.kernel,
        epoch=source.lock.source_date_epoch,
        cpus=spec.resources.cpus,
        memory_mib=spec.resources.memory_mib,
        interfaces=spec.interfaces,
        parameters=() if source.bare else spec.parameters,
        templates=source.templates,
    )


class Format(Protocol):
    """The interface of every format.

    Attributes:
        suffix: The end of its files' names (``.qcow2``).
        tools: Programs whose versions shape its output, for :func:`slipway.tools.tool_versions`.
        builds_on: Modules whose code shapes its output, here or (with a slash) below slipway.
        described: Templates to fill in from the description; None if it makes no use of one.
        kernel: The kernel that the machine's hardware needs, if only one has the drivers.
        needs: Formats beside this one. It is made from their finished files, or useless without
            them.
        sized: Whether the file holds the size of the disk that a machine sees.
    """

    name: str
    suffix: str
    tools: tuple[str, ...]
    builds_on: tuple[str, ...] = ("_image", "raw")
    described: tuple[str, ...] | None = None
    kernel: str | None = None
    needs: tuple[str, ...] = ()
    sized: bool = False

    @property
    def versioned(self) -> tuple[str, ...]:
        """The tools whose versions shape the file, and the engine of templates if it fills any
        in.
        """
        return (*self.tools, *(["python:jinja2"] if self.described else []))

    def export(
        self,
        raw: Path,
        output: Path,
        *,
        virtual_size: int,
        log: Path,
        about: Description | None = None,
    ) -> Artifact:
        """Make ``output`` from a raw disk, replacing an existing file.

        Args:
            raw: The disk as built: as small as its content allows. It is never written to.
            virtual_size: The disk's size in bytes for a machine, at least the size of ``raw``.
                Formats with the disk's bare content ignore it: unpacking decides.
            log: A file for the output of programs, appended to.
            about: The machine; required by formats that describe it.

        Raises:
            BuildError: A program failed, or the output differs from the raw disk.
            HostError: A program is missing, or there is no space left.
        """
        ...


@cache
def names() -> tuple[str, ...]:
    """Return the names of all formats, sorted."""
    return tuple(
        sorted(
            module.name
            for module in pkgutil.iter_modules(__path__)
            if not module.name.startswith("_")
        )
    )


def load(name: str) -> Format:
    """Return the format of a name.

    Raises:
        UsageError: No format has this name.
    """
    if name not in names():
        raise UsageError(
            f'there is no format "{name}"',
            hint=choose(name, names()),
        )
    module = importlib.import_module(f"{__name__}.{name}")
    return cast(Format, getattr(module, name.capitalize())())


def with_needed(wanted: Sequence[str]) -> tuple[str, ...]:
    """Return these formats and their needs, each after its needs."""
    found: dict[str, None] = {}
    for name in wanted:
        found |= dict.fromkeys((*with_needed(load(name).needs), name))
    return tuple(found)


def smallest(artifacts: Iterable[Artifact]) -> int:
    """Return the size in bytes of the smallest file with a whole machine in it, or 0.

    Files that need another format's file, such as metadata or a description, do not count.
    """
    return min(
        (
            artifact.size
            for artifact in artifacts
            if artifact.format in names() and not load(artifact.format).needs
        ),
        default=0,
    )


def require(form: Format, appliance: str, kernel: str) -> None:
    """Refuse a format whose machine the appliance's kernel cannot drive.

    Raises:
        BuildError: The kernel has no drivers for the hardware of the format's machine.
    """
    if form.kernel not in (None, kernel):
        raise BuildError(
            f"the machine of an {form.name} has hardware that the {kernel} kernel of {appliance} "
            "has no drivers for",
            hint=f"set in the spec: kernel: {form.kernel}",
        )


def file_name(appliance: str, release: str, architecture: str, form: Format) -> str:
    """Return the name of a release's file in a format."""
    return f"{appliance}-{release}.{architecture}{form.suffix}"
