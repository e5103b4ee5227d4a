"""The forms of names and other short texts in specs: regular expressions, with words for people.

They are anchored and use only the common features of Rust's ``regex``, Python's ``re`` and JSON
Schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = [
    "BASE",
    "DEVICES",
    "FILE_NAME",
    "GUID",
    "IMAGE_PATH",
    "IMAGE_PATHS",
    "INSTANCE",
    "INTERFACE",
    "KEYBOARD",
    "LINE",
    "LOCALE",
    "NAME",
    "PACKAGE",
    "PARAMETER",
    "PATTERNS",
    "SECRET",
    "SERVICE",
    "SETTING",
    "SHA256",
    "SYSCTL",
    "TIMEZONE",
    "URL",
    "USER",
    "VERSION",
    "VOLUME",
    "WORD",
    "unit_name",
]

NAME: Final = r"^[a-z][a-z0-9-]{0,38}[a-z0-9]$"
#: Names of devices on Windows: a checkout there cannot have a folder or file of such a name,
#: whatever follows a dot ("Naming Files, Paths, and Namespaces").
DEVICES: Final = frozenset(
    (
        "aux",
        "con",
        "nul",
        "prn",
        *(f"{port}{number}" for port in ("com", "lpt") for number in range(10)),
    )
)
BASE: Final = r"^[a-z0-9][a-z0-9.-]*$"
VERSION: Final = r"^[0-9]+(\.[0-9]+){1,2}(-[0-9a-z]+([.-][0-9a-z]+)*)?$"
#: Debian Policy 5.6.1.
PACKAGE: Final = r"^[a-z0-9][a-z0-9+.-]+$"
#: systemd.unit(5): a name without a dot is a service; after a dot stands the unit's type.
SERVICE: Final = (
    r"^[A-Za-z0-9_]([A-Za-z0-9:_@-]*|[A-Za-z0-9:_.@-]*\.(service|socket|timer|path|target|mount))$"
)
#: Linux allows 15 bytes for a network interface's name; the checks' lab adds a few.
INTERFACE: Final = r"^[a-z][a-z0-9]{0,11}$"
#: Part of the name of an environment variable, and of a file.
INSTANCE: Final = r"^[a-z][a-z0-9]{0,15}$"
#: As Debian's adduser accepts it; utmp has room for 31 bytes.
USER: Final = r"^[a-z][a-z0-9_-]{0,30}$"
#: sysctl.d(5).
SYSCTL: Final = r"^[a-z0-9_]+([./][A-Za-z0-9_:-]+)+$"
#: A variable of the environment.
SECRET: Final = r"^[A-Z][A-Z0-9_]{0,62}$"
SHA256: Final = r"^[0-9a-f]{64}$"
#: RFC 3986, with a host and without a password.
URL: Final = r"^https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*)?$"
KEYRING: Final = r"^/etc/apt/keyrings/[a-z0-9][a-z0-9._-]*\.(asc|gpg)$"
#: One version of a package (PEP 508, PEP 440).
REQUIREMENT: Final = (
    r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
    r"(\[[a-z0-9_-]+(,[a-z0-9_-]+)*\])?"
    r"==[0-9][A-Za-z0-9.+!_-]*$"
)
#: A file below /usr/share/zoneinfo.
TIMEZONE: Final = r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9][A-Za-z0-9_+-]*){0,2}$"
#: A locale of glibc in UTF-8 (locale(7)).
LOCALE: Final = r"^(C|[a-z]{2,3}_[A-Z]{2})\.UTF-8(@[a-z]+)?$"
#: A layout of XKB, and a variant of it.
KEYBOARD: Final = r"^[a-z]+([(][A-Za-z0-9_-]+[)])?$"
#: The label of a partition and of its file system; ext4 has 16 bytes for it.
VOLUME: Final = r"^[a-z][a-z0-9-]{0,15}$"
PARAMETER: Final = r"^[a-z][a-z0-9_]{0,62}$"
#: One line without control characters, including those for the direction of text (Unicode Standard
#: Annex 9).
LINE: Final = r"^[^\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]+$"
#: The same, or nothing.
SETTING: Final = r"^[^\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]*$"
WORD: Final = r"^[a-z0-9][a-z0-9_.-]*$"
FILE_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
IMAGE_PATH: Final = r"^(/[A-Za-z0-9_+@:-][A-Za-z0-9_.+@:-]*)+$"
IMAGE_PATHS: Final = r"^/[A-Za-z0-9_.+@:*?/-]+$"
GUID: Final = r"^[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}$"

#: Pattern -> its noun for errors ("... is not a name"), and how to write such a text.
PATTERNS: Final[Mapping[str, tuple[str, str]]] = {
    NAME: (
        "a name",
        (
            "2 to 40 lower-case letters, digits and hyphens, the first one a letter, "
            "the last one no hyphen"
        ),
    ),
    BASE: ("the name of a base", "a base is a folder in templates/bases/"),
    VERSION: (
        "a version",
        'two or three numbers and an optional suffix: "1.0.0", "24.10", "2.1.0-rc.1"',
    ),
    PACKAGE: (
        "a Debian package name",
        'lower-case letters, digits, "+", "-" and ".", at least two, without a version: "nginx"',
    ),
    SERVICE: (
        "the name of a systemd unit",
        '"nginx", or with its type: "nginx.service", "apt-daily.timer"',
    ),
    INTERFACE: (
        "the name of an interface",
        "1 to 12 lower-case letters and digits, the first one a letter",
    ),
    INSTANCE: (
        "the name of an instance",
        "1 to 16 lower-case letters and digits, the first one a letter",
    ),
    USER: (
        "the name of a user or a group",
        "1 to 31 lower-case letters, digits, hyphens and underscores, the first one a letter",
    ),
    SYSCTL: ("a kernel setting", '"net.ipv4.ip_forward"'),
    TIMEZONE: ("a time zone", '"Europe/Berlin", "UTC"'),
    SECRET: (
        "the name of a secret",
        "upper-case letters, digits and underscores, the first one a letter",
    ),
    SHA256: ("a SHA-256", "64 hexadecimal digits in lower case, as sha256sum prints them"),
    URL: ("a URL", "start it with https:// or http://, without a password"),
    KEYRING: (
        "a keyring",
        '"/etc/apt/keyrings/example.asc", which is files/etc/apt/keyrings/example.asc here',
    ),
    REQUIREMENT: ("one version of a package of PyPI", '"name==1.2.3"'),
    LOCALE: ("a locale", '"de_DE.UTF-8", "C.UTF-8"'),
    KEYBOARD: ("a keyboard layout", '"de", or with a variant: "de(nodeadkeys)"'),
    VOLUME: (
        "the name of a volume",
        "1 to 16 lower-case letters, digits and hyphens, the first one a letter",
    ),
    PARAMETER: (
        "the name of a parameter",
        "lower-case letters, digits and underscores, the first one a letter",
    ),
    LINE: ("one line of text", "write one line, without control characters"),
    SETTING: ("one line of text", "write one line, without control characters"),
    WORD: ("a plain word", 'lower-case letters, digits, "_", "." and "-"'),
    FILE_NAME: ("the name of a file", "write it without a path"),
    IMAGE_PATH: ("a path in the image", 'start it with "/"'),
    IMAGE_PATHS: (
        "a pattern for paths in the image",
        'start it with "/"; "*" and "?" stand for any text and any character',
    ),
    GUID: ("a GUID", "write it in upper case, as the Discoverable Partitions Specification does"),
}


def unit_name(name: str) -> str:
    """Return the unit of a service's name: "nginx" is "nginx.service" (systemd.unit(5))."""
    return name if "." in name else f"{name}.service"
