"""The commands: each task reads its arguments, calls slipway and prints. `invoke --list` shows them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke import Context

from slipway.invocation import task

if TYPE_CHECKING:
    from slipway.pipeline import Workshop

NAMES: dict[str, Any] = {"positional": ["names"], "iterable": ["names"]}
HELP = {
    "root": "where appliances/ and templates/ are",
    "names": "appliances; none means all",
    "name": "the appliance",
    "json": "print JSON",
    "all": "every appliance",
    "arch": "processor architecture of the image, as Debian names it",
    "builder": "image builder",
    "store": "where to publish: a directory; by default what slipway.toml or SLIPWAY_STORE say, or build/store",
    "format": "make this format only, instead of those in the spec",
    "boot": "boot the image and run its checks",
    "firmware": "bios, uefi or secureboot",
}


def described(*names: str, **more: str) -> dict[str, str]:
    """The help texts of a task's arguments."""
    return {name.replace("_", "-"): HELP[name] for name in names} | {name.replace("_", "-"): text for name, text in more.items()}


def workshop(root: str) -> Workshop:
    """What the pipeline works with."""
    from slipway.pipeline import Workshop

    return Workshop(root=Path(root))


def show(rows: Iterable[Mapping[str, Any]], *, as_json: bool, columns: Iterable[str] = ()) -> None:
    """Print a listing: as JSON, or in columns as wide as what stands in them."""
    found = list(rows)
    if as_json:
        print(json.dumps(found, indent=2, sort_keys=True))
        return
    names = list(columns) or (list(found[0]) if found else [])
    widths = [max((len(str(row[name])) for row in found), default=0) for name in names]
    for row in found:
        print("  ".join(f"{row[name]!s:<{width}}" for name, width in zip(names, widths, strict=True)).rstrip())


@task(help=described("root", "json"), name="list")
def list_(_: Context, root: str = ".", json: bool = False) -> None:
    """Show the appliances there are."""
    appliances = workshop(root).library.load_all()
    rows = [
        {"name": each.name, "version": each.spec.version, "base": each.spec.base, "category": each.spec.category, "summary": each.spec.summary}
        for each in appliances
    ]
    show(rows, as_json=json)


@task(help=described("names", "root"), **NAMES)
def validate(_: Context, names: list[str], root: str = ".") -> None:
    """Check specs, their folders, templates, bases and mix-ins; every error is shown at once."""
    appliances = workshop(root).library.load_all(names)
    print(f"{len(appliances)} appliance{'s are' if len(appliances) != 1 else ' is'} valid")
