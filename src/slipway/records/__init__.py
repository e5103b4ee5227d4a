"""The records of a build: manifest, checksums, SBOM, provenance.

Pure functions; nothing here writes a file.
"""

from __future__ import annotations

import json
from typing import Any, Protocol

__all__ = ["Download", "Package", "Wheel", "canonical_json"]


class Package(Protocol):
    """A locked package, for records; :class:`slipway.packages.lock.LockedPackage` is one."""

    @property
    def name(self) -> str:
        """Its binary package's name."""

    @property
    def version(self) -> str:
        """Its Debian version, with the epoch if it has one."""

    @property
    def architecture(self) -> str:
        """amd64, arm64, ..., or all."""

    @property
    def sha256(self) -> str:
        """The hash of the .deb file."""

    @property
    def archive(self) -> str:
        """Its archive: ``debian``, ``debian-security``, or a source's name in a spec."""


class Wheel(Protocol):
    """A package of PyPI: :class:`slipway.packages.locked.LockedWheel` is one."""

    @property
    def name(self) -> str:
        """Its name, as PEP 503 normalizes it."""

    @property
    def version(self) -> str:
        """Its version (PEP 440)."""

    @property
    def sha256(self) -> str:
        """The hash of its file."""


class Download(Protocol):
    """A file outside packages; :class:`slipway.spec.model.Download` is one."""

    @property
    def url(self) -> str:
        """The address of its source."""

    @property
    def sha256(self) -> str:
        """The hash of its bytes, in hexadecimal digits."""

    @property
    def path(self) -> str:
        """Its place in the image."""


def canonical_json(data: Any) -> bytes:
    """Return JSON in the one form of records: sorted keys, two spaces, UTF-8, a newline at the
    end.
    """
    return (
        json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    ).encode()
