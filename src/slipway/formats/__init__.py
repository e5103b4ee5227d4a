"""Image formats: a raw disk -> one file of a format, and what is known about it.

A format is one module of this package with a class of its capitalised name (``qcow2.py`` has
``Qcow2``); there is no list of them. Invariants: the same raw disk gives the same bytes, on any
number of processors; an output file gets its name only when it is whole, and, where another program
wrote it, found to hold what the raw disk holds.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from slipway.errors import BuildError, UsageError, suggestion

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

    Sizes are in bytes, hashes 64 hexadecimal digits. What is called uncompressed is the raw disk
    that the file was made from; ``compression`` names the algorithm that is used inside or around
    the file, or is None. ``fingerprints`` are, for metadata of images that others identify so, the
    SHA-256 of this file and that of another format together.
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
        """Plain data, as it stands in a cache entry and in the manifest."""
        facts = asdict(self)
        if not self.fingerprints:
            del facts["fingerprints"]
        return facts

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any], *, file: str | None = None) -> Artifact:
        """The artifact that :meth:`facts` described, under another file name if one is given."""
        return cls(**{**facts, "file": file or facts["file"]})


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """The machine that a disk is made for, for formats that hold more than the disk.
    ``architecture`` is in Debian's words; ``interfaces`` have a name and a summary, ``parameters``
    are those of the spec; ``system`` is the operating system's name for people, ``epoch`` the time
    of its packages in seconds since 1970. ``images`` are the finished files of the formats that the
    one to be made needs.
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
    """The machine that an appliance is made for."""
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
    """What every format does.

    ``suffix`` ends its files' names (``.qcow2``); ``tools`` are the programs whose versions shape
    its output, as :func:`slipway.tools.tool_versions` takes them, and ``builds_on`` other modules,
    here or (with a slash) below slipway, whose code does; ``described`` are templates that it fills
    in with what it is told of the machine, None where it makes no use of that; ``kernel`` is the
    one that the machine needs, where it needs one; ``needs`` are other formats that have to be
    beside this one: it is made from their finished files, or of no use without them. ``sized`` says
    that the file holds the size that a machine sees.
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
        """The tools whose versions shape the file, with the engine of templates where it fills any
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
        """Make ``output`` from a raw disk; an existing file of that name is replaced.

        Args:
            raw: The disk as it was built: as small as its content allows, and never written to.
            virtual_size: The size in bytes that a machine shall see, at least that of ``raw``. A
                format that stores the disk's bare content leaves it to the one who unpacks it.
            log: A file that the output of programs is appended to.
            about: The machine; has to be given to formats that describe it.

        Raises:
            BuildError: A program failed, or the output does not hold what the raw disk holds.
            HostError: A program is missing, or there is no space left.
        """
        ...


@cache
def names() -> tuple[str, ...]:
    """The formats that exist, sorted."""
    return tuple(
        sorted(
            module.name
            for module in pkgutil.iter_modules(__path__)
            if not module.name.startswith("_")
        )
    )


def load(name: str) -> Format:
    """The format of a name.

    Raises:
        UsageError: There is none.
    """
    if name not in names():
        raise UsageError(
            f'there is no format "{name}"',
            hint=suggestion(name, names()) or f"there is: {', '.join(names())}",
        )
    module = importlib.import_module(f"{__name__}.{name}")
    return cast(Format, getattr(module, name.capitalize())())


def with_needed(wanted: Sequence[str]) -> tuple[str, ...]:
    """These formats and what they need, each after what it needs."""
    found: dict[str, None] = {}
    for name in wanted:
        found |= dict.fromkeys((*with_needed(load(name).needs), name))
    return tuple(found)


def smallest(artifacts: Iterable[Artifact]) -> int:
    """Return the size of the smallest file that holds a machine by itself, in bytes; 0 if there is
    none.

    What needs another format's file beside it, such as metadata or a description, does not.
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
    """Make sure that an appliance with this kernel can be had in a format.

    Raises:
        BuildError: The machine that the format describes has hardware that the kernel has no
            drivers for.
    """
    if form.kernel not in (None, kernel):
        raise BuildError(
            f"the machine of an {form.name} has hardware that the {kernel} kernel of {appliance} "
            "has no drivers for",
            hint=f"set in the spec: kernel: {form.kernel}",
        )


def file_name(appliance: str, release: str, architecture: str, form: Format) -> str:
    """What the file of a release in a format is called."""
    return f"{appliance}-{release}.{architecture}{form.suffix}"
