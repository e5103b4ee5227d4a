"""The keys of channels: their files, and how they are made, replaced and used for signing.

Every channel is a TUF repository of its own with four roles. The keys of one channel can sign
nothing in another. A channel's folder ``<keys>/<channel>/`` has:

* ``signers.json``: each role's public keys, and the URI by which securesystemslib finds the private
  half: a file, an HSM, a cloud's KMS.
* ``<role>-<id>.pem``: private keys (PKCS #8, mode 0600).
* ``N.root.json``: public, and the start for clients.

Roles are apart (docs/adr/0017-keys-apart.md). Timestamp and snapshot sign every night without a
person. Targets signs the content of a channel, and root its keys. Each private key is a file of its
own, and may be absent.

Invariants: A private key is never replaced or lost before the new root is written. The folder is
outside of any repository. Nothing is read from a folder others can write. No ``repr`` shows a
private key.
"""

from __future__ import annotations

from slipway.channels.keys.bundles import BUNDLE, channels_of_bundles, export
from slipway.channels.keys.files import MissingKeys, Secret, keys_directory
from slipway.channels.keys.making import init, parse_signers
from slipway.channels.keys.passphrase import PASSPHRASE_FILE, new_passphrase
from slipway.channels.keys.ring import (
    EXPIRY_DAYS,
    OFFLINE,
    ONLINE,
    ROLES,
    Clock,
    KeyRing,
    check_channel,
    fingerprint,
    load_ring,
    trusted_root,
)
from slipway.channels.keys.rotation import protect, require_rotatable, rotate
from slipway.channels.keys.seen import Seen, newer, seen_from

__all__ = [
    "BUNDLE",
    "EXPIRY_DAYS",
    "OFFLINE",
    "ONLINE",
    "PASSPHRASE_FILE",
    "ROLES",
    "Clock",
    "KeyRing",
    "MissingKeys",
    "Secret",
    "Seen",
    "channels_of_bundles",
    "check_channel",
    "export",
    "fingerprint",
    "init",
    "keys_directory",
    "load_ring",
    "new_passphrase",
    "newer",
    "parse_signers",
    "protect",
    "require_rotatable",
    "rotate",
    "seen_from",
    "trusted_root",
]
