"""The manifest: all facts about a build, as one JSON document that never changes.

What goes in: the reports of a build's stages. What comes out: canonical JSON after
``manifest.schema.json`` (JSON Schema, draft 2020-12), version 1.

Invariants: equal manifests are equal bytes. No secret, no output of a check and no channel
membership is in it. The picture of a boot report shows the screen of a machine. That machine is
gone by then, and its secrets were its own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from slipway.errors import VerificationError
from slipway.formats import Artifact
from slipway.records import canonical_json
from slipway.records.git import GitState
from slipway.records.reference import ReleaseRef

if TYPE_CHECKING:
    import jsonschema_rs

__all__ = [
    "SCHEMA_VERSION",
    "Inputs",
    "Manifest",
    "PackageChanges",
    "Parent",
    "RecordFile",
    "boot_record",
    "manifest_schema",
    "package_changes",
    "parameter_records",
    "read_manifest",
]

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFile:
    """A file of a release beside its artifacts; the size is in bytes."""

    file: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """A build's inputs: the source tree's state, the SHA-256 of each kind of input, versions of
    tools.
    """

    git: GitState
    spec: str
    templates: str
    lock: str
    base: str
    tools: str
    tool_versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageChanges:
    """The differences between two builds' packages: versions by name."""

    added: Mapping[str, str] = field(default_factory=dict)
    removed: Mapping[str, str] = field(default_factory=dict)
    changed: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """The build before this one: its release, and the changes since."""

    release: str
    build: str
    packages: PackageChanges


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One build of one appliance.

    ``release`` is version and build id, and names its folder in a store. ``created`` and
    ``source_date_epoch`` are seconds since 1970. ``boot`` is the boot report (see
    :func:`boot_record`), or None for an image without a boot. ``booted_disk_sha256`` is the booted
    raw disk, to compare with the artifacts' disk. ``stages`` are pairs of kind and id. ``system``
    is the operating system's name for people and ``kernel`` the spec's choice; both are empty in
    manifests of earlier versions.
    """

    appliance: str
    version: str
    build: str
    release: str
    architecture: str
    summary: str
    category: str
    created: int
    source_date_epoch: int
    builder: str
    inputs: Inputs
    stages: tuple[tuple[str, str], ...]
    artifacts: tuple[Artifact, ...]
    boot: Mapping[str, Any] | None
    booted_disk_sha256: str | None
    sbom: RecordFile
    provenance: RecordFile
    resources: Mapping[str, int]
    interfaces: tuple[Mapping[str, Any], ...]
    ports: tuple[Mapping[str, Any], ...]
    parameters: tuple[Mapping[str, Any], ...]
    system: str = ""
    kernel: str = ""
    parent: Parent | None = None

    @property
    def ref(self) -> ReleaseRef:
        """The manifest's release."""
        return ReleaseRef(self.appliance, self.release)

    @property
    def boot_passed(self) -> bool:
        """Whether the disk of all artifacts was booted and passed every check.

        Every expected check has to be there once, and no other. Reports of earlier versions do not
        name the expected checks: they need at least one.
        """
        if self.boot is None or self.boot["passed"] is not True or not self.artifacts:
            return False
        same = all(
            artifact.uncompressed_sha256 == self.booted_disk_sha256 for artifact in self.artifacts
        )
        return same and bool(self.boot["checks"]) and not self.boot_problems

    @property
    def boot_problems(self) -> tuple[str, ...]:
        """The checks that invalidate the boot report, one text for each."""
        if self.boot is None:
            return ()
        checks = self.boot["checks"]
        problems = [check["name"] for check in checks if check["outcome"] != "passed"]
        if "expected" in self.boot:
            ran = Counter(f"{check.get('place', '')}/{check['name']}" for check in checks)
            expected = Counter(self.boot["expected"])
            problems += [f"{name} did not run" for name in (expected - ran)]
            problems += [f"{name} was not expected" for name in (ran - expected)]
        return tuple(problems)

    def to_json(self) -> bytes:
        """Return the document.

        Raises:
            ValueError: It would not follow its own schema: a bug in the caller.
        """
        data = {name: getattr(self, name) for name in _PLAIN}
        data |= {
            "schema": SCHEMA_VERSION,
            "created": datetime.fromtimestamp(self.created, UTC).strftime(_TIME),
            "inputs": asdict(self.inputs),
            "stages": [{"kind": kind, "id": id_} for kind, id_ in self.stages],
            "artifacts": [
                artifact.facts()
                for artifact in sorted(self.artifacts, key=lambda artifact: artifact.file)
            ],
            "sbom": asdict(self.sbom),
            "provenance": asdict(self.provenance),
            "parent": asdict(self.parent) if self.parent else None,
        }
        text = canonical_json(data)
        # What was written is what is checked: tuples have become lists by then.
        problem = _problem(json.loads(text))
        if problem:
            raise ValueError(f"the manifest does not follow its schema: {problem}")
        return text


_TIME = "%Y-%m-%dT%H:%M:%SZ"
_PLAIN = tuple(
    item.name
    for item in fields(Manifest)
    if item.name not in {"created", "inputs", "stages", "artifacts", "sbom", "provenance", "parent"}
)


def read_manifest(
    text: bytes, *, source: str = "manifest.json", of: ReleaseRef | None = None
) -> Manifest:
    """Return the manifest written by :meth:`Manifest.to_json`.

    Args:
        source: The name of the text in error messages.
        of: The required release.

    Raises:
        VerificationError: The text is not JSON, does not follow the schema, has a newer version, or
            is about another release.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise VerificationError(f"{source} is not JSON: {error}") from error
    version = data.get("schema") if isinstance(data, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise VerificationError(
            f"{source} has version {version}, this program reads up to {SCHEMA_VERSION}",
            hint="update slipway",
        )
    problem = _problem(data)
    if problem:
        raise VerificationError(f"{source} is not a manifest: {problem}")
    inputs, parent = data["inputs"], data["parent"]
    about = ReleaseRef(data["appliance"], data["release"])
    if of not in (None, about):
        raise VerificationError(
            f"{source} is about {about}, not {of}",
            hint=(
                "whoever listed it in the channel mixed up two releases, or means harm: "
                "tell the publisher"
            ),
        )
    try:
        created = int(datetime.strptime(data["created"], _TIME).replace(tzinfo=UTC).timestamp())
    except ValueError as error:
        raise VerificationError(f"{source} is not a manifest: {error}") from error
    plain: dict[str, Any] = {name: data[name] for name in _PLAIN if name in data}
    for name in ("interfaces", "ports", "parameters"):
        plain[name] = tuple(plain[name])
    return Manifest(
        **plain,
        created=created,
        inputs=Inputs(**{**inputs, "git": GitState(**inputs["git"])}),
        stages=tuple((stage["kind"], stage["id"]) for stage in data["stages"]),
        artifacts=tuple(Artifact.from_facts(facts) for facts in data["artifacts"]),
        sbom=RecordFile(**data["sbom"]),
        provenance=RecordFile(**data["provenance"]),
        parent=parent
        and Parent(
            release=parent["release"], build=parent["build"], packages=_changes(parent["packages"])
        ),
    )


def _changes(data: Mapping[str, Any]) -> PackageChanges:
    changed = {name: (before, after) for name, (before, after) in data["changed"].items()}
    return PackageChanges(added=data["added"], removed=data["removed"], changed=changed)


def manifest_schema() -> bytes:
    """Return the JSON Schema, the same as docs/manifest.schema.json."""
    return resources.files("slipway.records").joinpath("manifest.schema.json").read_bytes()


@cache
def _validator() -> jsonschema_rs.Draft202012Validator:
    from jsonschema_rs import Draft202012Validator

    return Draft202012Validator(json.loads(manifest_schema()))


def _problem(data: Any) -> str | None:
    """Return the first error, by its place in the document; None without any."""
    errors = sorted(
        (
            "".join(
                f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path
            ),
            error.message,
        )
        for error in _validator().iter_errors(data)
    )
    return f"${errors[0][0]}: {errors[0][1][:300]}" if errors else None


def boot_record(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return a boot report for the manifest, without the output of checks and the console.

    Their output may hold anything. A missing ``passed`` is computed: there are checks, and every
    one passed.
    """

    def kept(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {
                name: kept(item)
                for name, item in value.items()
                if name not in {"output", "first", "console"}
            }
        return [kept(item) for item in value] if isinstance(value, (list, tuple)) else value

    record: dict[str, Any] = kept(report)
    record.setdefault("checks", [])
    record.setdefault(
        "passed",
        bool(record["checks"]) and all(check["outcome"] == "passed" for check in record["checks"]),
    )
    return record


def parameter_records(parameters: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Return parameters for the manifest; a secret's default, should it have one, stays out."""
    return tuple(
        {
            name: value
            for name, value in parameter.items()
            if not (parameter["type"] == "secret" and name == "default")
        }
        for parameter in parameters
    )


def package_changes(old: Mapping[str, str], new: Mapping[str, str]) -> PackageChanges:
    """Return the changes from one build's packages to another's; both are versions by name."""
    return PackageChanges(
        added={name: new[name] for name in new.keys() - old.keys()},
        removed={name: old[name] for name in old.keys() - new.keys()},
        changed={
            name: (old[name], new[name])
            for name in old.keys() & new.keys()
            if old[name] != new[name]
        },
    )
