"""A small disk with data, zeros that were written, and holes; and the machine that it could be for."""

from __future__ import annotations

import random
from pathlib import Path

from slipway.formats import Description
from slipway.spec.model import Interface, Parameter

__all__ = ["ABOUT", "MIB", "write_disk"]

MIB = 1 << 20
ABOUT = Description(
    name="thing",
    version="1.2.0",
    summary='A <thing> & "more"',
    architecture="amd64",
    system="Debian 13 (trixie)",
    kernel="generic",
    epoch=1_790_000_000,
    cpus=2,
    memory_mib=2048,
    interfaces=(Interface(name="outside"), Interface(name="inside", summary="The office")),
    parameters=(
        Parameter(name="domain", type="hostname", default="a.test", summary="Its <name>"),
        Parameter(name="password", type="secret", generate=20, summary="Of the admin"),
        Parameter(name="mode", type="string", choices=("one", "two"), default="one", summary="How"),
        Parameter(name="log", type="boolean", default="true", summary="Whether"),
    ),
    templates=Path(__file__).parents[2] / "templates",
)


def write_disk(path: Path) -> Path:
    """24 MiB: a hole, text, noise, a part that is zeros but no hole, and a hole at the end; the same each time."""
    chance = random.Random(1)
    with path.open("wb") as file:
        file.seek(1 * MIB)
        file.write(b"".join(b"line %d of many\n" % number for number in range(150_000)))
        file.seek(9 * MIB)
        file.write(chance.randbytes(5 * MIB + 777))
        file.write(bytes(2 * MIB))
        file.write(b"the end of the data")
        file.truncate(24 * MIB)
    return path
