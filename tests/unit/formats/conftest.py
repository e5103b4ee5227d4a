"""A small disk with data, zeros that were written, and holes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """24 MiB: a hole, text, noise, a part that is zeros but no hole, and a hole at the end; the same each time."""
    path = tmp_path / "disk.raw"
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
