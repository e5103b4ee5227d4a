"""A seed -> the identifiers of a disk: repeatable, and different for different seeds."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass

__all__ = ["DiskIdentity", "disk_identity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskIdentity:
    """UUIDs in their text form.

    ``esp_volume_id``, of the EFI system partition, is eight hexadecimal digits.
    """

    disk_uuid: str
    bios_partition_uuid: str
    esp_partition_uuid: str
    root_partition_uuid: str
    second_root_partition_uuid: str
    state_partition_uuid: str
    root_uuid: str
    state_uuid: str
    hash_seed: str
    esp_volume_id: str


def disk_identity(seed: str) -> DiskIdentity:
    """Return the identifiers of a seed: version 8 UUIDs (RFC 9562, 5.8) from its SHA-256."""

    def derived(role: str) -> str:
        digest = bytearray(hashlib.sha256(f"{role}\0{seed}".encode()).digest()[:16])
        digest[6] = digest[6] & 0x0F | 0x80
        digest[8] = digest[8] & 0x3F | 0x80
        return str(uuid.UUID(bytes=bytes(digest)))

    return DiskIdentity(
        disk_uuid=derived("disk"),
        bios_partition_uuid=derived("bios partition"),
        esp_partition_uuid=derived("esp partition"),
        root_partition_uuid=derived("root partition"),
        second_root_partition_uuid=derived("second root partition"),
        state_partition_uuid=derived("state partition"),
        root_uuid=derived("root"),
        state_uuid=derived("state"),
        hash_seed=derived("hash seed"),
        esp_volume_id=derived("esp")[:8].upper(),
    )
