"""What the whole project is set to: ``slipway.toml`` beside the appliances, and environment variables, which win.

What goes in: the root folder. What comes out: a :class:`Settings`, or every error of the file at once, with its line.
The file may say::

    store = "s3://bucket/prefix"    # SLIPWAY_STORE: where releases go
    cache = "/var/cache/slipway"    # SLIPWAY_CACHE: default $XDG_CACHE_HOME/slipway, ~/.cache/slipway
    cache_limit_gib = 20            # SLIPWAY_CACHE_LIMIT_GIB
    memory_mib = 8192               # SLIPWAY_MEMORY_MIB: what a build works in; default three quarters of what is free
    mirror = "http://mirror.example/debian"    # SLIPWAY_MIRROR: default is the host's own

``mirror`` may also be a table with a URI for each archive (``debian``, ``debian-security``).
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from slipway.errors import SpecError, SpecErrors, UsageError, Where, suggestion

__all__ = ["STATE", "Settings", "default_cache", "default_state", "load_settings"]

FILE: Final = "slipway.toml"
STATE: Final = "SLIPWAY_STATE"
ARCHIVES: Final = ("debian", "debian-security")
KEYS: Final = ("cache", "cache_limit_gib", "memory_mib", "mirror", "store")
#: The units of settings that are whole numbers.
_UNITS: Final = {"cache_limit_gib": "GiB", "memory_mib": "MiB"}
_URI: Final = re.compile(r"[a-z][a-z0-9+]*:/[^\s\x00-\x1f\x7f]*")
_DEFAULT_LIMIT_GIB: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one command. ``mirror`` is a URI by archive, without a slash at its end; empty: the host's own.
    ``memory_mib`` is 0 where nothing is set."""

    mirror: Mapping[str, str] = field(default_factory=dict)
    store: str | None = None
    cache: Path
    cache_limit_gib: int = _DEFAULT_LIMIT_GIB
    memory_mib: int = 0


def default_cache() -> Path:
    """Where the cache is unless something else is said (XDG Base Directory Specification)."""
    directory = os.environ.get("XDG_CACHE_HOME", "")
    # The specification wants relative paths to be ignored.
    return (Path(directory) if directory.startswith("/") else Path.home() / ".cache") / "slipway"


def default_state() -> Path:
    """Where it is kept what was seen of channels: SLIPWAY_STATE, or the user's state directory (XDG)."""
    given = os.environ.get(STATE)
    if given:
        return Path(given).expanduser().absolute()
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local/state") / "slipway"


def load_settings(root: Path) -> Settings:
    """The settings for a root folder.

    Raises:
        SpecErrors: Something in ``slipway.toml`` is wrong; all errors at once.
        UsageError: An environment variable is.
    """
    file = root / FILE
    data = _read(file)
    mirror = os.environ.get("SLIPWAY_MIRROR") or data.get("mirror", {})
    if isinstance(mirror, str) and not _URI.fullmatch(mirror):
        raise UsageError(f'SLIPWAY_MIRROR: "{mirror}" is no URI', hint='write it with its scheme: "http://..."')
    cache = os.environ.get("SLIPWAY_CACHE") or data.get("cache")
    return Settings(
        mirror=_archives(mirror),
        store=os.environ.get("SLIPWAY_STORE") or data.get("store"),
        cache=(root / Path(cache).expanduser()).absolute() if cache else default_cache(),
        cache_limit_gib=_number("cache_limit_gib", data, _DEFAULT_LIMIT_GIB),
        memory_mib=_number("memory_mib", data, 0),
    )


def _archives(mirror: str | Mapping[str, str]) -> dict[str, str]:
    """The URI of each archive. Who names only the debian archive has the security archive beside it, as all mirrors of
    both have it."""
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
        raise UsageError(f'{variable}: "{text}" is not a number of {_UNITS[key]}', hint='write a whole number: "20"')
    return int(text)


def _read(file: Path) -> dict[str, Any]:
    """The file's keys, all of them known and of the right type."""
    try:
        text = file.read_bytes().decode()
        data = tomllib.loads(text)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", where=Where(file), hint="check its permissions") from None
    except UnicodeDecodeError:
        raise SpecError("this is not UTF-8", where=Where(file), hint="save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"^(.*) \(at line (\d+), column (\d+)\)$", str(error))
        where = Where(file, int(place[2]), int(place[3])) if place else Where(file)
        message = place[1] if place else str(error)
        raise SpecError(message[:1].lower() + message[1:], where=where, hint="https://toml.io says what TOML is") from None
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
    """What is wrong with a key's value, and the next step."""
    if key not in KEYS:
        return f"{key}: unknown key", suggestion(key, KEYS) or f"known here: {', '.join(KEYS)}"
    if key in _UNITS:
        good = type(value) is int and value > 0
        return None if good else (f"{key}: {value!r} is not a number of {_UNITS[key]}", "write a whole number without quotes: 20")
    if key == "mirror" and isinstance(value, dict):
        for archive, uri in value.items():
            if archive not in ARCHIVES:
                return f"mirror.{archive}: unknown archive", suggestion(archive, ARCHIVES) or f"known here: {', '.join(ARCHIVES)}"
            if not isinstance(uri, str) or not _URI.fullmatch(uri):
                return f"mirror.{archive}: {uri!r} is no URI", 'write it in quotes, with its scheme: "http://..."'
        return None
    if not isinstance(value, str) or not value:
        return f"{key}: {value!r} is not a text", "write it in quotes"
    if key == "mirror" and not _URI.fullmatch(value):
        return f"mirror: {value!r} is no URI", 'write it with its scheme: "http://..."'
    return None


def _place(file: Path, text: str, key: str) -> Where:
    """Where a key of the top level stands; tomllib does not say."""
    for number, line in enumerate(text.splitlines(), 1):
        found = re.match(rf"\s*\[?\s*[\"']?{re.escape(key)}\b", line)
        if found:
            return Where(file, number, len(line) - len(line.lstrip(" \t[\"'")) + 1)
    return Where(file)
