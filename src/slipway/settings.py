"""The settings of the project: ``slipway.toml`` beside the appliances, and environment variables.

Variables win over the file. What goes in: the root folder. What comes out: a :class:`Settings`, or
every error of the file at once, with its line. The file may say::

    # SLIPWAY_STORE: where releases go
    store = "s3://bucket/prefix"
    # SLIPWAY_CACHE: default $XDG_CACHE_HOME/slipway, ~/.cache/slipway
    cache = "/var/cache/slipway"
    # SLIPWAY_CACHE_LIMIT_GIB
    cache_limit_gib = 20
    # SLIPWAY_MEMORY_MIB: for builds; default three quarters of the free memory
    memory_mib = 8192
    # SLIPWAY_QEMU: host, tree (a newer one of its own), or auto: the faster one
    qemu = "auto"
    # SLIPWAY_MIRROR: for builds; default is the host's own
    mirror = "http://mirror.example/debian"
    # SLIPWAY_IMAGE_MIRROR: for images; default is the distribution's public ones
    image_mirror = "http://..."

Both mirrors may also be tables with a URI for each archive (``debian``, ``debian-security``).
``mirror`` may also name a spec's ``sources``, for a copy of them reached by this host only.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from slipway.addresses import unreachable_elsewhere
from slipway.errors import SpecError, SpecErrors, UsageError, Where, suggestion

__all__ = [
    "STATE",
    "Settings",
    "default_cache",
    "default_state",
    "load_settings",
    "unknown_variables",
]

FILE: Final = "slipway.toml"
STATE: Final = "SLIPWAY_STATE"
ARCHIVES: Final = ("debian", "debian-security")
#: Every variable read by Slipway itself; ``SLIPWAY_SECRET_*`` are an appliance's.
_OURS: Final = ("SLIPWAY_HANDOVER", "SLIPWAY_RUN")  # set for programs started by Slipway
VARIABLES: Final = (
    *_OURS,
    "SLIPWAY_CACHE",
    "SLIPWAY_CACHE_LIMIT_GIB",
    "SLIPWAY_IMAGE_MIRROR",
    "SLIPWAY_KEYS",
    "SLIPWAY_KEY_BUNDLE",
    "SLIPWAY_MEMORY_MIB",
    "SLIPWAY_MIRROR",
    "SLIPWAY_PASSPHRASE_FILE",
    "SLIPWAY_QEMU",
    STATE,
    "SLIPWAY_STORE",
)
KEYS: Final = ("cache", "cache_limit_gib", "image_mirror", "memory_mib", "mirror", "qemu", "store")
#: Which QEMU runs machines (:mod:`slipway.boot.emulator`).
QEMUS: Final = ("auto", "host", "tree")
_WHICH: Final = "auto takes the faster one"
#: The units of settings with whole numbers.
_UNITS: Final = {"cache_limit_gib": "GiB", "memory_mib": "MiB"}
_EXAMPLES: Final = {"cache_limit_gib": 20, "memory_mib": 2048}
_MIRRORS: Final = ("image_mirror", "mirror")
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{1,39}")
_REACHED: Final = (
    "name a mirror that the machines reach, without a user, or leave it out: "
    "images then use the public ones"
)
_URI: Final = re.compile(r"[a-z][a-z0-9+]*:/[^\s\x00-\x1f\x7f]*")
_DEFAULT_LIMIT_GIB: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one command.

    Mirrors are URIs by archive, without a slash at their ends. An empty ``mirror`` means the host's
    own; an empty ``image_mirror``, the distribution's public ones. ``memory_mib`` is 0 if unset.
    """

    mirror: Mapping[str, str] = field(default_factory=dict)
    image_mirror: Mapping[str, str] = field(default_factory=dict)
    store: str | None = None
    cache: Path
    cache_limit_gib: int = _DEFAULT_LIMIT_GIB
    memory_mib: int = 0
    qemu: str = "auto"


def default_cache() -> Path:
    """Return the default folder of the cache (XDG Base Directory Specification)."""
    directory = os.environ.get("XDG_CACHE_HOME", "")
    # The specification wants relative paths to be ignored.
    return (Path(directory) if directory.startswith("/") else Path.home() / ".cache") / "slipway"


def default_state() -> Path:
    """Return the folder with the client's memory of channels.

    It is SLIPWAY_STATE, or the user's state directory (XDG).
    """
    given = os.environ.get(STATE)
    if given:
        return Path(given).expanduser().absolute()
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local/state") / "slipway"


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Return a line for each variable ``SLIPWAY_*`` without a meaning."""
    beginning = "SLIPWAY_"  # with it, all names are near to each other
    known = [name.removeprefix(beginning) for name in VARIABLES if name not in _OURS]
    lines = []
    for name in sorted(environ):
        if (
            name.startswith("SLIPWAY_")
            and name not in VARIABLES
            and not name.startswith("SLIPWAY_SECRET_")
        ):
            near = suggestion(name.removeprefix(beginning), known, "SLIPWAY_{}")
            lines.append(
                f"{name} is set and means nothing: {near or 'invoke --help shows which there are'}"
            )
    return lines


def load_settings(root: Path) -> Settings:
    """Return the settings for a root folder.

    Raises:
        SpecErrors: ``slipway.toml`` has errors; all are reported at once.
        UsageError: An environment variable has an error.
    """
    file = root / FILE
    data = _read(file)
    mirror, image_mirror = _variable("SLIPWAY_MIRROR"), _variable("SLIPWAY_IMAGE_MIRROR")
    if problem := _unfit(image_mirror):
        raise UsageError(f"SLIPWAY_IMAGE_MIRROR: {problem}", hint=_REACHED)
    written = data.get("mirror", {})
    further = (
        {name: uri for name, uri in written.items() if name not in ARCHIVES}
        if isinstance(written, dict)
        else {}
    )
    cache = os.environ.get("SLIPWAY_CACHE") or data.get("cache")
    return Settings(
        mirror=_archives(mirror or written) | further,
        image_mirror=_archives(image_mirror or data.get("image_mirror", {})),
        store=os.environ.get("SLIPWAY_STORE", "").strip() or data.get("store") or None,
        cache=(root / Path(cache).expanduser()).absolute() if cache else default_cache(),
        cache_limit_gib=_number("cache_limit_gib", data, _DEFAULT_LIMIT_GIB),
        memory_mib=_number("memory_mib", data, 0),
        qemu=_qemu(data),
    )


def _qemu(data: Mapping[str, Any]) -> str:
    """Return the choice of the QEMU for machines."""
    given = os.environ.get("SLIPWAY_QEMU")
    if given and given not in QEMUS:
        raise UsageError(
            f'SLIPWAY_QEMU: "{given}" is not one of {", ".join(QEMUS)}',
            hint=suggestion(given, QEMUS) or _WHICH,
        )
    return given or str(data.get("qemu", "auto"))


def _variable(name: str) -> str:
    """Return the URI of an environment variable, or nothing."""
    uri = os.environ.get(name, "")
    if uri and not _URI.fullmatch(uri):
        raise UsageError(
            f'{name}: "{uri}" is not a URI', hint='write it with its scheme: "http://..."'
        )
    return uri


def _unfit(uri: str) -> str | None:
    """Say why a URI must not stand in an image; return None if it may."""
    if not uri:
        return None
    if "@" in uri.partition("://")[2].partition("/")[0]:
        return "an image holds no user and no password"
    reason = unreachable_elsewhere(uri)
    return f"{uri} does not work in an image: {reason}" if reason else None


def _archives(mirror: str | Mapping[str, str]) -> dict[str, str]:
    """Return the URI of each archive.

    If only the debian archive is given, the security archive is beside it, as on all mirrors of
    both.
    """
    given = {"debian": mirror} if isinstance(mirror, str) else dict(mirror)
    known = {archive: uri.rstrip("/") for archive, uri in given.items()}
    if "debian" in known:
        known.setdefault("debian-security", f"{known['debian']}-security")
    return known


def _number(key: str, data: Mapping[str, Any], default: int) -> int:
    """Return a whole number from the environment, from the file, or the default."""
    variable = f"SLIPWAY_{key.upper()}"
    text = os.environ.get(variable)
    if not text:
        return int(data.get(key, default))
    if not re.fullmatch(r"[1-9][0-9]{0,7}", text):
        raise UsageError(
            f'{variable}: "{text}" is not a number of {_UNITS[key]}',
            hint=f'write a whole number: "{_EXAMPLES[key]}"',
        )
    return int(text)


def _read(file: Path) -> dict[str, Any]:
    """Return the file's keys, all of them known and of the right type."""
    try:
        text = file.read_bytes().decode()
        data = tomllib.loads(text)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SpecError(
            f"cannot be read: {error.strerror}", where=Where(file), hint="check its permissions"
        ) from None
    except UnicodeDecodeError:
        raise SpecError("this is not UTF-8", where=Where(file), hint="save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"^(.*) \(at line (\d+), column (\d+)\)$", str(error))
        where = Where(file, int(place[2]), int(place[3])) if place else Where(file)
        message = place[1] if place else str(error)
        raise SpecError(
            message[:1].lower() + message[1:], where=where, hint="https://toml.io says what TOML is"
        ) from None
    errors = [
        SpecError(message, where=_place(file, text, key), hint=hint)
        for key, value in data.items()
        if (problem := _problem(key, value))
        for message, hint in [problem]
    ]
    if errors:
        raise SpecErrors(errors)
    return data


def _problem(key: str, value: Any) -> tuple[str, str] | None:
    """Return the error in a key's value, and the next step; None if there is no error."""
    if key not in KEYS:
        return f"{key}: unknown key", suggestion(key, KEYS) or f"known here: {', '.join(KEYS)}"
    if key in _UNITS:
        good = type(value) is int and value > 0
        return (
            None
            if good
            else (
                f"{key}: {value!r} is not a number of {_UNITS[key]}",
                f"write a whole number without quotes: {_EXAMPLES[key]}",
            )
        )
    if key in _MIRRORS and isinstance(value, dict):
        return next(
            (
                problem
                for name, uri in value.items()
                if (problem := _archive_problem(key, name, uri))
            ),
            None,
        )
    if not isinstance(value, str) or not value:
        return f"{key}: {value!r} is not a text", "write it in quotes"
    if key == "qemu":
        wrong = f"{key}: {value!r} is not one of {', '.join(QEMUS)}"
        return None if value in QEMUS else (wrong, suggestion(value, QEMUS) or _WHICH)
    return _uri_problem(key, key, value) if key in _MIRRORS else None


def _archive_problem(key: str, name: str, uri: Any) -> tuple[str, str] | None:
    """Return the error in a line of a table of mirrors, and the next step; None if it is right."""
    near = suggestion(name, ARCHIVES)
    if name not in ARCHIVES and (key == "image_mirror" or near or not _NAME.fullmatch(name)):
        return f"{key}.{name}: unknown archive", near or f"known here: {', '.join(ARCHIVES)}"
    if not isinstance(uri, str):
        return (
            f"{key}.{name}: {uri!r} is not a URI",
            'write it in quotes, with its scheme: "http://..."',
        )
    return _uri_problem(key, f"{key}.{name}", uri)


def _uri_problem(key: str, shown: str, uri: str) -> tuple[str, str] | None:
    if not _URI.fullmatch(uri):
        return f"{shown}: {uri!r} is not a URI", 'write it with its scheme: "http://..."'
    problem = _unfit(uri) if key == "image_mirror" else None
    return (f"{shown}: {problem}", _REACHED) if problem else None


def _place(file: Path, text: str, key: str) -> Where:
    """Return the place of a key of the top level; tomllib does not tell it."""
    for number, line in enumerate(text.splitlines(), 1):
        found = re.match(rf"\s*\[?\s*[\"']?{re.escape(key)}\b", line)
        if found:
            return Where(file, number, len(line) - len(line.lstrip(" \t[\"'")) + 1)
    return Where(file)
