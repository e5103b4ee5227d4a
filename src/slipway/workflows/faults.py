"""Faults: an appliance broken on purpose, to test whether the right check notices.

What goes in: ``appliances/<name>/faults/*.patch``. Each is a unified diff of the appliance's own
folder, below its first line (the fault) and a line ``Caught-by: <place>/<check>``. What comes out:
for each, the first failed check of the patched appliance's boot; it must be that one.

Invariants: the appliance's folder is only read. A patched copy, and anything made from it alone, is
gone afterwards. An outdated patch is an error, not a proof.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from slipway import pipeline
from slipway.boot.checks import ChecksFailed
from slipway.boot.report import CheckResult
from slipway.boot.trial import expected_checks
from slipway.errors import BuildError, SpecError, SpecErrors, Where, choose
from slipway.host import process
from slipway.job import BOOTED, Job, Workshop, prepare
from slipway.spec.library import Appliance

__all__ = ["Fault", "Proof", "apply", "prove", "read", "require_proven"]

_CAUGHT_BY = re.compile(r"Caught-by: (\S+)")
_DIFF = re.compile(r"diff |--- ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to break an appliance; ``caught_by`` is the check to notice it, as place/name."""

    name: str
    path: Path
    summary: str
    caught_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The result of a fault: the first failed check, or None.

    ``problem`` is the error if it never came to the checks.
    """

    fault: Fault
    failed: CheckResult | None
    problem: str = ""

    @property
    def good(self) -> bool:
        """Whether the right check noticed."""
        return (
            self.failed is not None
            and f"{self.failed.place}/{self.failed.name}" == self.fault.caught_by
        )

    def __str__(self) -> str:
        """Return the fault, the check that noticed, and its last line."""
        head = f"{self.fault.name}: {self.fault.summary}\n  "
        if self.failed is None:
            return f"{head}NOT CAUGHT: {self.problem or 'every check passed'}"
        wanted = "" if self.good else f", not by {self.fault.caught_by}"
        return (
            f"{head}caught by {self.failed.place}/{self.failed.name}{wanted}: "
            f"{_last_word(self.failed.output)}"
        )


def _last_word(output: str) -> str:
    """Return the last meaningful line.

    After a Python assertion without a message, it is the asserted expression.
    """
    lines = [line.strip() for line in output.splitlines() if line.strip(" ^~")]
    if len(lines) > 1 and lines[-1] == "AssertionError":
        return lines[-2]
    return lines[-1] if lines else "(it said nothing)"


def read(appliance: Appliance) -> tuple[Fault, ...]:
    """Return the faults of an appliance, by name.

    Raises:
        SpecErrors: A file has no summary, or names no check of the appliance.
    """
    checks = expected_checks(appliance)
    faults: list[Fault] = []
    errors: list[SpecError] = []
    for path in sorted((appliance.folder / "faults").glob("*")):
        if path.suffix != ".patch" or not path.is_file():
            errors.append(
                SpecError(
                    f'"{path.name}" has no meaning here',
                    where=Where(path),
                    hint="faults are files that end in .patch",
                )
            )
            continue
        head: list[str] = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if _DIFF.match(line):
                break
            head.append(line)
        caught = [
            (number, found[1])
            for number, line in enumerate(head, 1)
            if (found := _CAUGHT_BY.fullmatch(line))
        ]
        if not head or not head[0].strip() or len(caught) != 1:
            hint = (
                'begin with a line that says what is broken, and one "Caught-by: <place>/<check>"'
            )
            errors.append(
                SpecError(
                    "this does not say what it breaks, and which check notices",
                    where=Where(path, 1, 1),
                    hint=hint,
                )
            )
            continue
        number, name = caught[0]
        if name not in checks:
            hint = choose(name, checks)
            errors.append(
                SpecError(f'there is no check "{name}"', where=Where(path, number, 12), hint=hint)
            )
            continue
        faults.append(Fault(name=path.stem, path=path, summary=head[0].strip(), caught_by=name))
    if errors:
        raise SpecErrors(errors)
    return tuple(faults)


def apply(fault: Fault, appliance: Appliance, folder: Path) -> None:
    """Make a copy of an appliance's folder with a fault in it.

    Raises:
        SpecError: The patch does not fit the folder's present content.
    """
    shutil.copytree(
        appliance.folder, folder, symlinks=True, ignore=shutil.ignore_patterns("faults")
    )
    try:
        # Were the copy in somebody's repository, git would take the paths from there.
        ceiling = {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
        process.run(
            ["git", "apply", "--whitespace=nowarn", fault.path.absolute()], cwd=folder, env=ceiling
        )
    except BuildError as error:
        said = "; ".join(
            line.strip() for line in error.message.splitlines() if line.startswith("    ")
        )
        hint = (
            f"break appliances/{appliance.name} as it is now, then: "
            f"git diff --relative=appliances/{appliance.name}"
        )
        raise SpecError(
            f"the patch does not apply: {said}", where=Where(fault.path), hint=hint
        ) from None


def prove(shop: Workshop, job: Job, fault: Fault) -> Proof:
    """Build the appliance with the fault, boot it, and find the first failed check."""
    appliance = job.source.appliance
    shop.progress.line(f"{job.name} with {fault.name}")
    with shop.cache.scratch() as root:
        folder = root / "appliances" / job.name
        apply(fault, appliance, folder)
        (root / "templates").symlink_to(shop.root / "templates")
        there = replace(shop, root=root, settings_root=shop.root)
        broken = prepare(
            there,
            there.library.load(job.name),
            builder=job.builder.name,
            architecture=job.architecture,
            formats=[BOOTED],
        )
        broken = replace(broken, outputs=job.outputs / "faults" / fault.name)
        broken.logs.mkdir(parents=True, exist_ok=True)
        try:
            pipeline.export(there, broken)
            pipeline.check(there, broken, first_failure=True)
        except ChecksFailed as error:
            return Proof(
                fault=fault, failed=next(check for check in error.report.checks if not check.passed)
            )
        except BuildError as error:
            return Proof(fault=fault, failed=None, problem=error.message)
        finally:
            whole = {stage.id for stage in job.plan.stages}
            for stage in broken.plan.stages:
                if stage.id not in whole:
                    shop.cache.drop(stage.id)
    return Proof(fault=fault, failed=None)


def require_proven(proofs: Sequence[Proof]) -> None:
    """Raise unless every fault was noticed by its own check.

    Raises:
        BuildError: A fault was not noticed by its check.
    """
    bad = [proof.fault.name for proof in proofs if not proof.good]
    if bad:
        raise BuildError(
            f"{len(bad)} of {len(proofs)} faults were not caught by the check that they name: "
            f"{', '.join(bad)}",
            hint="a check that does not notice what it is there for has to be made stricter",
        )
