"""Identifiers of a disk."""

from __future__ import annotations

import uuid

from slipway.disk.identity import disk_identity


def test_one_seed_gives_one_identity_and_another_seed_another() -> None:
    assert disk_identity("a") == disk_identity("a")
    first, second = disk_identity("a"), disk_identity("b")
    for name in first.__slots__:
        assert getattr(first, name) != getattr(second, name), name


def test_the_roles_of_one_disk_differ_and_are_version_8_uuids() -> None:
    identity = disk_identity("a")
    texts = [getattr(identity, name) for name in identity.__slots__ if name != "esp_volume_id"]
    assert len(set(texts)) == len(texts)
    assert {uuid.UUID(text).version for text in texts} == {8}
    assert len(identity.esp_volume_id) == 8 and int(identity.esp_volume_id, 16)
