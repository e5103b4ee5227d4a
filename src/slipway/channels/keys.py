"""The keys of channels: where they are, how they are made and replaced, and what signs with them.

Every channel is a TUF repository of its own with four roles, so that who holds one channel's keys can sign nothing in
another. A channel's folder ``<keys>/<channel>/`` has ``signers.json`` (each role's public keys, and the URI by which
securesystemslib finds the private half: a file, an HSM, a cloud's KMS), private keys as ``<role>-<id>.pem`` (PKCS #8, mode 0600)
and every ``N.root.json``: public, and what clients start from. Where a program has no files, as in CI, the environment
variable ``SLIPWAY_KEY_BUNDLE`` holds what :func:`export` prints: one channel's keys without the root's.

Invariants: a private key is never replaced or lost before the new root is written; the folder is outside of any repository.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from slipway.cache import create_file
from slipway.errors import HostError, UsageError, VerificationError

if TYPE_CHECKING:
    from securesystemslib.signer import Key, Signer
    from tuf.api.metadata import Metadata, Root

__all__ = [
    "BUNDLE",
    "EXPIRY_DAYS",
    "ROLES",
    "Clock",
    "KeyRing",
    "check_channel",
    "export",
    "fingerprint",
    "init",
    "keys_directory",
    "load_ring",
    "parse_signers",
    "rotate",
    "trusted_root",
]

ROLES: Final = ("root", "targets", "snapshot", "timestamp")
EXPIRY_DAYS: Final = {"root": 365, "targets": 90, "snapshot": 14, "timestamp": 7}
BUNDLE: Final = "SLIPWAY_KEY_BUNDLE"
_SIGNERS: Final = "signers.json"
#: Seconds since 1970; another one in tests.
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRing:
    """What signs a channel. ``roots`` are its root metadata, oldest first; ``signers`` are, by role, entries with the
    public key and either a URI or the private key itself."""

    channel: str
    roots: tuple[bytes, ...]
    signers: Mapping[str, tuple[Mapping[str, Any], ...]]
    folder: Path | None = None
    _loaded: dict[str, list[Signer]] = field(default_factory=dict, repr=False, compare=False)

    def of(self, role: str) -> list[Signer]:
        """The signers of a role.

        Raises:
            HostError: They are not here, or cannot be used.
        """
        if role not in self._loaded:
            entries = self.signers.get(role, ())
            if not entries:
                raise HostError(f"the {role} key of the channel {self.channel} is not here", hint="do this where it is kept")
            signers, problems = [], []
            for entry in entries:
                try:
                    signers.append(_signer(entry, self.folder))
                except HostError as error:
                    problems.append(error)  # of several root keys not all need be here
            if not signers:
                raise problems[0]
            self._loaded[role] = signers
        return self._loaded[role]

    def public(self, role: str) -> list[Key]:
        """The public keys of a role."""
        return [_public(entry) for entry in self.signers.get(role, ())]

    def sign(self, metadata: Metadata[Any], role: str) -> bytes:
        """Metadata with the signatures of a role's keys, as bytes."""
        from tuf.api.serialization.json import JSONSerializer

        metadata.signatures.clear()
        for signer in self.of(role):
            metadata.sign(signer, append=True)
        return metadata.to_bytes(JSONSerializer(compact=True))


def keys_directory() -> Path:
    """Where keys are unless something else is said: SLIPWAY_KEYS, or below the user's configuration (XDG)."""
    set_ = os.environ.get("SLIPWAY_KEYS")
    if set_:
        return Path(set_).expanduser().absolute()
    config = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(config) if config.startswith("/") else Path.home() / ".config") / "slipway/keys"


def check_channel(name: str) -> str:
    """The name, if a channel can have it.

    Raises:
        UsageError: It cannot.
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,39}", name):
        raise UsageError(f'a channel cannot be called "{name}"', hint="use lower-case letters, digits and hyphens")
    return name


def load_ring(channel: str, directory: Path) -> KeyRing:
    """The keys of a channel.

    Raises:
        HostError: There are none, or others may read them.
    """
    check_channel(channel)
    text = os.environ.get(BUNDLE)
    if text:
        bundle = _json(text, BUNDLE)
        if bundle.get("channel") == channel:
            roots = tuple(base64.b64decode(root) for root in bundle["roots"])
            return KeyRing(channel=channel, roots=roots, signers=bundle["signers"])
    folder = directory / channel
    try:
        signers = _json((folder / _SIGNERS).read_text(), str(folder / _SIGNERS))
    except FileNotFoundError:
        raise HostError(f"there are no keys of the channel {channel} in {directory}", hint=f"run: invoke keys init {channel}") from None
    for path in folder.glob("*.pem"):
        if path.stat().st_mode & 0o077:
            raise HostError(f"{path} can be read by others", hint=f"run: chmod 600 {path}; and think of replacing it: invoke keys rotate")
    return KeyRing(channel=channel, roots=_roots(folder), signers=signers, folder=folder)


def trusted_root(channel: str, directory: Path, trust: Path | None = None) -> bytes | None:
    """The root metadata that a channel is trusted by: the first one of its keys, where they are here, or a file
    ``<trust>/<channel>.root.json``; None if nothing is known."""
    try:
        return load_ring(channel, directory).roots[0]
    except HostError:
        path = trust / f"{channel}.root.json" if trust else None
        return path.read_bytes() if path and path.is_file() else None


def init(
    channel: str,
    directory: Path,
    *,
    root_keys: int = 1,
    threshold: int = 1,
    signers: Mapping[str, tuple[str, Path]] | None = None,
    now: float | None = None,
) -> KeyRing:
    """Make the keys of a channel, and its first root.

    Args:
        root_keys: How many keys the root has, of which ``threshold`` must sign (2 of 3 in production).
        signers: For roles whose private key is elsewhere, its URI and a file with the public key (PEM).
        now: When this is, in seconds since 1970.

    Raises:
        UsageError: There are keys already, or the numbers make no sense.
    """
    folder = directory / check_channel(channel)
    if (folder / _SIGNERS).exists():
        raise UsageError(f"the channel {channel} has keys already, in {folder}", hint=f"to replace them: invoke keys rotate {channel}")
    if not 1 <= threshold <= root_keys <= 9:
        raise UsageError(f"{threshold} of {root_keys} root keys is not possible", hint="in production: --root-keys 3 --threshold 2")
    _private_folder(folder)
    made: dict[str, list[dict[str, Any]]] = {}
    for role in ROLES:
        if role in (signers or {}):
            made[role] = [_elsewhere(*(signers or {})[role])]
        else:
            made[role] = [_generate(folder, role) for _ in range(root_keys if role == "root" else 1)]
    ring = KeyRing(channel=channel, roots=(), signers={role: tuple(entries) for role, entries in made.items()}, folder=folder)
    root = _new_root(ring, threshold, now)
    _write(folder / "1.root.json", ring.sign(root, "root"), 0o644)
    _write_signers(folder, made)  # last: a channel has keys only when they are whole
    return load_ring(channel, directory)


def rotate(channel: str, directory: Path, role: str, *, now: float | None = None) -> KeyRing:
    """Give a role new keys. The next commit to a store takes the change there, in steps each of which clients follow.

    The old and the new root keys sign a new root. For the other roles there are two new roots: one that accepts the
    old keys and the new, under which everything is signed again, and one that accepts the new alone: so a client that
    looks in between finds nothing wrong.

    Raises:
        UsageError: There is no such role.
    """
    from tuf.api.metadata import Metadata

    if role not in ROLES:
        raise UsageError(f'there is no role "{role}"', hint=f"there is: {', '.join(ROLES)}")
    ring = load_ring(channel, directory)
    folder = ring.folder
    if folder is None:
        raise HostError(f"the keys of {channel} come from {BUNDLE}", hint="do this where the keys are kept")
    old = ring.public(role)
    fresh = [_generate(folder, role) for _ in old]
    signers = {name: list(entries) for name, entries in ring.signers.items()} | {role: fresh}
    after = KeyRing(channel=channel, roots=(), signers={name: tuple(entries) for name, entries in signers.items()}, folder=folder)
    for step in ("both", "new") if role != "root" else ("new",):
        root = Metadata[Any].from_bytes(_roots(folder)[-1])
        root.signed.version += 1
        root.signed.expires = _expiry(now, "root")
        if step == "both" or role == "root":
            for key in after.public(role):
                root.signed.add_key(key, role)
        if step == "new":
            for key in old:
                root.signed.revoke_key(key.keyid, role)
        both = KeyRing(channel=channel, roots=(), signers={"root": (*ring.signers["root"], *fresh * (role == "root"))}, folder=folder)
        content = both.sign(root, "root")
        try:
            _require_threshold(channel, Metadata[Any].from_bytes(_roots(folder)[-1]), root)
        except HostError:
            _remove(folder, fresh)
            raise
        _write(folder / f"{root.signed.version}.root.json", content, 0o644)
    _write_signers(folder, signers)
    _remove(folder, ring.signers[role])
    return load_ring(channel, directory)


def _remove(folder: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Remove the private keys of entries, where this folder has them."""
    for entry in entries:
        if str(entry["uri"]).startswith("file2:") and "/" not in str(entry["uri"]):
            (folder / str(entry["uri"]).removeprefix("file2:")).unlink(missing_ok=True)


def _require_threshold(channel: str, before: Metadata[Any], after: Metadata[Any]) -> None:
    from tuf.api.exceptions import UnsignedMetadataError

    for delegator in (before, after):
        try:
            delegator.signed.verify_delegate("root", after.signed_bytes, after.signatures)
        except UnsignedMetadataError:
            threshold = delegator.signed.roles["root"].threshold
            raise HostError(
                f"{threshold} root keys of the channel {channel} must sign, and they are not here", hint="bring more of them to this folder"
            ) from None


def export(ring: KeyRing) -> str:
    """A channel's keys but for the root's, as one line of JSON for a CI system's secret: :data:`BUNDLE`."""
    signers: dict[str, list[dict[str, Any]]] = {}
    for role in ROLES[1:]:
        signers[role] = []
        for entry in ring.signers[role]:
            uri = str(entry["uri"])
            secret = {"pem": ((ring.folder or Path()) / uri.removeprefix("file2:")).read_text()} if uri.startswith("file2:") else {}
            signers[role].append({**entry, **secret})
    return json.dumps({"channel": ring.channel, "roots": [base64.b64encode(root).decode() for root in ring.roots], "signers": signers})


def parse_signers(texts: Sequence[str]) -> dict[str, tuple[str, Path]]:
    """Keys that are elsewhere, as the command line gives them: ``ROLE=URI,PUBLIC.pem``.

    Raises:
        UsageError: It is written otherwise.
    """
    signers = {}
    for text in texts:
        match = re.fullmatch(r"(\w+)=([^,]+),(.+)", text)
        if not match or match[1] not in ROLES:
            raise UsageError(f'"{text}" is no signer', hint=f"write ROLE=URI,PUBLIC.pem, with a role of: {', '.join(ROLES)}")
        signers[match[1]] = (match[2], Path(match[3]))
    return signers


def _new_root(ring: KeyRing, threshold: int, now: float | None) -> Metadata[Root]:
    from tuf.api.metadata import Metadata, Root

    root = Root(version=1, expires=_expiry(now, "root"), consistent_snapshot=True)
    for role in ROLES:
        for key in ring.public(role):
            root.add_key(key, role)
    root.roles["root"].threshold = threshold
    return Metadata(root)


def _expiry(now: float | None, role: str) -> datetime:
    start = datetime.now(UTC) if now is None else datetime.fromtimestamp(now, UTC)
    return start.replace(microsecond=0) + timedelta(days=EXPIRY_DAYS[role])


def _generate(folder: Path, role: str) -> dict[str, Any]:
    """A new key in a file; returns its entry."""
    from securesystemslib.signer import CryptoSigner

    signer = CryptoSigner.generate_ed25519()
    name = f"{role}-{signer.public_key.keyid[:12]}.pem"
    _write(folder / name, signer.private_bytes, 0o600)
    return {"uri": f"file2:{name}", "keyid": signer.public_key.keyid, "key": signer.public_key.to_dict()}


def _elsewhere(uri: str, pem: Path) -> dict[str, Any]:
    """The entry of a key whose private half is elsewhere."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, SSlibKey

    if uri.partition(":")[0] not in SIGNER_FOR_URI_SCHEME:
        raise UsageError(f'"{uri}" is no key that securesystemslib knows', hint=f"there is: {', '.join(sorted(SIGNER_FOR_URI_SCHEME))}")
    try:
        key = SSlibKey.from_crypto(load_pem_public_key(pem.read_bytes()))
    except (OSError, ValueError) as error:
        raise UsageError(f"{pem} is no public key: {error}", hint="give it in PEM, as `openssl pkey -pubout` writes it") from error
    return {"uri": uri, "keyid": key.keyid, "key": key.to_dict()}


def _public(entry: Mapping[str, Any]) -> Key:
    from securesystemslib.signer import Key

    return Key.from_dict(str(entry["keyid"]), json.loads(json.dumps(entry["key"])))


def _signer(entry: Mapping[str, Any], folder: Path | None) -> Signer:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.exceptions import Error
    from securesystemslib.signer import CryptoSigner, Signer, SSlibKey

    key, uri = _public(entry), str(entry["uri"])
    try:
        if "pem" in entry and isinstance(key, SSlibKey):
            return CryptoSigner(load_pem_private_key(str(entry["pem"]).encode(), None), key)
        if uri.startswith("file2:") and folder:
            uri = f"file2:{folder / uri.removeprefix('file2:')}"
        return Signer.from_priv_key_uri(uri, key)
    except (OSError, ValueError, Error, ImportError) as error:
        raise HostError(f"the key {uri} cannot be used: {error}", hint="see the documentation of securesystemslib.signer") from error


def _roots(folder: Path) -> tuple[bytes, ...]:
    paths = sorted(folder.glob("*.root.json"), key=lambda path: int(path.name.partition(".")[0]))
    return tuple(path.read_bytes() for path in paths)


def _private_folder(folder: Path) -> None:
    for each in (folder.parent, folder):
        each.mkdir(parents=True, exist_ok=True, mode=0o700)
    if any((parent / ".git").exists() for parent in folder.parents):
        raise UsageError(f"{folder} is inside a repository", hint="keep keys outside of it: --keys DIR, or SLIPWAY_KEYS")


def _write(path: Path, content: bytes, mode: int) -> None:
    with create_file(path, mode=mode) as file:
        file.write(content)


def _write_signers(folder: Path, signers: Mapping[str, Any]) -> None:
    _write(folder / _SIGNERS, (json.dumps(signers, indent=2) + "\n").encode(), 0o600)


def _json(text: str, source: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise VerificationError(f"{source} is no JSON: {error}") from error


def fingerprint(key: Key) -> str:
    """A key as one can read it out: the SHA-256 of its public half, in groups of four."""
    digest = hashlib.sha256(str(key.keyval["public"]).encode()).hexdigest()
    return " ".join(digest[start : start + 4] for start in range(0, 32, 4))
