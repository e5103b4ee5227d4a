"""Replace the keys of a channel's role, and put existing keys under a passphrase.

Invariants: The whole change is known before anything is written. An interrupted change is completed
by the same command. The old private key goes last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.channels.keys.bundles import BUNDLE
from slipway.channels.keys.files import (
    JOURNAL,
    Change,
    Secret,
    carry_out,
    complete,
    locked,
    require_folder,
)
from slipway.channels.keys.making import Made, generate
from slipway.channels.keys.passphrase import encrypted, is_encrypted
from slipway.channels.keys.ring import OFFLINE, ROLES, KeyRing, check_channel, expiry, load_ring
from slipway.errors import HostError, UsageError

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata

__all__ = ["protect", "require_rotatable", "rotate"]


def rotate(
    channel: str,
    directory: Path,
    role: str,
    *,
    places: tuple[Path, ...] = (),
    passphrase: Secret | None = None,
    now: float | None = None,
) -> KeyRing:
    """Give a role new keys.

    The next commit to a store brings the change there, in steps that clients can follow.

    New root keys need one new root, signed by the old keys and the new. For the other roles there
    are two new roots. The first accepts the old keys and the new, and everything is signed again
    under it. The second accepts only the new. So a client that looks in between finds nothing
    wrong. An interrupted rotation is completed, and no second one begins.

    Args:
        places: Folders with root keys that are not beside the channel's.
        passphrase: The passphrase for a new targets or root key.

    Raises:
        UsageError: There is no such role.
        HostError: Too few root keys are here, or another change was interrupted.
    """
    _require_role(role)
    command = f"invoke keys rotate {channel} --role {role}"
    folder = directory / check_channel(channel)
    if _completed(folder, command):
        return load_ring(channel, directory, places=places)
    ring = load_ring(channel, directory, places=places)
    with locked(_folder(ring)):
        fresh = generate(channel, role, len(ring.signers[role]))
        roots = _new_roots(ring, role, fresh, now)
        private: dict[str, Secret] = {}
        for each in fresh:
            private |= each.stored(passphrase if role in OFFLINE else None)
        change = Change(
            command=command,
            private=private,
            public={
                f"{channel}/{version}.root.json": content for version, content in roots.items()
            },
            signers={**ring.signers, role: [dict(each.entry) for each in fresh]},
            removed=_files(ring, ring.signers[role], directory),
        )
        carry_out(_folder(ring), change)
    return load_ring(channel, directory, places=places)


def _require_role(role: str) -> None:
    if role not in ROLES:
        raise UsageError(f'there is no role "{role}"', hint=f"choose from: {', '.join(ROLES)}")


def require_rotatable(ring: KeyRing, role: str) -> None:
    """Refuse a rotation that cannot be done here.

    Raises:
        UsageError: There is no such role.
        HostError: The keys are in no folder, or no root key is here.
    """
    _require_role(role)
    _folder(ring)
    ring.require("root")


def protect(
    channel: str, directory: Path, passphrase: Secret, *, places: tuple[Path, ...] = ()
) -> list[str]:
    """Put the unprotected targets and root keys of a channel under a passphrase.

    Returns their files.
    """
    command = f"invoke keys protect {channel}"
    folder = directory / check_channel(channel)
    if _completed(folder, command):
        return []
    ring = load_ring(channel, directory, places=places)
    with locked(_folder(ring)):
        private: dict[str, Secret] = {}
        for role in OFFLINE:
            for name in _files(ring, ring.signers[role], directory):
                pem = Secret((directory / name).read_bytes())
                if not is_encrypted(pem.value):
                    private[name] = encrypted(pem, passphrase)
        if private:
            carry_out(
                _folder(ring), Change(command=command, private=private, public={}, signers=None)
            )
    return sorted(private)


def _completed(folder: Path, command: str) -> bool:
    """Complete an interrupted change, if there is one; return True if this command began it."""
    if not (folder / JOURNAL).exists():
        return False
    require_folder(folder)
    with locked(folder):
        return complete(folder) == command


def _folder(ring: KeyRing) -> Path:
    if ring.folder is None:
        raise HostError(
            f"the keys of {ring.channel} come from {BUNDLE}", hint="do this where the keys are kept"
        )
    return ring.folder


def _new_roots(ring: KeyRing, role: str, fresh: list[Made], now: float | None) -> dict[int, bytes]:
    """Return the signed roots for replacing a role's keys, by number."""
    from tuf.api.metadata import Metadata

    old = ring.public(role)
    entries = tuple(each.usable for each in fresh)
    after = KeyRing(channel=ring.channel, roots=(), signers={role: entries})
    signing = KeyRing(
        channel=ring.channel,
        roots=(),
        signers={"root": (*ring.signers["root"], *entries * (role == "root"))},
        folder=ring.folder,
        places=ring.places,
    )
    roots: dict[int, bytes] = {}
    last = ring.roots[-1]
    for step in ("both", "new") if role != "root" else ("new",):
        root = Metadata[Any].from_bytes(last)
        root.signed.version += 1
        root.signed.expires = expiry(now, "root")
        if step == "both" or role == "root":
            for key in after.public(role):
                root.signed.add_key(key, role)
        if step == "new":
            for key in old:
                root.signed.revoke_key(key.keyid, role)
        content = signing.sign(root, "root")
        _require_threshold(ring.channel, Metadata[Any].from_bytes(last), root)
        roots[root.signed.version] = last = content
    return roots


def _files(ring: KeyRing, entries: Iterable[Mapping[str, Any]], directory: Path) -> list[str]:
    """Return the entries' private keys below the folder of all keys.

    A key moved away belongs to its owner.
    """
    names = []
    for entry in entries:
        uri = str(entry["uri"])
        path = ring.find(uri) if uri.startswith("file2:") and "/" not in uri else None
        if path and path.parent.parent == directory:
            names.append(f"{path.parent.name}/{path.name}")
    return names


def _require_threshold(channel: str, before: Metadata[Any], after: Metadata[Any]) -> None:
    from tuf.api.exceptions import UnsignedMetadataError

    for delegator in (before, after):
        try:
            delegator.signed.verify_delegate("root", after.signed_bytes, after.signatures)
        except UnsignedMetadataError:
            threshold = delegator.signed.roles["root"].threshold
            if threshold == 1:
                said, hint = (
                    f"the root key of the channel {channel} must sign, and is not here",
                    "bring it: --root-key FOLDER",
                )
            else:
                said = (
                    f"{threshold} root keys of the channel {channel} must sign, "
                    "and they are not here"
                )
                hint = "bring more of them: --root-key FOLDER, once for each"
            raise HostError(said, hint=hint) from None
