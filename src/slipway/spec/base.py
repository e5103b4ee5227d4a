"""Bases: operating system releases for appliances, ``templates/bases/<name>/base.yaml`` and its
folder.

What goes in: a folder. What comes out: a :class:`Base`, or every error of its files at once. No
distribution is built in: another one, or another architecture, is another folder or another entry
in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from slipway.errors import UsageError
from slipway.spec.folder import SourceFile, read_files
from slipway.spec.model import Names, SpecModel, Summary
from slipway.spec.patterns import FILE_NAME, GUID, IMAGE_PATH, IMAGE_PATHS, WORD
from slipway.spec.text import Document, read_document
from slipway.spec.validation import validate

__all__ = ["Architecture", "Base", "Suite", "read_base"]

Word = Annotated[str, Field(pattern=WORD)]
ImagePath = Annotated[str, Field(pattern=IMAGE_PATH)]
ImagePaths = Annotated[str, Field(pattern=IMAGE_PATHS)]


class Suite(SpecModel):
    """One suite of one archive of packages."""

    suite: Word = Field(description="As in sources.list(5): trixie-updates.")
    archive: Literal["debian", "debian-security"] = Field(description="Which archive it is in.")


class Kernels(SpecModel):
    """The packages of each kernel on offer to specs."""

    cloud: Names = Field(description="Packages of the small kernel for virtual machines.")
    generic: Names = Field(description="Packages of the kernel with drivers for everything.")


class Architecture(SpecModel):
    """The specifics of one processor architecture."""

    kernels: Kernels = Field(description="Packages of each kernel.")
    packages: Names = Field(
        default=(), description="Packages on this architecture only: boot loaders."
    )
    qemu: dict[str, str] = Field(description="How QEMU is called: system, machine.")
    root_partition_type: str = Field(pattern=GUID, description="GUID of the root partition's type.")
    bios: bool = Field(default=False, description="Whether the disk also starts by BIOS.")
    efi_files: tuple[tuple[ImagePath, Annotated[str, Field(pattern=FILE_NAME)]], ...] = Field(
        default=(), description="Signed boot loaders: path in the image, name in EFI/BOOT."
    )


class BaseFile(SpecModel):
    """The text of base.yaml."""

    name: Word = Field(description="Name of the base, and of its folder.")
    summary: Summary = Field(description="What it is, in one line.")
    distribution: Literal["debian"] = Field(description="The distribution.")
    release: Word = Field(description="The release's code name.")
    suites: tuple[Suite, ...] = Field(min_length=1, description="Where packages come from.")
    components: tuple[Word, ...] = Field(
        min_length=1, description="Components of the archive: main."
    )
    keyring: str = Field(
        default="archive-keyring.asc",
        pattern=FILE_NAME,
        description="Keys that sign the archive, a file in the folder.",
    )
    packages: Names = Field(
        min_length=1, description="What every appliance has, on every architecture."
    )
    left_out: tuple[ImagePaths, ...] = Field(
        default=(), description="Files of packages that are left out: patterns, as in dpkg.cfg(5)."
    )
    initramfs_modules: tuple[Word, ...] = Field(
        default=(), description="Kernel modules in the initramfs."
    )
    architectures: dict[Word, Architecture] = Field(
        min_length=1, description="What differs by architecture."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """One operating system release; ``files`` go over the root before an appliance's own."""

    name: str
    summary: str
    distribution: str
    release: str
    suites: tuple[Suite, ...]
    components: tuple[str, ...]
    keyring: str
    packages: tuple[str, ...]
    left_out: tuple[str, ...]
    initramfs_modules: tuple[str, ...]
    architectures: Mapping[str, Architecture]
    folder: Path
    files: tuple[SourceFile, ...] = ()

    def architecture(self, name: str) -> Architecture:
        """Return the specifics of an architecture.

        Raises:
            UsageError: The base is not for this architecture.
        """
        if name not in self.architectures:
            known = ", ".join(sorted(self.architectures))
            raise UsageError(
                f'the base {self.name} is not for the architecture "{name}"',
                hint=f"it is for: {known}",
            )
        return self.architectures[name]


def read_base(folder: Path, shown: Path) -> tuple[Base | None, Document]:
    """Read a base; None, and errors in the document, if anything in its folder is wrong.

    Args:
        folder: Its existing folder.
        shown: The folder's path in errors.
    """
    document = read_document(folder / "base.yaml", shown / "base.yaml")
    text = validate(document, BaseFile)
    name, keyring = document.data.get("name"), document.data.get("keyring", "archive-keyring.asc")
    if isinstance(name, str) and name != folder.name:
        document.error(
            ("name",),
            f'name: "{name}" differs from the folder\'s name, "{folder.name}"',
            "rename one of the two",
        )
    if (
        isinstance(keyring, str)
        and not document.known_bad(("keyring",))
        and not (folder / keyring).is_file()
    ):
        document.error(
            ("keyring",),
            f"keyring: there is no file {shown / keyring}",
            "put the keys that sign the archive there",
        )
    files = read_files(folder / "files", shown / "files", document.errors)
    if text is None or document.errors:
        return None, document
    fields = {name: getattr(text, name) for name in BaseFile.model_fields}
    return Base(**fields, folder=folder, files=files), document
