"""The ``--json`` documents of tasks about images and this machine, with a text for each field.

What goes in: nothing. What comes out: :data:`SHAPES` by task, the source of docs/reference/json.md.
A shape gets the next number if a field changes its meaning, or goes; a new field keeps the number.
Times are in UTC (ISO 8601), sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final

__all__ = [
    "SHAPES",
    "Appliance",
    "Artifact",
    "Bench",
    "Built",
    "Cache",
    "CacheEntry",
    "Check",
    "Checked",
    "FaultProof",
    "Faults",
    "Finding",
    "Findings",
    "GivenValue",
    "Item",
    "Listing",
    "Lock",
    "Locked",
    "Machine",
    "Plan",
    "Release",
    "Rendered",
    "Reproduced",
    "Sizes",
    "Stage",
    "Started",
    "Valid",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file of a release."""

    format: Annotated[str, "as `--format` names it"]
    file: Annotated[str, "its name"]
    path: Annotated[str, "where it is"]
    size: Annotated[int, "bytes"]
    sha256: Annotated[str, "of the file"]
    disk_sha256: Annotated[str, "of the raw disk that it was made from"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A finished build."""

    appliance: Annotated[str, "whose it is"]
    release: Annotated[str, "version and build id; names it in a store"]
    version: Annotated[str, "of the spec"]
    build: Annotated[str, "build id"]
    architecture: Annotated[str, "in Debian's words"]
    created: Annotated[str, "when it was built"]
    booted: Annotated[bool, "it was booted and passed every check, so it may be published"]
    folder: Annotated[str, "where it is"]
    manifest: Annotated[str, "its manifest (docs/manifest.schema.json)"]
    manifest_sha256: Annotated[str, "of the manifest"]
    artifacts: Annotated[Sequence[Artifact], "its images"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """The document of `build` and `releases`."""

    FORMAT: ClassVar[str] = "slipway/build/1"
    releases: Annotated[
        Sequence[Release], "those that are finished; when one fails, those before it"
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check of a machine."""

    place: Annotated[str, "`guest`, or the interface that it came in by"]
    name: Annotated[str, "its name"]
    outcome: Annotated[str, "`passed`, `failed` or `timed out`"]
    duration_s: Annotated[float, "seconds"]
    attempts: Annotated[int, "how often it was tried"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A booted and checked machine."""

    appliance: Annotated[str, "what was booted"]
    firmware: Annotated[str, "`bios`, `uefi` or `secureboot`"]
    accelerator: Annotated[str, "`kvm`, or `tcg` for emulation"]
    passed: Annotated[bool, "every expected check passed"]
    checks: Annotated[Sequence[Check], "in the order in which they ended"]
    only: Annotated[
        Sequence[str], "with `--only`: the checks that were asked for, as place/name"
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The document of `check`."""

    FORMAT: ClassVar[str] = "slipway/check/1"
    machines: Annotated[Sequence[Machine], "those that passed; when one fails, those before it"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Appliance:
    """An appliance of a checkout."""

    name: Annotated[str, "its folder"]
    version: Annotated[str, "of the spec"]
    base: Annotated[str, "the base system"]
    category: Annotated[str, "of the spec"]
    summary: Annotated[str, "of the spec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The document of `list`.

    With `--names`, it is only an array of names on one line, for the matrix of a workflow.
    """

    FORMAT: ClassVar[str] = "slipway/list/1"
    appliances: Annotated[Sequence[Appliance], "by name"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenValue:
    """A value made up for the checks, as the spec has none."""

    appliance: Annotated[str, "whose parameter it is"]
    parameter: Annotated[str, "its name"]
    value: Annotated[str, "what the checked machine gets"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Valid:
    """The document of `validate`.

    `errors` has every error of every spec.
    """

    FORMAT: ClassVar[str] = "slipway/validate/1"
    appliances: Annotated[Sequence[str], "those that are valid"]
    given: Annotated[
        Sequence[GivenValue], "values of parameters without a default, which the checks make up"
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A lock of packages."""

    appliance: Annotated[str, "whose it is; empty for that of a QEMU"]
    architecture: Annotated[str, "in Debian's words"]
    path: Annotated[str, "the file"]
    packages: Annotated[int, "how many"]
    changes: Annotated[Sequence[str], "what became different, a line each"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """The document of `lock`."""

    FORMAT: ClassVar[str] = "slipway/lock/1"
    locks: Annotated[Sequence[Lock], "those that were resolved"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage of a build."""

    kind: Annotated[str, "what it makes"]
    id: Annotated[str, "64 digits, from everything that goes in"]
    state: Annotated[str, "`cached`, `to make` or `not needed`"]
    reasons: Annotated[Sequence[str], "why it is to be made"]
    usual_s: Annotated[
        float | None, "how many seconds it usually took here; null if unknown, or nothing to make"
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The document of `plan`."""

    FORMAT: ClassVar[str] = "slipway/plan/1"
    appliance: Annotated[str, "what would be built"]
    architecture: Annotated[str, "in Debian's words"]
    builder: Annotated[str, "as `--builder` names it"]
    stages: Annotated[Sequence[Stage], "in the order of the build"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """The document of `render`."""

    FORMAT: ClassVar[str] = "slipway/render/1"
    appliance: Annotated[str, "whose they are"]
    folder: Annotated[str, "where they are"]
    files: Annotated[Sequence[str], "paths in the folder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduced:
    """The document of `reproduce`."""

    FORMAT: ClassVar[str] = "slipway/reproduce/1"
    appliance: Annotated[str, "what was built"]
    rows: Annotated[
        Sequence[Mapping[str, Any]],
        "the surroundings of each build, and by format the first 16 digits of its SHA-256",
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultProof:
    """The result of breaking an appliance on purpose."""

    appliance: Annotated[str, "what was broken"]
    fault: Annotated[str, "the patch, without `.patch`"]
    summary: Annotated[str, "its first line"]
    caught_by: Annotated[str, "the check that has to notice, as place/name"]
    failed: Annotated[str | None, "the first check that failed; null if none did"]
    good: Annotated[bool, "they are the same"]
    problem: Annotated[str, "why it never came to the checks, or nothing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The document of `faults`."""

    FORMAT: ClassVar[str] = "slipway/faults/1"
    proofs: Annotated[Sequence[FaultProof], "in the order in which they were tried"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The document of `start`.

    It is printed as soon as the machine runs; only the exit code tells how it ended.
    """

    FORMAT: ClassVar[str] = "slipway/start/1"
    appliance: Annotated[str, "what runs"]
    accelerator: Annotated[str, "`kvm`, or `tcg` for emulation"]
    console: Annotated[str, "the file that its console is written to"]
    ports: Annotated[
        Mapping[str, int], "by protocol/port of the machine, the port of 127.0.0.1 that leads there"
    ]
    unreachable: Annotated[Sequence[str], "ports that nothing leads to"]
    login: Annotated[str | None, "with `--ssh-key`: the command that logs in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A package or a folder of an image, with its size."""

    name: Annotated[str, "a package or a folder"]
    size: Annotated[int, "bytes on the disk"]
    compressed: Annotated[int, "bytes, each file compressed alone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The document of `sizes`."""

    FORMAT: ClassVar[str] = "slipway/sizes/1"
    appliance: Annotated[str, "whose image it is"]
    packages: Annotated[Sequence[Item], "the largest first"]
    folders: Annotated[Sequence[Item], "the largest first"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """A finished stage in the cache."""

    id: Annotated[str, "the stage, 64 digits"]
    kind: Annotated[str, "what it makes"]
    size: Annotated[int, "bytes"]
    used: Annotated[str | None, "when it was used last; null for what a killed build left"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """The document of `cache`."""

    FORMAT: ClassVar[str] = "slipway/cache/1"
    folder: Annotated[str, "where it is"]
    limit: Annotated[int, "bytes that it may take"]
    size: Annotated[int, "bytes that it takes"]
    entries: Annotated[Sequence[CacheEntry], "the longest unused first"]
    removed: Annotated[Sequence[CacheEntry], "with `prune`: what is gone"] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """An ability of this host, present or missing."""

    name: Annotated[str, "what was looked at"]
    state: Annotated[str, "`ok`, `missing` (builds fail) or `limited` (something else does)"]
    detail: Annotated[str, "what was found"]
    hint: Annotated[str, "what to do about it, or nothing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The document of `doctor`."""

    FORMAT: ClassVar[str] = "slipway/doctor/1"
    findings: Annotated[Sequence[Finding], "in the order of the work"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The document of `bench`."""

    FORMAT: ClassVar[str] = "slipway/bench/1"
    machine: Annotated[Mapping[str, Any], "processors, memory and system"]
    rows: Annotated[
        Sequence[Mapping[str, Any]], "name, value, unit, goal and outcome of each measurement"
    ]
    profiles: Annotated[Mapping[str, Mapping[str, float]], "by row, where its seconds went"]


#: By task, in the order of the page.
SHAPES: Final[Mapping[str, type[Any]]] = {
    "list": Listing,
    "validate": Valid,
    "lock": Locked,
    "plan": Plan,
    "render": Rendered,
    "build": Built,
    "releases": Built,
    "check": Checked,
    "faults": Faults,
    "start": Started,
    "sizes": Sizes,
    "reproduce": Reproduced,
    "cache": Cache,
    "doctor": Findings,
    "bench": Bench,
}
