"""Appliances as folders: make one, list, check and lock them.

What goes in: arguments. What comes out: lines, or JSON.
"""

from __future__ import annotations

from json import dumps
from typing import Final

from slipway.commands.options import Checkout, all_names, chosen, described
from slipway.commands.output import show
from slipway.invocation import task

__all__ = ["TASKS", "TITLE"]

TITLE: Final = "Appliances"


@task(keyless=True, help=described("name", like="start from a copy of this appliance"))
def new(name: str, *, at: Checkout, like: str = "") -> None:
    """Make the folder of a new appliance, which validates, builds and passes its checks at once."""
    from slipway.errors import as_called

    folder = at.workshop().library.new(name, like or None)
    print(as_called(f"{folder}\nnext: edit {folder / 'appliance.yaml'}, then: invoke build {name}"))


@task(
    keyless=True, help=described("json", names="their names alone; with --json on one line, as a workflow's matrix wants them"), name="list"
)
def list_(*, at: Checkout, names: bool = False, json: bool = False) -> None:
    """Show the appliances there are."""
    if names:
        found = all_names(at.workshop())
        print(dumps(found) if json else "\n".join(found))
        return
    shop = at.workshop()
    rows = [
        {
            "name": each.name,
            "version": each.spec.version,
            "base": each.spec.base,
            "category": each.spec.category,
            "summary": each.spec.summary,
        }
        for each in shop.library.load_all(all_names(shop))
    ]
    show(rows, as_json=json)


@task(keyless=True, help=described("names", "all"))
def validate(names: list[str], *, at: Checkout, all: bool = False) -> None:
    """Check specs and everything that belongs to them: all, or those named. Every error is shown at once."""
    shop = at.workshop()
    wanted = chosen(shop, names, all) if names else all_names(shop)
    count = len(shop.library.load_all(wanted))
    print(f"{count} appliance{'s are' if count != 1 else ' is'} valid")


@task(keyless=True, help=described("names", "all", arch="processor architecture of the image, in Debian's words"))
def lock(names: list[str], *, at: Checkout, all: bool = False, arch: str = "amd64") -> None:
    """Resolve packages to exact versions and hashes, and say what changed."""
    from slipway.job import lock as make_lock
    from slipway.job import lock_path

    shop = at.workshop()
    for appliance in shop.library.load_all(chosen(shop, names, all)):
        made, difference = make_lock(shop, appliance, arch, fresh=True)
        path = lock_path(appliance, arch)
        if difference:
            print(f"{path}: {len(made.all_packages)} packages\n{difference}")
        else:
            print(f"{path}: {len(made.all_packages)} packages, nothing changed")


TASKS: Final = (
    new,
    list_,
    validate,
    lock,
)
