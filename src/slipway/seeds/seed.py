"""Values for first boot as a file beside an image; the image's bytes stay as signed.

What goes in: a release and values of its parameters. What comes out: an ISO 9660 image for
cloud-init's NoCloud data source (volume ``cidata`` with ``meta-data`` and ``user-data``), and its
id.

Invariants: one release and one set of values give one id and the same bytes, here and in a browser
(``templates/catalog/www/seed.js``). A file is damaged unless its values would be written as exactly
these bytes. No message shows a secret. Only its owner reads the file.

The id is the SHA-256 of the appliance, the release and the values as JSON: sorted names, no blanks,
UTF-8. A secret is in it as its scrypt hash (RFC 7914), because the id is shown. Every user of the
instance may read it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from slipway.cache import create_file
from slipway.errors import HostError, UsageError, VerificationError
from slipway.formats import load, names
from slipway.records.manifest import Manifest
from slipway.seeds.iso9660 import read_iso, write_iso
from slipway.spec.given import require_accepted
from slipway.terminal.text import one_line

__all__ = ["Seed", "make_seed", "read_seed", "require_made_for", "seed_path", "write_seed"]

SUFFIX: Final = ".seed.iso"
_VOLUME: Final = "cidata"
#: The longest file that is read as a seed, in bytes.
_MAX_BYTES: Final = 4 << 20
_META: Final = re.compile(r"instance-id: slipway-[0-9a-f]{64}\nslipway: (\{.*\})\n")
_USER: Final = re.compile(r"#cloud-config\nslipway: (\{.*\})\n")
_ESCAPED: Final = re.compile("[\ufffe\uffff]|(?<=mime-version):", re.IGNORECASE)
#: The most secrets that are believed: each takes a while to hash, as it has to, and no release has
#: nearly as many.
_MOST_SECRETS: Final = 64
_AGAIN: Final = "make it again: invoke fetch NAME --set name=value"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parameter:
    """A parameter as a manifest has it."""

    name: str
    type: str
    choices: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Seed:
    """The content of a seed: values by name, for one release; ``secrets`` are names of some."""

    appliance: str
    release: str
    values: Mapping[str, str]
    secrets: frozenset[str] = frozenset()

    @cached_property
    def id(self) -> str:
        """The hash of the release and the values."""
        values = {
            name: self._hardened(name) if name in self.secrets else value
            for name, value in self.values.items()
        }
        about = {"appliance": self.appliance, "parameters": values, "release": self.release}
        return hashlib.sha256(_json(about).encode()).hexdigest()

    @property
    def names(self) -> list[str]:
        """The parameters with a value, sorted."""
        return sorted(self.values)

    @property
    def subject(self) -> str:
        """What it is for, in one line, whatever somebody wrote into it."""
        return one_line(f"{self.appliance} {self.release}")

    def to_iso(self) -> bytes:
        """Return the file."""
        about = {
            "appliance": self.appliance,
            "parameters": self.names,
            "release": self.release,
            "secrets": sorted(self.secrets),
        }
        meta = f"instance-id: slipway-{self.id}\nslipway: {_json(about)}\n"
        user = f"#cloud-config\nslipway: {_json({'parameters': dict(self.values)})}\n"
        return write_iso(_VOLUME, {"meta-data": meta.encode(), "user-data": user.encode()})

    def _hardened(self, name: str) -> str:
        salt = f"{self.appliance} {self.release} {name}".encode()
        return hashlib.scrypt(
            self.values[name].encode(), salt=salt, n=1 << 14, r=8, p=1, dklen=32
        ).hex()


def make_seed(manifest: Manifest, values: Mapping[str, str], *, public: Sequence[str] = ()) -> Seed:
    """Return the seed for a release.

    Args:
        public: The values readable by others on this host, because they were on a command line.

    Raises:
        UsageError: A parameter does not exist, does not accept its value, or is a secret that
            others could read.
    """
    parameters = _parameters(manifest)
    secrets = frozenset(each.name for each in parameters if each.type == "secret") & values.keys()
    for name in public:
        if name in secrets:
            raise UsageError(
                f"{name} is a secret, and others on this host can read a command line",
                hint=f"give it by a file: --set-file {name}=PATH",
            )
    require_accepted(manifest.appliance, parameters, values)
    return Seed(
        appliance=manifest.appliance,
        release=manifest.release,
        values=dict(values),
        secrets=secrets,
    )


def require_made_for(seed: Seed, manifest: Manifest, source: str) -> None:
    """Require a seed to be for this release, with values that first boot will accept.

    Raises:
        VerificationError: The seed is for another release, or the release does not accept it.
    """
    if (seed.appliance, seed.release) != (manifest.appliance, manifest.release):
        raise VerificationError(
            f"{source} is a seed for {seed.subject}, "
            f"not for {manifest.appliance} {manifest.release}",
            hint=_AGAIN,
        )
    try:
        right = make_seed(manifest, seed.values)
    except UsageError as error:
        raise VerificationError(f"{source}: {one_line(error.message)}", hint=_AGAIN) from error
    if right != seed:
        raise VerificationError(
            f"{source} does not name the secrets of {seed.appliance} {seed.release}", hint=_AGAIN
        )


def read_seed(path: Path) -> Seed:
    """Read a seed.

    Raises:
        VerificationError: The file is not a seed, or is damaged.
        OSError: The file cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise VerificationError(f"{path} is not a regular file", hint=_AGAIN)
        content = file.read(_MAX_BYTES + 1)
    try:
        volume, files = read_iso(content)
        meta = _META.fullmatch(files["meta-data"].decode())
        user = _USER.fullmatch(files["user-data"].decode())
        if volume != _VOLUME or meta is None or user is None:
            raise ValueError("something else is in it")
        seed = _seed(json.loads(meta[1]), json.loads(user[1]))
        same = seed.to_iso() == content
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise VerificationError(f"{path} is not a seed, or is damaged", hint=_AGAIN) from error
    if not same:
        raise VerificationError(f"{path} is damaged: it is not what its id says", hint=_AGAIN)
    return seed


def _seed(about: Any, given: Any) -> Seed:
    """Return the seed of two documents.

    Raises:
        ValueError: A name or a value is not text.
    """
    values = given["parameters"]
    if not isinstance(values, dict):
        raise ValueError("values have no names")
    texts = [about["appliance"], about["release"], *about["secrets"], *values, *values.values()]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a name or a value is not text")
    secrets = frozenset(about["secrets"]) & values.keys()
    if len(secrets) > _MOST_SECRETS:
        raise ValueError(f"it has {len(secrets)} secrets")
    return Seed(
        appliance=about["appliance"], release=about["release"], values=values, secrets=secrets
    )


def seed_path(image: Path) -> Path:
    """Return the path of an image's seed: beside it, one for all formats of a release."""
    suffixes = sorted((load(name).suffix for name in names()), key=len, reverse=True)
    end = next((suffix for suffix in suffixes if image.name.endswith(suffix)), image.suffix)
    return image.with_name(image.name.removesuffix(end) + SUFFIX)


def write_seed(path: Path, seed: Seed) -> None:
    """Write a seed, readable by its owner alone; a seed of the same release is replaced.

    Raises:
        HostError: Another file has this name.
    """
    content = seed.to_iso()
    if os.path.lexists(path):
        _require_replaceable(path, seed)
        if path.read_bytes() == content:
            path.chmod(0o600)
            return
    with create_file(path, mode=0o600) as file:
        file.write(content)


def _require_replaceable(path: Path, seed: Seed) -> None:
    """Refuse to replace anything but a seed of the same release.

    Raises:
        HostError: The file is something else, or belongs to another user.
    """
    hint = "move it away, or give another folder: --out DIR"
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise HostError(f"{path} exists and is not a regular file", hint=hint)
    if found.st_uid not in (0, os.geteuid()):
        raise HostError(f"{path} exists and belongs to another user", hint=hint)
    try:
        there = read_seed(path)
    except VerificationError:
        there = None
    if there is None or (there.appliance, there.release) != (seed.appliance, seed.release):
        raise HostError(
            f"{path} exists, is not a seed of {seed.appliance} {seed.release}, and is unchanged",
            hint=hint,
        )


def _parameters(manifest: Manifest) -> list[_Parameter]:
    return [
        _Parameter(
            name=str(each["name"]), type=str(each["type"]), choices=tuple(each.get("choices") or ())
        )
        for each in manifest.parameters
    ]


def _json(data: Any) -> str:
    """Return JSON that survives the way to first boot.

    It is read as YAML, too: PyYAML refuses two characters (YAML 1.1, 5.1). Cloud-init must not take
    it for a message: ``convert_string`` in its user_data.py looks for a header's name anywhere.
    """
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
