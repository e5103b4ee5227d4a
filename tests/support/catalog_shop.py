"""A store with two channels, whose catalog is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from example_disk import ABOUT
from example_release import write_release_folder
from slipway.catalog import read_catalog, write
from slipway.channels import moves
from slipway.channels.keys import init
from slipway.channels.layout import channels_in
from slipway.channels.state import Channel, read_channel
from slipway.stores.directory import DirectoryStore

__all__ = ["CREATED", "METADATA", "Shop"]

CREATED = 1_780_000_000
METADATA = b"metadata"


class Shop:
    """A store with two channels and what is in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = DirectoryStore(folder / "store")
        self.rings = {name: init(name, folder / "keys") for name in ("nightly", "stable")}

    def publish(self, build: str, **changes: Any) -> None:
        """Publish a build with the formats that indexes tell of to nightly."""
        images = {
            "qcow2": build.encode(),
            "rootfs": build.encode() * 2,
            "ova": build.encode() * 3,
            "incus": METADATA,
        }
        fields = {
            "images": images,
            "build": build,
            "release": f"1.0.0-{build}",
            "created": CREATED,
            **changes,
        }
        folder = write_release_folder(self.folder / build, **fields).folder
        moves.publish_all(self.store, self.rings["nightly"], [folder])

    def promote(self, build: str) -> None:
        """Put a build of nightly into stable."""
        moves.promote(
            self.store,
            self.rings["stable"],
            lambda: self.read("nightly"),
            "example",
            f"1.0.0-{build}",
        )

    def read(self, channel: str) -> Channel:
        return read_channel(self.store, channel, self.rings[channel].roots[0])

    def write(self) -> list[str]:
        return write(
            self.store,
            read_catalog(self.store, map(self.read, channels_in(self.store))),
            ABOUT.templates,
        )

    def json(self, key: str) -> Any:
        return json.loads(self.store.read(key).data)

    def products(self) -> Any:
        return self.json("streams/v1/images.json")["products"]
