"""What the tree of an appliance is given for its spec."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.builders._tree import _mountpoints, _settings, _state
from slipway.spec.model import Spec

HEAD = {"schema": 1, "name": "web", "version": "1.0.0", "summary": "A web server", "category": "network"}


def spec(**more: Any) -> Spec:
    return Spec.model_validate({**HEAD, **more})


def test_a_volume_is_a_partition_that_first_boot_makes_with_what_the_image_has_there() -> None:
    volumes = ({"name": "data", "path": "/srv/data", "size_gib": 2}, {"name": "home", "path": "/home"})
    found = _settings(spec(volumes=volumes))
    assert list(found) == ["/usr/lib/repart.d/60-0-data.conf", "/usr/lib/repart.d/60-1-home.conf"]
    assert "Label=data\nFormat=ext4\nCopyFiles=/srv/data:/\nSizeMinBytes=2G\nSizeMaxBytes=2G\n" in found["/usr/lib/repart.d/60-0-data.conf"]
    assert "SizeMaxBytes" not in found["/usr/lib/repart.d/60-1-home.conf"]


@pytest.mark.parametrize(
    ("more", "mountpoints", "state"),
    [
        ({}, [], []),
        ({"volumes": ({"name": "home", "path": "/home"},)}, ["/home"], []),
        ({"root": {"mode": "read-only"}}, ["/state"], ["etc", "home", "root", "srv", "var"]),
        (
            {"root": {"mode": "read-only"}, "volumes": ({"name": "home", "path": "/home"},)},
            ["/state", "/home"],
            ["etc", "root", "srv", "var"],
        ),
    ],
)
def test_what_changes_is_in_the_state_or_a_volume(more: dict[str, Any], mountpoints: list[str], state: list[str]) -> None:
    assert _mountpoints(spec(**more)) == mountpoints
    assert _state(spec(**more)) == state
