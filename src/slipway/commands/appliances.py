"""Appliances as folders: make one, list, check and lock them.

Takes arguments; prints lines, or JSON.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slipway.commandline.answer import Answer
from slipway.commandline.invocation import task
from slipway.commands.options import Checkout, Working, all_names, chosen, described, folders
from slipway.commands.output import say, show
from slipway.commands.shapes import Appliance, GivenValue, Listing, Lock, Locked, Valid
from slipway.terminal.text import one_line

if TYPE_CHECKING:
    from slipway.packages.locked import Lock as Packages
    from slipway.packages.locked import LockDiff

__all__ = ["TASKS", "TITLE"]

TITLE: Final = "Appliances"


@task(keyless=True, help=described("name", like="start from a copy of this appliance"))
def new(name: str, *, at: Checkout, like: str = "") -> None:
    """Make the folder of a new appliance, ready to validate, build and pass its checks."""
    folder = at.workshop().library.new(name, folders([like])[0] if like else None)
    say(f"{folder}\nnext: edit {folder / 'appliance.yaml'}, then: invoke build {name}")


@task(
    keyless=True,
    help={
        "names": (
            "their names alone; with --json as an array on one line, as a workflow's "
            "matrix wants them"
        )
    },
    name="list",
)
def list_(*, at: Checkout, answer: Answer, names: bool = False) -> None:
    """Show the appliances."""
    if names:
        found = all_names(at.workshop())
        answer.tell_line(list(found))
        print("\n".join(found))
        return
    shop = at.workshop()
    rows = [
        Appliance(
            name=each.name,
            version=each.spec.version,
            base=each.spec.base,
            category=each.spec.category,
            summary=each.spec.summary,
        )
        for each in shop.library.load_all(all_names(shop))
    ]
    answer.tell(Listing(appliances=rows))
    show(asdict(row) for row in rows)


@task(keyless=True, help=described("names", "all"))
def validate(names: list[str], *, at: Checkout, answer: Answer, all: bool = False) -> None:
    """Check specs and their files: all, or the named ones. Every error is shown at once."""
    from slipway.boot.delivery import samples
    from slipway.spec.scripts import load_checked

    shop = at.workshop()
    wanted = chosen(shop, names, all) if names else all_names(shop)
    found = load_checked(shop.library, wanted)
    given = [
        GivenValue(appliance=each.name, parameter=name, value=value)
        for each in found
        for name, value in samples(each.spec.parameters).items()
    ]
    answer.tell(Valid(appliances=[each.name for each in found], given=given))
    for one in given:
        print(
            one_line(f"{one.appliance}: {one.parameter} has no default: checks give it {one.value}")
        )
    count = len(found)
    print(f"{count} appliance{'s are' if count != 1 else ' is'} valid")


@task(
    keyless=True,
    help=described(
        "names",
        "all",
        arch="processor architecture of the image, in Debian's words; with --qemu, of this host",
        qemu="the QEMU that runs machines where there is no KVM, too; alone, only that",
    ),
)
def lock(
    names: list[str],
    *,
    at: Working,
    answer: Answer,
    all: bool = False,
    arch: str = "amd64",
    qemu: bool = False,
) -> None:
    """Resolve packages to exact versions and hashes, and show the changes."""
    from slipway.job import lock as make_lock
    from slipway.job import lock_path, lock_qemu

    shop = at.workshop()
    wanted = shop.library.load_all(chosen(shop, names, all)) if names or all or not qemu else ()
    locks: list[Lock] = []
    answer.tell(Locked(locks=locks))
    for appliance in wanted:
        made, difference = make_lock(shop, appliance, arch, fresh=True)
        locks.append(_locked(appliance.name, arch, lock_path(appliance, arch), made, difference))
    for path, (made, difference) in lock_qemu(shop, arch, fresh=True).items() if qemu else ():
        locks.append(_locked("", arch, path, made, difference))


def _locked(appliance: str, arch: str, path: Path, made: Packages, difference: LockDiff) -> Lock:
    """Print the changes of a lock, and return its record."""
    packages = len(made.all_packages)
    print(
        f"{path}: {packages} packages\n{difference}"
        if difference
        else f"{path}: {packages} packages, nothing changed"
    )
    changes = str(difference).splitlines() if difference else []
    return Lock(
        appliance=appliance, architecture=arch, path=str(path), packages=packages, changes=changes
    )


TASKS: Final = (
    new,
    list_,
    validate,
    lock,
)
