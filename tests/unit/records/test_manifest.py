"""The manifest: there and back, its schema, and what must never be in it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from golden import require_golden
from slipway.errors import VerificationError
from slipway.records.manifest import (
    Manifest,
    PackageChanges,
    Parent,
    boot_record,
    manifest_schema,
    package_changes,
    parameter_records,
    read_manifest,
)


def test_what_is_written_is_read_back(manifest: Manifest) -> None:
    changes = PackageChanges(added={"a": "1"}, removed={"b": "2"}, changed={"c": ("3", "4")})
    for written in (
        manifest,
        replace(manifest, parent=Parent(release="1.0.0-x", build="x", packages=changes)),
        replace(manifest, boot=None, booted_disk_sha256=None),
    ):
        assert read_manifest(written.to_json()) == written


def test_it_is_canonical_json(manifest: Manifest) -> None:
    text = manifest.to_json()
    assert (
        text
        == (
            json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        ).encode()
    )
    assert json.loads(text)["created"] == "2027-01-15T08:00:00Z"
    versions = manifest.inputs.tool_versions
    reordered = replace(
        manifest,
        inputs=replace(manifest.inputs, tool_versions=dict(reversed(list(versions.items())))),
    )
    assert reordered.to_json() == text


def test_the_schema_is_a_schema_and_the_one_in_the_documentation() -> None:
    jsonschema_rs.meta.validate(json.loads(manifest_schema()))
    root = Path(__file__).parents[3]
    assert (root / "docs" / "manifest.schema.json").read_bytes() == manifest_schema()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "m has version 2, this program reads up to 1\n  hint: update slipway"),
        ({"appliance": "../x"}, "m is not a manifest: $.appliance: <…>"),
        ({"build": 7}, "m is not a manifest: $.build: <…>"),
        ({"channel": "stable"}, "m is not a manifest: $: <…>"),
        ({"artifacts": []}, "m is not a manifest: $.artifacts: <…>"),
    ],
)
def test_what_does_not_follow_the_schema_is_refused(
    manifest: Manifest, change: dict[str, Any], message: str
) -> None:
    data = json.loads(manifest.to_json()) | change
    with pytest.raises(VerificationError) as caught:
        read_manifest(json.dumps(data).encode(), source="m")
    require_golden(str(caught.value), f"error: {message}")


@pytest.mark.parametrize("name", ["../disk", "a/b", ".hidden", "", "a\nb", "a\n"])
def test_an_artifact_cannot_have_a_name_that_leads_elsewhere(manifest: Manifest, name: str) -> None:
    data = json.loads(manifest.to_json())
    data["artifacts"][0]["file"] = name
    with pytest.raises(
        VerificationError, match=r"^error: m is not a manifest: \$\.artifacts\[0\]\.file: "
    ):
        read_manifest(json.dumps(data).encode(), source="m")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe"])
def test_what_is_no_json_or_no_object_is_refused(text: bytes) -> None:
    with pytest.raises(VerificationError, match=r"^error: m is not (JSON|a manifest): "):
        read_manifest(text, source="m")


def test_a_secret_has_no_default(manifest: Manifest) -> None:
    secret = {"name": "key", "type": "secret", "default": "hunter2"}
    plain = {"name": "zone", "type": "string", "default": "home"}
    assert parameter_records([secret, plain]) == ({"name": "key", "type": "secret"}, plain)
    with pytest.raises(ValueError, match="parameters"):
        replace(manifest, parameters=(secret,)).to_json()


def test_what_checks_wrote_stays_out() -> None:
    check = {"name": "a", "place": "guest", "outcome": "passed", "duration_s": 0.1, "attempts": 1}
    report = {
        "accelerator": "tcg",
        "attempts": [{"reason": "", "console": "secret"}],
        "checks": ({**check, "output": "secret"},),
    }
    assert boot_record(report) == {
        "accelerator": "tcg",
        "attempts": [{"reason": ""}],
        "checks": [check],
        "passed": True,
    }


def test_a_picture_is_a_small_png_and_manifests_of_earlier_versions_have_none(
    manifest: Manifest,
) -> None:
    assert manifest.boot
    assert "picture" not in manifest.boot
    picture = {"media_type": "image/png", "width": 720, "height": 400, "base64": "iVBORw0KGgo="}
    for good in (None, picture):
        boot = boot_record({**manifest.boot, "picture": good})
        assert boot["picture"] == good
        written = replace(manifest, boot=boot).to_json()
        assert read_manifest(written).boot == boot
    for change in (
        {"media_type": "image/svg+xml"},
        {"width": 0},
        {"height": 5000},
        {"base64": "<svg>"},
        {"base64": "A" * 400_001},
    ):
        boot = {**manifest.boot, "picture": {**picture, **change}}
        with pytest.raises(ValueError, match=r"\$\.boot: "):
            replace(manifest, boot=boot).to_json()


def test_a_boot_counts_only_for_the_disk_that_was_booted_and_if_every_check_passed(
    manifest: Manifest,
) -> None:
    assert manifest.boot_passed
    assert not replace(manifest, boot=None).boot_passed
    assert not replace(manifest, booted_disk_sha256="0" * 64).boot_passed
    assert not replace(
        manifest, boot={"passed": False, "checks": [{"name": "a", "outcome": "passed"}]}
    ).boot_passed
    assert not replace(
        manifest, boot={"passed": True, "checks": [{"name": "a", "outcome": "timed out"}]}
    ).boot_passed
    assert not replace(manifest, boot={"passed": True, "checks": []}).boot_passed
    assert boot_record({"checks": []})["passed"] is False


def test_a_boot_counts_with_the_expected_checks_alone(manifest: Manifest) -> None:
    def passed(expected: list[str], *names: str) -> bool:
        checks = [
            {"place": name.partition("/")[0], "name": name.partition("/")[2], "outcome": "passed"}
            for name in names
        ]
        return replace(
            manifest, boot={"passed": True, "expected": expected, "checks": checks}
        ).boot_passed

    assert passed(["guest/one", "outside/two"], "outside/two", "guest/one")
    assert not passed(["guest/one", "outside/two"], "guest/one")
    assert not passed(["guest/one", "outside/two"], "guest/one", "guest/two")
    assert not passed(["guest/one"], "guest/one", "guest/one")
    assert not passed(["guest/one"], "guest/one", "guest/two")
    assert not passed([], "guest/one")
    assert not passed([])


def test_package_changes_are_named(packages: tuple[Any, ...]) -> None:
    nginx, stdcpp, tzdata = packages
    changes = package_changes(
        *(
            {package.name: package.version for package in found}
            for found in ([nginx, tzdata], [replace(nginx, version="1.28"), stdcpp])
        )
    )
    assert changes == PackageChanges(
        added={"libstdc++6": "14.2.0-19"},
        removed={"tzdata": "1:2025b-4"},
        changed={"nginx": ("1.26.3-3+deb13u1", "1.28")},
    )
