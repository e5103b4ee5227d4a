"""Work on Slipway itself: its tests, its lock, its generated pages.

Takes arguments; prints lines, or JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slipway.commandline.answer import Answer
from slipway.commandline.invocation import option, task
from slipway.commands.options import Checkout, Recipe, at_least_one, chosen, described, prepared
from slipway.commands.output import show
from slipway.commands.shapes import Bench

__all__ = ["TASKS", "TITLE"]

TITLE: Final = "Slipway itself"


@dataclass(frozen=True, slots=True)
class _Tests:
    """The tests to run."""

    all: bool = option(False, "every test, also those that only the nightly workflow runs")
    unit: bool = option(False, "only the fast ones")
    integration: bool = option(False, "only those with real tools and the host's package mirror")
    vm: bool = option(False, "only those that boot virtual machines")
    store: str = option("", "ceph: only those with this object store")
    keyword: str = option(
        "", "only tests that match (pytest -k); with --fresh: only machines with this in their name"
    )
    fresh: bool = option(
        False,
        "the README's commands on minimal systems, one of each base for root and for "
        "an ordinary user",
    )


def _own(at: Checkout) -> Path:
    """Return the checkout of Slipway itself.

    Raises:
        UsageError: It is none.
    """
    from slipway.errors import UsageError

    checkout = Path(at.root).absolute()
    if not (checkout / "src/slipway").is_dir():
        raise UsageError(
            f"{checkout} is not a checkout of Slipway: it has no src/slipway/",
            hint="change to a checkout, or give it as --root FOLDER",
        )
    return checkout


@contextmanager
def _installed() -> Iterator[None]:
    """Say it if a package is missing: the command of a wheel comes without those for development.

    Raises:
        HostError: One is missing.
    """
    from slipway.errors import HostError

    try:
        yield
    except ModuleNotFoundError as error:
        raise HostError(
            f"the Python package {error.name} is not installed",
            hint="use the checkout's own command, which installs it: ./run",
        ) from error


@task()
def test(*, at: Checkout, wanted: _Tests) -> None:
    """Check the code and run the tests of the main flow.

    They are style, types, unit, integration, an object store and machines.
    """
    checkout = _own(at)
    with _installed():
        from slipway.development import suite as development
        from slipway.development.fresh import fresh as run_fresh

    flags = {
        "all": wanted.all,
        "unit": wanted.unit,
        "integration": wanted.integration,
        "vm": wanted.vm,
        "fresh": wanted.fresh,
    }
    selection = development.select(
        [name for name, given in flags.items() if given], store=wanted.store, keyword=wanted.keyword
    )
    if selection.fresh:
        run_fresh(at.workshop(), selection.keyword)
        return
    if selection.lint:
        development.lint(checkout)
    development.test(checkout, selection)


@task()
def lint(*, at: Checkout) -> None:
    """Check style and types of the code, and the shell scripts."""
    checkout = _own(at)
    with _installed():
        from slipway.development.suite import lint as run_lint

    run_lint(checkout)


@task(
    help=described(
        names="mutants, or tables of them; every one if none is named",
        jobs="how many mutants at once",
    )
)
def mutants(names: list[str], *, at: Checkout, jobs: int = 2) -> None:
    """Plant faults in a copy of the checkout, one at a time, and see the tests notice each.

    The faults are in tests/mutants/.
    """
    from contextlib import closing

    at_least_one("--jobs", jobs)
    checkout = _own(at)
    with _installed():
        from slipway.development import mutants

    chosen_mutants = mutants.choose(mutants.read(checkout), names)
    found = []
    with closing(mutants.prove(checkout, chosen_mutants, jobs=jobs)) as outcomes:
        for outcome in outcomes:
            print(outcome, flush=True)
            found.append(outcome)
    allowed = sum(bool(outcome.mutant.survives) for outcome in found)
    print(
        f"{sum(outcome.killed_by is not None for outcome in found)} of {len(found)} killed, "
        f"{allowed} may survive",
        flush=True,
    )
    mutants.require_killed(found)


@task(help=dict(runs="how often each command is measured; the median counts"))
def bench(*, at: Checkout, answer: Answer, runs: int = 3) -> None:
    """Measure this version's speed on this machine, beside a control; takes some minutes."""
    from slipway.bench.builds import bench as measure

    at_least_one("--runs", runs)
    _own(at)
    report = measure(at.workshop(), runs=runs)
    answer.tell(Bench(**report.record()))
    show(
        [row.record() for row in report.rows],
        columns=("name", "value", "unit", "goal", "outcome", "detail"),
    )
    for name, took in report.profiles.items():
        print(
            f"\n{name}, where the seconds went: "
            + ", ".join(f"{label} {seconds_:.1f}" for label, seconds_ in took.items())
        )


@task(help={"update": "lock the newest versions that pyproject.toml allows, and say what changed"})
def deps(*, at: Checkout, update: bool = False) -> None:
    """Compare the lock of Slipway's Python packages with pyproject.toml, or renew it.

    The lock is in requirements/.
    """
    checkout = _own(at)
    with _installed():
        from slipway.development import dependencies

    if update:
        print("\n".join(dependencies.update(checkout) or ["nothing changed"]))
        return
    dependencies.require_agreement(checkout)
    print("requirements/ agrees with pyproject.toml")


@task(help={"check": "only say whether docs/appliance.schema.json is up to date"})
def schema(*, at: Checkout, check: bool = False) -> None:
    """Write docs/appliance.schema.json, the JSON Schema of a spec, for editors."""
    from slipway.cache import create_file
    from slipway.errors import VerificationError
    from slipway.spec.model import json_schema

    _own(at)
    path, text = Path(at.root) / "docs/appliance.schema.json", json_schema()
    same = path.is_file() and path.read_text(encoding="utf-8") == text
    if check and not same:
        raise VerificationError(f"{path} is out of date", hint="run: invoke schema")
    if not same:
        with create_file(path, mode=0o644) as file:
            file.write(text.encode())
    print(f"{path} {'is up to date' if same else 'written'}")


@task(keyless=True, help=described(arch="processor architecture of the image, in Debian's words"))
def appliances(*, at: Checkout, arch: str = "amd64") -> None:
    """Write docs/appliances.md from every appliance's newest build.

    It shows sizes, memory, time to start and ports.
    """
    from slipway.cache import create_file
    from slipway.workflows.overview import overview, page

    shop = at.workshop()
    rows = overview(shop, prepared(shop, chosen(shop, [], True), Recipe(arch=arch)))
    path = Path(at.root, "docs/appliances.md")
    path.parent.mkdir(exist_ok=True)
    with create_file(path, mode=0o644) as file:
        file.write(page(rows).encode())
    print(f"{path}: {len(rows)} appliances")


TASKS: Final = (
    test,
    lint,
    mutants,
    bench,
    deps,
    schema,
    appliances,
)
