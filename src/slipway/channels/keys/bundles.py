"""Keys without files: lines of JSON in ``SLIPWAY_KEY_BUNDLE``, as a CI system's secret.

Each line is the result of :func:`export`: a channel's public keys, private keys of some roles,
never the root's, and the states seen of the channel. So a runner without a memory believes no older
state. Several lines of one channel count together. So the keys of every night and the key for
promotions can be two secrets.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from slipway.channels.keys.files import Secret, parse_json
from slipway.channels.keys.passphrase import is_encrypted, private_key
from slipway.channels.keys.seen import Seen, newer, seen_from
from slipway.errors import HostError, UsageError, VerificationError

if TYPE_CHECKING:
    from slipway.channels.keys.ring import KeyRing

__all__ = ["BUNDLE", "Bundle", "channels_of_bundles", "export", "parse_bundles"]

BUNDLE: Final = "SLIPWAY_KEY_BUNDLE"
_ROLES: Final = ("targets", "snapshot", "timestamp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The keys of one channel, and the states seen before their export, by store."""

    roots: tuple[bytes, ...]
    signers: Mapping[str, tuple[Mapping[str, Any], ...]] = field(repr=False)
    seen: Mapping[str, Seen] = field(default_factory=dict)


def parse_bundles(channel: str) -> Bundle | None:
    """Return the keys of a channel in the environment, None if it has only those of others.

    Raises:
        HostError: A line is no bundle.
    """
    found: Bundle | None = None
    lines = [Secret(text.strip().encode()) for text in os.environ.get(BUNDLE, "").splitlines()]
    for number, line in enumerate(lines, start=1):
        if not line.value:
            continue
        source = f"line {number} of {BUNDLE}"
        try:
            data = _hidden(parse_json(line.value, source))
            if data["channel"] != channel:
                continue
            roots = tuple(base64.b64decode(root, validate=True) for root in data["roots"])
            signers = {
                str(role): tuple(entries)
                for role, entries in data["signers"].items()
                if role in _ROLES
            }
            # Lines from before 2026-11-30 have none.
            seen = {place: seen_from(record) for place, record in data.get("seen", {}).items()}
            following = Bundle(roots=roots, signers=signers, seen=seen)
        except (ValueError, KeyError, TypeError, AttributeError, VerificationError):
            data = None
        if data is None:
            raise HostError(
                f"{source} is not what `invoke keys export` prints",
                hint=f"make it with: invoke keys export {channel}",
            )
        found = _merged(channel, found, following) if found else following
    return found


def channels_of_bundles() -> list[str]:
    """Return the channels with keys in the environment; malformed lines are left out."""
    found = set()
    for text in os.environ.get(BUNDLE, "").splitlines():
        with suppress(ValueError, KeyError, TypeError):
            found.add(str(json.loads(text)["channel"]))
    return sorted(found)


def _merged(channel: str, first: Bundle, second: Bundle) -> Bundle:
    """Merge two bundles of one channel; the one with the newer root decides the public keys.

    Raises:
        HostError: They know two states of one number.
    """
    later, older = (second, first) if len(second.roots) > len(first.roots) else (first, second)
    private = {
        entry["keyid"]: entry
        for bundle in (older, later)
        for entries in bundle.signers.values()
        for entry in entries
        if "pem" in entry
    }
    signers = {
        role: tuple(private.get(entry["keyid"], entry) for entry in entries)
        for role, entries in later.signers.items()
    }
    seen = {**first.seen, **second.seen}
    for place in first.seen.keys() & second.seen.keys():
        try:
            seen[place] = newer(first.seen[place], second.seen[place])
        except ValueError as error:
            raise HostError(
                f"{BUNDLE} has two lines of the channel {channel} in {place} that do not agree: "
                f"{error}",
                hint=f"look where each was made, with: invoke recover {channel}; "
                "then export both again",
            ) from error
    return Bundle(roots=later.roots, signers=signers, seen=seen)


def _hidden(data: Any) -> Any:
    """Return the same data, with private keys as secrets."""
    if isinstance(data, dict):
        return {
            key: Secret(str(value).encode()) if key == "pem" else _hidden(value)
            for key, value in data.items()
        }
    return [_hidden(each) for each in data] if isinstance(data, list) else data


def export(
    ring: KeyRing, roles: Sequence[str] = _ROLES, *, seen: Mapping[str, Seen] | None = None
) -> str:
    """Return a channel's keys as one line for a CI system's secret.

    A passphrase is asked for and taken off: beside the bundle it would be a second secret of the
    same system.

    Args:
        roles: The roles with their private keys in the line.
        seen: The states seen of the channel, by the name of the store.

    Raises:
        HostError: A private key is not here.
        UsageError: The root is among the roles.
    """
    if not set(roles) <= set(_ROLES):
        raise UsageError(
            "a root key is never in a bundle", hint=f"choose from: {', '.join(_ROLES)}"
        )
    signers: dict[str, list[dict[str, Any]]] = {}
    for role in _ROLES:
        signers[role] = []
        for entry in ring.signers[role]:
            item = dict(entry)
            item.pop("pem", None)
            if role in roles and str(entry["uri"]).startswith("file2:"):
                item["pem"] = _plain(ring, entry).value.decode()
            signers[role].append(item)
    roots = [base64.b64encode(root).decode() for root in ring.roots]
    states = {place: asdict(state) for place, state in (seen or {}).items()}
    return json.dumps({"channel": ring.channel, "roots": roots, "signers": signers, "seen": states})


def _plain(ring: KeyRing, entry: Mapping[str, Any]) -> Secret:
    """Return a private key in PEM without a passphrase."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem = ring.pem(entry)
    if not is_encrypted(pem.value):
        return pem
    private = private_key(pem, f"{ring.channel}/{str(entry['uri']).removeprefix('file2:')}")
    return Secret(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
