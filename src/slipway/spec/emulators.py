"""``templates/qemu/qemu.yaml``: the packages with emulators, possibly newer than the host's.

:func:`read_emulators` reads the folder and returns :class:`Emulators`, or raises every error of the
file at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from slipway.errors import SpecErrors
from slipway.spec.model import Names, SpecModel
from slipway.spec.patterns import WORD
from slipway.spec.text import read_document
from slipway.spec.validation import validate

__all__ = ["Emulators", "read_emulators"]


class Emulators(SpecModel):
    """The text of qemu.yaml."""

    base: Annotated[str, Field(pattern=WORD)] = Field(
        description="The base whose archives have the packages."
    )
    packages: dict[Annotated[str, Field(pattern=WORD)], Names] = Field(
        min_length=1, description="Packages by emulated processor: qemu-system-x86 by x86_64."
    )


def read_emulators(folder: Path) -> Emulators:
    """Read the file of a folder.

    Raises:
        SpecErrors: The file is wrong; all errors at once.
    """
    document = read_document(folder / "qemu.yaml")
    text = validate(document, Emulators)
    if text is None:
        raise SpecErrors(document.errors)
    return text
