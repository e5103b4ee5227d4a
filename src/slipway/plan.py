"""Rendered files, a lock and tool versions -> an ordered list of stages with content-addressed ids.

A stage's id is the SHA-256 of its kind, its inputs' digests and its parent's id: same id, same
output. Planning is pure: its inputs were read before, and nothing is made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Plan", "Stage", "make_stage", "reasons"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step of a build.

    ``kind`` is base, packages, tree, disk, artifact, tools or boot. Several of one kind differ
    after a colon (``artifact:qcow2``). ``inputs`` are digests by name.
    """

    kind: str
    id: str
    parent: str | None
    inputs: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The stages of one appliance, every parent before its children."""

    appliance: str
    stages: tuple[Stage, ...]

    def stage(self, kind: str) -> Stage | None:
        """Return the stage of a kind, or None if this appliance has none."""
        return next((stage for stage in self.stages if stage.kind == kind), None)

    def record(self) -> dict[str, dict[str, str]]:
        """Return the inputs by kind, for :func:`reasons` to compare a later plan with.

        The parent counts as an input.
        """
        return {stage.kind: {**stage.inputs, "parent": stage.parent or ""} for stage in self.stages}


def make_stage(kind: str, inputs: Mapping[str, str], parent: Stage | None = None) -> Stage:
    """Return a stage with its id (the SHA-256 of its canonical JSON)."""
    parent_id = parent.id if parent else None
    canonical = json.dumps([kind, parent_id, dict(inputs)], sort_keys=True, separators=(",", ":"))
    return Stage(
        kind=kind,
        id=hashlib.sha256(canonical.encode()).hexdigest(),
        parent=parent_id,
        inputs=dict(inputs),
    )


def reasons(stage: Stage, before: Mapping[str, Mapping[str, str]]) -> tuple[str, ...]:
    """Say why a stage differs from the one of the same kind in an earlier plan's record.

    Empty if it does not.
    """
    known = before.get(stage.kind)
    if known is None:
        return ("never built here",)
    now = {**stage.inputs, "parent": stage.parent or ""}
    found = []
    for name in sorted(now.keys() | known.keys()):
        if name == "parent":
            continue
        if name not in known:
            found.append(f"{name} added")
        elif name not in now:
            found.append(f"{name} removed")
        elif now[name] != known[name]:
            found.append(f"{name} changed")
    if now["parent"] != known.get("parent") and not found:
        found.append("its parent changed")
    return tuple(found)
