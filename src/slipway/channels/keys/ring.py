"""Use a channel's keys: find them, and sign for each role.

Invariants: A private key is read when it signs for the first time. So a command needs only the keys
of its roles. A key file that does not fit its public half is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from slipway.channels.keys.bundles import BUNDLE, channels_of_bundles, parse_bundles
from slipway.channels.keys.files import (
    SIGNERS,
    MissingKeys,
    Secret,
    parse_json,
    read_file,
    require_folder,
    require_own,
    require_whole,
    roots_in,
)
from slipway.channels.keys.passphrase import can_ask, is_encrypted, private_key
from slipway.channels.keys.seen import Seen
from slipway.errors import HostError, UsageError, suggestion

if TYPE_CHECKING:
    from securesystemslib.signer import Key, Signer
    from tuf.api.metadata import Metadata

__all__ = [
    "EXPIRY_DAYS",
    "OFFLINE",
    "ONLINE",
    "ROLES",
    "Clock",
    "KeyRing",
    "check_channel",
    "expiry",
    "fingerprint",
    "load_ring",
    "public_half",
    "trusted_root",
]

ROLES: Final = ("root", "targets", "snapshot", "timestamp")
#: Sign every night, without a person; can neither add nor remove a release.
ONLINE: Final = ("snapshot", "timestamp")
#: Sign when a person decides something.
OFFLINE: Final = ("root", "targets")
EXPIRY_DAYS: Final = {"root": 365, "targets": 90, "snapshot": 14, "timestamp": 7}
#: Seconds since 1970; another one in tests.
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRing:
    """The keys of a channel.

    Attributes:
        roots: Its root metadata, the oldest first.
        signers: By role, entries with the public key and either a URI or the private key itself.
        places: Folders that may have a root key, beside ``folder``.
        seen: The states seen before a bundle's export, by the name of the store.
    """

    channel: str
    roots: tuple[bytes, ...]
    signers: Mapping[str, tuple[Mapping[str, Any], ...]] = field(repr=False)
    folder: Path | None = None
    places: tuple[Path, ...] = ()
    seen: Mapping[str, Seen] = field(default_factory=dict, repr=False)
    _loaded: dict[str, list[Signer]] = field(default_factory=dict, repr=False, compare=False)

    def of(self, role: str) -> list[Signer]:
        """Return the signers of a role.

        Raises:
            HostError: No key of the role is here, or none can be used.
        """
        if role not in self._loaded:
            signers, problems = [], []
            for entry in self.signers.get(role, ()):
                try:
                    signers.append(self._signer(entry))
                except HostError as error:
                    problems.append(error)  # not all of several root keys need be here
            if not signers:
                raise next(
                    (each for each in problems if not isinstance(each, MissingKeys)),
                    self._missing(role),
                )
            self._loaded[role] = signers
        return self._loaded[role]

    def has(self, role: str) -> bool:
        """Return True if a role's private key can sign here.

        No passphrase is asked for, and no other machine.
        """
        return any(self._is_here(entry) for entry in self.signers.get(role, ()))

    def require(self, role: str) -> None:
        """Refuse early if a role's private key is not here.

        Raises:
            MissingKeys: The private key is not here.
        """
        if not any(self._is_here(entry, locked=True) for entry in self.signers.get(role, ())):
            raise self._missing(role)

    def public(self, role: str) -> list[Key]:
        """Return the public keys of a role."""
        return [_public(entry) for entry in self.signers.get(role, ())]

    def sign(self, metadata: Metadata[Any], role: str) -> bytes:
        """Sign metadata with a role's keys, and return it as bytes."""
        from tuf.api.serialization.json import JSONSerializer

        metadata.signatures.clear()
        for signer in self.of(role):
            metadata.sign(signer, append=True)
        return metadata.to_bytes(JSONSerializer(compact=True))

    def _missing(self, role: str) -> MissingKeys:
        return MissingKeys(
            f"the {role} key of the channel {self.channel} is not here",
            hint="do this where it is kept",
        )

    def _is_here(self, entry: Mapping[str, Any], *, locked: bool = False) -> bool:
        """Return True if a key's private half is here, or elsewhere by a URI.

        Args:
            locked: Count also a file if nobody can be asked for its passphrase.
        """
        uri = str(entry["uri"])
        if "pem" in entry or not uri.startswith("file2:"):
            return True
        if self.find(uri) is None:
            return False
        return locked or not is_encrypted(self.pem(entry).value) or can_ask(self.channel)

    def find(self, uri: str) -> Path | None:
        """Return the path of a private key's file; None if it is not here."""
        name = uri.removeprefix("file2:")
        if "/" in name:
            return Path(name) if Path(name).exists() else None
        folders = (self.folder, *self.places) if self.folder else ()
        return next((folder / name for folder in folders if (folder / name).exists()), None)

    def _signer(self, entry: Mapping[str, Any]) -> Signer:
        from securesystemslib.exceptions import Error
        from securesystemslib.signer import CryptoSigner, Signer, SSlibKey

        key, uri = _public(entry), str(entry["uri"])
        try:
            if "pem" not in entry and not uri.startswith("file2:"):
                return Signer.from_priv_key_uri(uri, key)
            private = private_key(
                self.pem(entry), f"{self.channel}/{uri.rpartition('/')[2].removeprefix('file2:')}"
            )
            problem = (
                None
                if isinstance(key, SSlibKey) and public_half(private) == key
                else "it is another key"
            )
        except (OSError, ValueError, Error, ImportError) as error:
            problem = str(error)
        if problem:
            raise HostError(
                f"the key {uri} cannot be used: {problem}",
                hint="restore it from a backup, or see: invoke keys show",
            )
        assert isinstance(key, SSlibKey)
        return CryptoSigner(private, key)

    def pem(self, entry: Mapping[str, Any]) -> Secret:
        """Return a private key as it is kept, possibly under a passphrase.

        Raises:
            MissingKeys: The key is not here.
            HostError: Others can read or write the key.
        """
        if "pem" in entry:
            found: Secret = entry["pem"]
            return found
        path = self.find(str(entry["uri"]))
        if path is None:
            raise MissingKeys(
                f"the key {entry['uri']} is not here", hint="do this where it is kept"
            )
        return Secret(require_own(path, private=True).read_bytes())


def check_channel(name: str) -> str:
    """Return the name of a channel, checked.

    Raises:
        UsageError: No channel can have this name.
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,39}", name):
        raise UsageError(
            f'a channel cannot be called "{name}"',
            hint="use lower-case letters, digits and hyphens",
        )
    return name


def load_ring(channel: str, directory: Path, *, places: tuple[Path, ...] = ()) -> KeyRing:
    """Load the keys of a channel.

    Args:
        places: Folders with root keys, beside those next to the channel's own folder.

    Raises:
        MissingKeys: The channel has no keys here.
        HostError: Others can read or write the keys, or their last change was interrupted.
    """
    check_channel(channel)
    bundle = parse_bundles(channel) if os.environ.get(BUNDLE) else None
    if bundle:
        return KeyRing(
            channel=channel, roots=bundle.roots, signers=bundle.signers, seen=bundle.seen
        )
    folder = directory / channel
    places = (*places, *sorted(directory.glob(f"{channel}.root-*")))
    try:
        for each in (folder, *places):
            require_folder(each)
        require_whole(folder)
        signers = parse_json(read_file(folder / SIGNERS), str(folder / SIGNERS))
    except FileNotFoundError as error:
        missing = Path(str(error.filename))
        if missing in places:
            raise UsageError(
                f"there is no folder {missing}", hint="--root-key needs the folder of a root key"
            ) from None
        raise MissingKeys(
            f"there are no keys of the channel {channel} in {directory}",
            hint=_elsewhere(channel, directory),
        ) from None
    return KeyRing(
        channel=channel, roots=roots_in(folder), signers=signers, folder=folder, places=places
    )


def _elsewhere(channel: str, directory: Path) -> str:
    """Return a hint to the place of a channel's keys; a caller with the store may know more."""
    if os.environ.get(BUNDLE):
        return f"{BUNDLE} has the keys of {', '.join(channels_of_bundles()) or 'no channel'}"
    near = suggestion(channel, (each.parent.name for each in directory.glob(f"*/{SIGNERS}")))
    return near or (
        "they are where they were made: name that folder, --keys DIR or "
        f"SLIPWAY_KEYS, or set {BUNDLE}"
    )


def trusted_root(channel: str, directory: Path, trust: Path | None = None) -> bytes | None:
    """Return the trusted root of a channel, None if there is none.

    The first root of its keys counts if those are here, else the file
    ``<trust>/<channel>.root.json``.
    """
    try:
        return load_ring(channel, directory).roots[0]
    except MissingKeys:
        path = trust / f"{channel}.root.json" if trust else None
        return path.read_bytes() if path and path.is_file() else None


def public_half(private: Any) -> Key:
    """Return the public half of a private key."""
    from securesystemslib.signer import SSlibKey

    return SSlibKey.from_crypto(private.public_key())


def _public(entry: Mapping[str, Any]) -> Key:
    from securesystemslib.signer import Key

    return Key.from_dict(str(entry["keyid"]), json.loads(json.dumps(entry["key"])))


def fingerprint(key: Key) -> str:
    """Return a key's fingerprint for reading aloud.

    It is the first half of the SHA-256 of the public key, in groups of four digits.
    """
    digest = hashlib.sha256(str(key.keyval["public"]).encode()).hexdigest()
    return " ".join(digest[start : start + 4] for start in range(0, 32, 4))


def expiry(now: float | None, role: str) -> datetime:
    """Return the end of metadata that a role signs now."""
    start = datetime.now(UTC) if now is None else datetime.fromtimestamp(now, UTC)
    return start.replace(microsecond=0) + timedelta(days=EXPIRY_DAYS[role])
