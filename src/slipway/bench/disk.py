"""A program: make the raw disk of an appliance, and nothing from it; print the seconds of each
stage as JSON.

Arguments: the root and the appliance's name. It exists to be measured: `invoke build` goes on from
the disk to formats and records.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slipway.job import Workshop, prepare
from slipway.pipeline import disk
from slipway.terminal.progress import Progress, Step

__all__ = ["main"]


class _Timed(Progress):
    """Progress with a memory of each step's seconds."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.took: dict[str, float] = {}

    @contextmanager
    def step(self, label: str) -> Iterator[Step]:
        with super().step(label) as step:
            yield step
        self.took[label] = round(time.monotonic() - step.started, 3)


def main(root: Path, name: str) -> int:
    """Make the disk and print the seconds."""
    started = time.monotonic()
    progress = _Timed()
    shop = Workshop(root=root, progress=progress)
    job = prepare(shop, shop.library.load(name), builder="mmdebstrap", architecture="amd64")
    job.logs.mkdir(parents=True, exist_ok=True)
    progress.took["plan"] = round(time.monotonic() - started, 3)
    with shop.cache.scratch() as scratch, disk(shop, job, None, scratch):
        ready = time.monotonic()
    progress.took["storing the layers, after the disk"] = round(time.monotonic() - ready, 3)
    sys.stdout.write(json.dumps(progress.took) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2]))
