"""A program for tests of races: builds one appliance again and again, with a builder whose disk
takes no time.

All but the disk is the real thing: plans, locks, the cache, formats, records. Arguments: what to
do, the root, and of builds the rounds and a seed. A line is printed for each release that is whole.
"""

from __future__ import annotations

import hashlib
import random
import select
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, cast

from slipway import job, pipeline
from slipway.builders import Builder, Source, Workplace
from slipway.builders.mmdebstrap import Mmdebstrap
from slipway.job import Workshop, prepare
from slipway.plan import Plan
from slipway.rendering.render import Rendered

#: What the disk of the appliance holds.
DISK = hashlib.sha256(b"a disk").digest() * 65_536


class Quick(Mmdebstrap):
    """The default builder, with layers of a few bytes that stand in the cache as those of a tree
    do.
    """

    @contextmanager
    def disk(
        self, plan: Plan, rendered: Rendered, source: Source, workplace: Workplace
    ) -> Iterator[Path]:
        """Have each layer, from the cache or made now, and a disk of them."""
        cache = workplace.cache
        for stage in plan.stages:
            if stage.kind in ("base", "packages", "tree"):
                with cache.locked(stage.id):
                    entry = cache.verified(stage.id)
                    if entry is None:
                        entry = cache.add(
                            stage.id, stage.kind, {"layer.tar.zst": partial(_fill, stage.id)}
                        )
                    if entry.file("layer.tar.zst").read_bytes() != stage.id.encode() * 1000:
                        raise AssertionError(f"{stage.kind} holds something else")
        with cache.scratch() as scratch:
            raw = scratch / "disk.raw"
            raw.write_bytes(DISK)
            yield raw


def _fill(text: str, file: IO[bytes]) -> None:
    file.write(text.encode() * 1000)


def build(root: Path, rounds: int, seed: str) -> None:
    """Build so many times.

    Sometimes what there is of releases goes first, so that the cache is asked.
    """
    dice = random.Random(seed)
    for _ in range(rounds):
        shop = Workshop(root=root)
        ready = prepare(shop, shop.library.load("thing"), builder="quick", architecture="amd64")
        if dice.random() < 0.5:
            (ready.outputs / "plan.json").unlink(missing_ok=True)
        release = pipeline.build(shop, ready, boot=False)
        for artifact in release.manifest.artifacts:
            found = hashlib.sha256((release.folder / artifact.file).read_bytes()).hexdigest()
            if found != artifact.sha256:
                raise AssertionError(f"{artifact.file} is not what its manifest says")
        sys.stdout.write("whole\n")
        sys.stdout.flush()


def prune(root: Path) -> None:
    """Remove from the cache whatever may go, until standard input ends."""
    removed = 0
    while not select.select([sys.stdin], [], [], 0.01)[0]:
        removed += len(Workshop(root=root).cache.prune(keep_bytes=0))
    sys.stdout.write(f"{removed}\n")


def look(root: Path) -> None:
    """Look for the image, as `start` and `sizes` do, until standard input ends."""
    seen = 0
    shop = Workshop(root=root)
    ready = prepare(shop, shop.library.load("thing"), builder="quick", architecture="amd64")
    while not select.select([sys.stdin], [], [], 0.001)[0]:
        for stage in ready.plan.stages:
            seen += shop.cache.verified(stage.id) is not None
    sys.stdout.write(f"{seen}\n")


if __name__ == "__main__":
    quick = cast(Builder, Quick())
    job.find_builder = lambda name: quick  # type: ignore[attr-defined]
    assert shutil.which("qemu-img")
    where = Path(sys.argv[2])
    if sys.argv[1] == "build":
        build(where, int(sys.argv[3]), sys.argv[4])
    else:
        {"prune": prune, "look": look}[sys.argv[1]](where)
