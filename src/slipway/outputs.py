"""The results of a build: ``build/<appliance>/<release>/`` and ``plan.json``.

The folder has artifacts and records; ``plan.json`` names the inputs of the newest release.

Invariants: a release's folder gets its name when it is whole, and stays untouched while it is.
Artifacts are hard links to the cache, so they take no space twice. A release with the same inputs
counts as built if all its files have their hashes: then `build` is a no-op. `start` and `check`
find their image in the cache or here.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.boot.report import BootReport
from slipway.cache import Entry, create_file, place
from slipway.errors import BuildError
from slipway.formats import Artifact, file_name
from slipway.formats import load as load_format
from slipway.job import BOOTED, Job, Workshop
from slipway.plan import reasons
from slipway.terminal.progress import Expected, size
from slipway.whole import whole

if TYPE_CHECKING:
    from slipway.records.manifest import Inputs, Manifest, Parent
    from slipway.records.release import Release

#: Stages needed by the checks only.
CHECKING = ("tools", "boot")

__all__ = [
    "announce",
    "announced",
    "capture",
    "duration_key",
    "expected",
    "expected_boot",
    "explain",
    "finished",
    "last_plan",
    "listing",
    "record",
    "released_image",
]

PLAN = "plan.json"


def last_plan(job: Job) -> Mapping[str, Any]:
    """Return the record of an appliance's last build; empty if there is none.

    It has ``inputs`` by stage, ``key`` and ``release``.
    """
    try:
        found = json.loads((job.outputs / PLAN).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _key(job: Job, *, boot: bool) -> str:
    """Return one digest of everything behind a release.

    It covers the stages, the formats and the manifest's other content.
    """
    stages = [stage.id for stage in job.plan.stages if boot or stage.kind not in CHECKING]
    return _digest(
        [
            stages,
            job.source.appliance.spec.model_dump(mode="json"),
            sorted(job.formats),
            job.builder.name,
            boot,
        ]
    )


def _digest(data: object) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def finished(job: Job, *, boot: bool) -> Path | None:
    """Return the folder of the release made earlier by the same job, if all its files are there."""
    before = last_plan(job)
    if before.get("key") != _key(job, boot=boot):
        return None
    folder = job.outputs / str(before["release"])
    return folder if whole(folder, before["sha256"]) else None


def released_image(job: Job) -> Path | None:
    """Return QEMU's image in the release made from the same stage, if it is unchanged."""
    before = last_plan(job)
    stage = job.stage(f"artifact:{BOOTED}").id
    name = before.get("images", {}).get(stage)
    if name is None or not whole(
        job.outputs / str(before["release"]), {name: before["sha256"][name]}
    ):
        return None
    return job.outputs / str(before["release"]) / str(name)


def announce(directory: str, name: str, folder: Path) -> None:
    """Write the folder of an appliance's release down, for the publishing process.

    Do nothing without a directory.
    """
    if directory:
        with create_file(Path(directory) / f"{name}.json") as file:
            file.write(json.dumps(str(folder.absolute())).encode())


def announced(directory: str, root: Path, asked: Collection[str] = ()) -> list[Path]:
    """Return the folders written down by :func:`announce`, sorted by appliance.

    Args:
        asked: The appliances to be built, if not all.

    Raises:
        BuildError: A folder is not below ``build`` in its appliance's own folder. Or it holds a
            build of another appliance, or was not asked for.
    """
    from slipway.channels.folders import require_build_of

    folders = []
    for file in sorted(Path(directory).glob("*.json")):
        folder = Path(json.loads(file.read_bytes()))
        if asked and file.stem not in asked:
            raise BuildError(
                f"{folder} was not requested", hint=f"requested: {', '.join(sorted(asked))}"
            )
        if folder.parent.resolve() != (root / "build" / file.stem).resolve():
            raise BuildError(
                f"{folder} is not a release of {file.stem}", hint=f"run: invoke build {file.stem}"
            )
        require_build_of(folder, file.stem)
        folders.append(folder)
    return folders


def explain(shop: Workshop, job: Job) -> list[dict[str, Any]]:
    """Return a row for each stage: its state, why it differs from the last build, its usual time.

    The state is ``cached``, ``to make``, or ``not needed`` (nothing missing is made from it).
    """
    before = last_plan(job).get("inputs", {})
    cached = {stage.id: shop.cache.find(stage.id) is not None for stage in job.plan.stages}
    needed: set[str | None] = set()
    rows: list[dict[str, Any]] = []
    for stage in reversed(job.plan.stages):
        missing = not cached[stage.id]
        final = stage.kind == "boot" or stage.kind.startswith("artifact:")
        make = missing and (final or stage.id in needed)
        if make:
            needed |= {stage.parent, stage.inputs.get("tools")}
        state = "cached" if not missing else "to make" if make else "not needed"
        row = {"kind": stage.kind, "id": stage.id, "state": state}
        why = list(reasons(stage, before)) if make else []
        usual_s = shop.durations.usual_s(duration_key(job, stage.kind)) if make else None
        rows.append({**row, "reasons": why, "usual_s": usual_s})
    return rows[::-1]


def duration_key(job: Job, kind: str, firmware: str = "bios") -> str:
    """Return the name of a stage in the record of durations.

    A base is made for all of its appliances, and machines are slow without KVM.
    """
    if kind == "base":
        return f"{job.source.appliance.spec.base} {job.architecture}/base"
    machine = "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) else "tcg"
    name = f"{job.name} {job.architecture}/{kind}"
    return f"{name} {machine} {firmware}" if kind == "boot" else name


def expected(shop: Workshop, job: Job, *, boot: bool) -> list[Expected]:
    """Return the steps of a build to come, in order; with ``--verbose``, say why each is needed."""
    rows = [row for row in explain(shop, job) if row["state"] == "to make"]
    for row in rows:
        shop.progress.more(f"{row['kind']} {row['id'][:12]}: {', '.join(row['reasons'])}")
    return [
        Expected(
            label=row["kind"].removeprefix("artifact:"),
            key=duration_key(job, row["kind"]),
            usual_s=row["usual_s"],
        )
        for row in rows
        if boot or row["kind"] not in CHECKING
    ]


def expected_boot(shop: Workshop, job: Job, firmware: str) -> list[Expected]:
    """Return the one step of a check."""
    key = duration_key(job, "boot", firmware)
    return [Expected(label="boot", key=key, usual_s=shop.durations.usual_s(key))]


def listing(release: Release) -> list[str]:
    """Return a release as lines for people: its folder, its files with sizes, its checks."""
    manifest = release.manifest
    lines = [str(release.folder)]
    lines += [
        f"  {size(path.stat().st_size):>10}  {path.name}"
        for path in sorted(release.folder.iterdir())
    ]
    if manifest.boot:
        checks = manifest.boot["checks"]
        names = ", ".join(f"{check['place']}/{check['name']}" for check in checks)
        lines += [f"  {len(checks)} checks passed: {names}"]
    return lines


def record(
    shop: Workshop,
    job: Job,
    exported: Mapping[str, Entry],
    report: BootReport | None,
    inputs: Inputs,
) -> Release:
    """Write the release's folder, unless it is whole already.

    Args:
        inputs: The result of :func:`capture` when the build began.
    """
    from slipway.records.manifest import Manifest, boot_record, parameter_records
    from slipway.records.release import PROVENANCE, SBOM, record_file

    appliance, lock = job.source.appliance, job.source.lock
    spec = appliance.spec
    created = int(time.time())
    build = _digest(
        [
            {name: exported[name].facts["sha256"] for name in job.formats},
            _key(job, boot=report is not None),
        ]
    )[:12]
    release = f"{spec.version}-{build}"
    artifacts = tuple(
        Artifact.from_facts(
            exported[name].facts,
            file=file_name(job.name, release, job.architecture, load_format(name)),
        )
        for name in job.formats
    )
    bill, statement = _documents(job, inputs, build, artifacts, created)
    manifest = Manifest(
        appliance=job.name,
        version=spec.version,
        build=build,
        release=release,
        architecture=job.architecture,
        summary=spec.summary,
        category=spec.category,
        created=created,
        source_date_epoch=lock.source_date_epoch,
        builder=job.builder.name,
        system=appliance.base.summary,
        kernel=spec.kernel,
        inputs=inputs,
        stages=tuple(
            (stage.kind, stage.id)
            for stage in job.plan.stages
            if report or stage.kind not in CHECKING
        ),
        artifacts=artifacts,
        boot=boot_record(report.to_json()) if report else None,
        booted_disk_sha256=exported[BOOTED].facts["uncompressed_sha256"] if report else None,
        sbom=record_file(SBOM, bill),
        provenance=record_file(PROVENANCE, statement),
        resources=spec.resources.model_dump(mode="json"),
        interfaces=tuple(interface.model_dump(mode="json") for interface in spec.interfaces),
        ports=tuple(port.model_dump(mode="json", exclude_none=True) for port in spec.ports),
        parameters=parameter_records(
            parameter.model_dump(mode="json") for parameter in spec.parameters
        ),
        parent=_parent(job, release),
    )
    with shop.cache.locked(f"outputs-{_digest(str(job.outputs))}"):
        return _leave(job, exported, manifest, bill, statement)


def _documents(
    job: Job, inputs: Inputs, build: str, artifacts: tuple[Artifact, ...], created: int
) -> tuple[bytes, bytes]:
    """Return the SBOM and the provenance."""
    from slipway.records.provenance import Run, provenance
    from slipway.records.sbom import Contents, sbom

    appliance, lock = job.source.appliance, job.source.lock
    base, packages = appliance.base, lock.all_packages
    contents = Contents(
        distribution=base.distribution,
        release=base.release,
        packages=packages,
        wheels=lock.wheels,
        downloads=appliance.spec.downloads,
    )
    bill = sbom(
        appliance=job.name,
        version=appliance.spec.version,
        contents=contents,
        source_date_epoch=lock.source_date_epoch,
    )
    run = Run(
        appliance=job.name,
        version=appliance.spec.version,
        build=build,
        architecture=job.architecture,
        builder=job.builder.name,
        created=created,
        image_mirrors=job.source.image_mirrors,
    )
    statement = provenance(
        run,
        contents,
        tool_versions=inputs.tool_versions,
        digests={
            "spec": inputs.spec,
            "templates": inputs.templates,
            "lock": inputs.lock,
            "base": inputs.base,
        },
        git=inputs.git,
        artifacts=artifacts,
    )
    return bill, statement


def _leave(
    job: Job, exported: Mapping[str, Entry], manifest: Manifest, bill: bytes, statement: bytes
) -> Release:
    """Put a release into its folder, unless it is there, and note it in plan.json as the newest."""
    from slipway.records.release import SUMS

    folder = job.outputs / manifest.release
    release = _there(folder) or _put(job, exported, manifest, bill, statement)
    hashes = dict(release.hashes) | {SUMS: hashlib.sha256(release.sums).hexdigest()}
    known = {
        "release": manifest.release,
        "key": _key(job, boot=manifest.boot is not None),
        "sha256": hashes,
        "images": {
            job.stage(f"artifact:{BOOTED}").id: artifact.file
            for artifact in manifest.artifacts
            if artifact.format == BOOTED
        },
        "inputs": job.plan.record(),
    }
    with create_file(job.outputs / PLAN, mode=0o644) as file:
        file.write(json.dumps(known, indent=1, sort_keys=True).encode())
    return release


def _there(folder: Path) -> Release | None:
    """Return an existing release, if it is whole: its manifest keeps its time and its parent."""
    from slipway.records.release import SUMS, read_release

    try:
        release = read_release(folder)
    except BuildError:
        return None
    return (
        release
        if whole(folder, {**release.hashes, SUMS: hashlib.sha256(release.sums).hexdigest()})
        else None
    )


def _put(
    job: Job, exported: Mapping[str, Entry], manifest: Manifest, bill: bytes, statement: bytes
) -> Release:
    """Make a release's folder."""
    from slipway.records.release import read_release, write_release

    # A hidden folder until it is whole; those of killed builds are removed.
    for rest in job.outputs.glob(".*.new"):
        shutil.rmtree(rest)
    incoming = job.outputs / f".{manifest.release}.new"
    incoming.mkdir(parents=True)
    incoming.chmod(0o755)  # regardless of the umask: nobody else writes there
    for artifact in manifest.artifacts:
        place(exported[artifact.format].file("disk"), incoming / artifact.file)
    write_release(incoming, manifest, sbom=bill, provenance=statement)
    folder = job.outputs / manifest.release
    shutil.rmtree(folder, ignore_errors=True)
    incoming.rename(folder)
    return read_release(folder)


def capture(shop: Workshop, job: Job) -> Inputs:
    """Return the inputs of a build for the manifest; to be called when the build begins."""
    from slipway.records.git import git_state, why_unknown
    from slipway.records.manifest import Inputs

    appliance = job.source.appliance
    git = git_state(shop.root, (appliance.folder, job.source.templates, Path(__file__).parent))
    if git.commit is None and (reason := why_unknown(shop.root)):
        shop.progress.note("commit", reason)
    tools = {tool for part in job.builder.parts(job.source) for tool in part.tools}
    tools |= {tool for name in (BOOTED, *job.formats) for tool in load_format(name).versioned}
    versions = shop.versions(tuple(sorted(tools)))
    return Inputs(
        git=git,
        spec=_digest(appliance.spec.model_dump(mode="json")),
        templates=_digest({path: file.digest for path, file in job.rendered.files.items()}),
        lock=job.lock_sha256,
        base=job.base_sha256,
        tools=_digest(versions),
        tool_versions=versions,
    )


def _parent(job: Job, release: str) -> Parent | None:
    """Return the build before this one, if it is still here."""
    from slipway.errors import BuildError
    from slipway.records.manifest import Parent, package_changes
    from slipway.records.release import read_release
    from slipway.records.sbom import read_packages

    try:
        before = read_release(job.outputs / str(last_plan(job).get("release", "none")))
        packages = read_packages((before.folder / before.manifest.sbom.file).read_bytes())
    except (BuildError, OSError):
        return None
    if before.manifest.release == release:
        return before.manifest.parent
    now = {package.name: package.version for package in job.source.lock.all_packages}
    return Parent(
        release=before.manifest.release,
        build=before.manifest.build,
        packages=package_changes(packages, now),
    )
