"""A look at a build before it begins: its plan, and the files for its builder.

Takes arguments; prints lines, or JSON.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from slipway.commandline.answer import Answer
from slipway.commandline.invocation import task
from slipway.commands.options import Checkout, Recipe, described, folders, prepared
from slipway.commands.output import show
from slipway.commands.shapes import Plan, Rendered, Stage

if TYPE_CHECKING:
    from slipway.job import Workshop

__all__ = ["plan", "render"]


@task(keyless=True, help=described("name"))
def plan(name: str, *, at: Checkout, recipe: Recipe, answer: Answer) -> None:
    """Show the stages of a build: id, state in the cache, usual time, and why one is new."""
    from slipway.outputs import explain
    from slipway.terminal.progress import seconds

    shop = at.workshop()
    _require_lock(shop, name, recipe.arch)
    (job,) = prepared(shop, [name], recipe)
    rows = explain(shop, job)
    stages = [Stage(**row) for row in rows]
    answer.tell(
        Plan(
            appliance=job.name,
            architecture=job.architecture,
            builder=job.builder.name,
            stages=stages,
        )
    )
    show(
        {
            "stage": row["kind"],
            "id": row["id"][:12],
            "state": row["state"],
            "usually": "" if row["usual_s"] is None else seconds(row["usual_s"]),
            "why": ", ".join(row["reasons"]),
        }
        for row in rows
    )
    coming = {row["kind"]: row["usual_s"] for row in rows if row["state"] == "to make"}
    known = [took for took in coming.values() if took is not None]
    if known:
        others = ", ".join(kind for kind, took in coming.items() if took is None)
        but = f", without {others}" if others else ""
        print(f"{seconds(sum(known))} as the last builds here took{but}")


def _require_lock(shop: Workshop, name: str, architecture: str) -> None:
    """Refuse to plan without a lock: showing a plan must not make one.

    Raises:
        SpecError: There is no lock.
    """
    from slipway.errors import SpecError, Where
    from slipway.job import lock_path

    appliance = shop.library.load(*folders([name]))
    appliance.base.architecture(architecture)
    path = lock_path(appliance, architecture)
    if not path.exists():
        shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        hint = f"run: invoke lock {appliance.name} --arch {architecture}"
        raise SpecError(
            f"there is no lock of {appliance.name} for {architecture}",
            where=Where(shown),
            hint=hint,
        )


@task(
    keyless=True,
    help=described(
        "name",
        out="an empty or new directory (default: build/NAME/render, emptied first)",
        source="with the builder packer: the platforms, as qemu,amazon-ebs",
    ),
)
def render(
    name: str, *, at: Checkout, recipe: Recipe, source: str = "", out: str = "", answer: Answer
) -> None:
    """Write the very files that the builder runs and reads."""
    from slipway import pipeline
    from slipway.builders import builder as find_builder
    from slipway.builders import require_targets

    platforms = tuple(filter(None, source.split(",")))
    maker = find_builder(recipe.builder)
    require_targets(maker.name, maker.targets, platforms)
    shop = at.workshop()
    (job,) = prepared(shop, [name], recipe)
    directory = Path(out) if out else shop.root / "build" / name / "render"
    if not out:
        import shutil

        shutil.rmtree(directory, ignore_errors=True)
    written = pipeline.write_rendered(shop, job, directory, platforms)
    names = sorted(path.relative_to(directory).as_posix() for path in written)
    answer.tell(Rendered(appliance=job.name, folder=str(directory), files=names))
    print(f"{directory}: {len(written)} files")
