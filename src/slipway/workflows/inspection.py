"""A built disk -> its sizes by package and folder, and whether a second build is identical.

Both read the built image; nothing here changes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from slipway.cache import Entry
from slipway.disk.contents import Item, contents, differences
from slipway.errors import BuildError
from slipway.formats.raw import chunks
from slipway.host import process
from slipway.job import BOOTED, Job, Workshop
from slipway.pipeline import built_image, export

__all__ = ["raw_disk", "sizes", "verify_reproducible"]

#: How many differing files an error names.
_NAMED = 30
#: How deep the folders are that sizes are given for.
_DEPTH = 3


@contextmanager
def raw_disk(shop: Workshop, image: Path) -> Iterator[Path]:
    """Hold an image as a raw disk, in a scratch directory, for the block."""
    with shop.cache.scratch() as scratch:
        raw = scratch / "disk.raw"
        process.run(
            ["qemu-img", "convert", "-t", "unsafe", "-O", "raw", image, raw],
            what="unpacking the image",
        )
        yield raw


def sizes(shop: Workshop, job: Job) -> dict[str, list[dict[str, Any]]]:
    """Return rows of sizes in a built image, by package and by folder.

    A row has name, size and compressed, both in bytes; the largest come first. A file's compressed
    size is the file's alone, so the sum is a little more than the image.

    Raises:
        BuildError: The image is not built.
    """
    with shop.cache.keeping(), raw_disk(shop, built_image(shop, job)) as raw:
        items = contents(raw)
    packages = {path: item.package for path, item in items.items()}
    folders = {path: "/".join(path.split("/")[: _DEPTH + 1][:-1]) or "/" for path in items}
    return {"packages": _rows(items, packages), "folders": _rows(items, folders)}


def _rows(items: Mapping[str, Item], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the sums by name."""
    size: Counter[str] = Counter()
    compressed: Counter[str] = Counter()
    for path, item in items.items():
        size[names[path]] += item.size
        compressed[names[path]] += item.compressed
    return [
        {"name": name, "size": size[name], "compressed": count}
        for name, count in compressed.most_common()
        if size[name]
    ]


def verify_reproducible(shop: Workshop, job: Job) -> tuple[str, ...]:
    """Build twice more and compare: from an empty cache, and then from the layers in that cache.

    Returns:
        The formats found identical, bit for bit.

    Raises:
        BuildError: A build differs; the message names the files.
    """
    with shop.cache.keeping(), shop.cache.scratch() as place:
        first = export(shop, job)
        again = replace(shop, cache_directory=place)
        _require_same(shop, job, first, export(again, job), "an empty cache")
        for stage in job.plan.stages:
            if stage.kind.startswith("artifact:"):
                again.cache.drop(stage.id)
        _require_same(shop, job, first, export(again, job), "cached layers")
    return tuple(first)


def _require_same(
    shop: Workshop, job: Job, first: Mapping[str, Entry], second: Mapping[str, Entry], source: str
) -> None:
    """Raise BuildError, with the differences, unless two builds made the same artifacts."""
    differing = [
        name for name in first if first[name].facts["sha256"] != second[name].facts["sha256"]
    ]
    if not differing:
        return
    found = _explain(shop, first[BOOTED], second[BOOTED])
    more = [f"and {len(found) - _NAMED} more"] if len(found) > _NAMED else []
    lines = "\n".join(f"  {line}" for line in (*found[:_NAMED], *more))
    made = " and another ".join(differing)
    raise BuildError(
        f"a build of {job.name} from {source} made another {made}; what differs:\n{lines}",
        hint="look for times, random numbers and the order of files in what makes them",
    )


def _explain(shop: Workshop, first: Entry, second: Entry) -> list[str]:
    """Return the differences between two images: files; without any, the first byte of the disk."""
    with raw_disk(shop, first.file("disk")) as one, raw_disk(shop, second.file("disk")) as other:
        found = differences(contents(one), contents(other))
        if found:
            return found
        position = 0
        for left, right in zip(_blocks(one), _blocks(other), strict=False):
            if left != right:
                offset = next(
                    number
                    for number, pair in enumerate(zip(left, right, strict=False))
                    if pair[0] != pair[1]
                )
                return [f"no file; the disk from byte {position + offset} on"]
            position += len(left)
    return ["no byte of the disk; the images hold it differently"]


def _blocks(path: Path) -> Iterator[bytes]:
    """Yield a file in blocks of one size, whatever its holes."""
    rest = b""
    for chunk in chunks(path):
        rest += chunk
        while len(rest) >= 1 << 20:
            yield rest[: 1 << 20]
            rest = rest[1 << 20 :]
    yield rest
