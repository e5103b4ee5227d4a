"""A small disk with data, zeros that were written, and holes; and the machine that it could be
for.
"""

from __future__ import annotations

import random
from functools import cache
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


@cache
def _contents() -> tuple[bytes, bytes]:
    """The text and the noise; they take longer to make than to write."""
    return b"".join(b"line %d of many\n" % number for number in range(150_000)), random.Random(
        1
    ).randbytes(5 * MIB + 777)


def write_disk(path: Path) -> Path:
    """24 MiB: a hole, text, noise, a part that is zeros but no hole, and a hole at the end; the
    same each time.
    """
    text, noise = _contents()
    with path.open("wb") as file:
        file.seek(1 * MIB)
        file.write(text)
        file.seek(9 * MIB)
        file.write(noise)
        file.write(bytes(2 * MIB))
        file.write(b"the end of the data")
        file.truncate(24 * MIB)
    return path
