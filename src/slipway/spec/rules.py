"""Rules for more than one key of a spec or a mix-in.

What goes in: a document, possibly with values known to be wrong. What comes out: errors in the
document. The rules work on plain data rather than on models, so one wrong key does not hide other
errors.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Final

from slipway.addresses import unreachable_elsewhere
from slipway.errors import choose, suggestion
from slipway.spec.parameters import value_problem
from slipway.spec.patterns import DEVICES, unit_name
from slipway.spec.text import Document, KeyPath, dotted

__all__ = ["check_rules", "instance_names", "interface_names", "zone_names"]

#: Labels of the partitions made by templates/disk/layout.sfdisk.j2.
_PARTITIONS: Final = ("bios", "esp", "root", "root-a", "root-b", "state")
#: Names of bases' archives in locks.
_ARCHIVES: Final = ("debian", "debian-security")
#: Reserved names of interfaces: one is the guest's place in checks, the others are Linux's
#: (net/ipv4/devinet.c, loopback.c).
_INTERFACES: Final[Mapping[str, str]] = {
    "guest": "where checks without an interface run",
    "lo": "the loopback interface of every machine",
    "all": "all interfaces, in the kernel's settings",
    "default": "interfaces to come, in the kernel's settings",
    **dict.fromkeys(DEVICES, "a device on Windows, where no folder of checks can have this name"),
}
#: Folders needed before any volume is mounted, or not on the disk at all.
_NOT_A_VOLUME: Final = frozenset(
    (
        "bin",
        "boot",
        "dev",
        "etc",
        "lib",
        "lib64",
        "proc",
        "run",
        "sbin",
        "state",
        "sys",
        "tmp",
        "usr",
    )
)
_CONTINUED: Final = (
    re.compile(r"\\\s*$"),
    "a backslash at the end takes in the next line of the unit",
    "remove it",
)
#: List, key -> patterns forbidden in its values: in the files they are written into, they would be
#: more than a value.
_WRITTEN: Final[Mapping[tuple[str, str], tuple[tuple[re.Pattern[str], str, str], ...]]] = {
    ("users", "summary"): (
        (
            re.compile("%"),
            '"%" stands for a value of the building machine in sysusers.d(5)',
            "write it without",
        ),
        (re.compile(":"), '":" ends a field of passwd(5)', "write it without"),
        (re.compile("^-$"), '"-" is not text in sysusers.d(5)', "write what the user is for"),
    ),
    ("users", "home"): (
        (re.compile(":"), '":" ends a field of passwd(5)', "choose another folder"),
    ),
    ("users", "shell"): (
        (re.compile(":"), '":" ends a field of passwd(5)', "choose another program"),
    ),
    ("volumes", "path"): (
        (re.compile(":"), '":" ends a path in repart.d(5)', "choose another folder"),
    ),
    ("timers", "calendar"): (
        (
            re.compile("%"),
            '"%" stands for a value of the machine in systemd.unit(5)',
            "write the time itself",
        ),
        _CONTINUED,
    ),
    ("timers", "command"): (_CONTINUED,),
    ("timers", "summary"): (_CONTINUED,),
}


def check_rules(document: Document, *, mixin: bool = False) -> None:
    """Check everything that concerns more than one key.

    A mix-in's ports may refer to any interface: only the spec names them.
    """
    _check_names(document, "interfaces", "interface", _INTERFACES)
    _check_ports(document, mixin=mixin)
    _check_parameters(document)
    _check_services(document)
    _check_formats(document)
    _check_names(document, "instances", "instance")
    _check_names(document, "users", "user")
    _check_timezone(document)
    _check_names(
        document, "sources", "source", dict.fromkeys(_ARCHIVES, "the distribution's own archive")
    )
    _check_sources(document)
    _check_names(document, "timers", "timer")
    _check_timers(document)
    _check_downloads(document)
    _check_names(
        document, "volumes", "volume", dict.fromkeys(_PARTITIONS, "a partition that images have")
    )
    _check_volumes(document)
    _check_root(document)
    _check_written(document)


def _items(document: Document, key: str) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    """Yield the mappings in a list by key path, without values known to be wrong."""
    items = document.data.get(key, ())
    for index, item in enumerate(items if isinstance(items, tuple) else ()):
        if isinstance(item, dict):
            yield (
                (key, index),
                {
                    name: value
                    for name, value in item.items()
                    if not document.known_bad((key, index, name))
                },
            )


def _twice(
    document: Document, path: KeyPath, seen: dict[Any, KeyPath], identity: object, what: str
) -> None:
    """Report an identity seen before, or note a new one."""
    if identity in seen:
        line = document.where(seen[identity]).line
        document.error(
            path,
            f"{dotted(path)}: {what} is defined twice, first on line {line}",
            "remove or rename one",
        )
    else:
        seen[identity] = path


def interface_names(document: Document) -> list[str]:
    """Return the interfaces named by a spec, or the default one if it names none."""
    if "interfaces" not in document.data:
        return ["outside"]
    return [
        name
        for _, item in _items(document, "interfaces")
        if isinstance(name := item.get("name"), str)
    ]


def instance_names(document: Document) -> list[str]:
    """Return the further instances named by a spec."""
    return [
        name
        for _, item in _items(document, "instances")
        if isinstance(name := item.get("name"), str)
    ]


def _check_timezone(document: Document) -> None:
    """Refuse a time zone unknown to this host, by a current or an old name.

    The image's own time zones are checked later.
    """
    zone = document.data.get("timezone")
    if not isinstance(zone, str) or document.known_bad(("timezone",)):
        return
    known = set(zone_names())
    if known and zone not in known:
        hint = (
            suggestion(zone, known)
            or "such as Europe/Berlin; this host's are in /usr/share/zoneinfo"
        )
        document.error(("timezone",), f'timezone: there is no time zone "{zone}"', hint)


@cache
def zone_names() -> tuple[str, ...]:
    """Return the time zones known to this host, old names included; none without tzdata."""
    names = zoneinfo.available_timezones()
    for folder in zoneinfo.TZPATH:
        with suppress(OSError):
            lines = (Path(folder) / "tzdata.zi").read_text(encoding="utf-8").splitlines()
            # zic(8): a link's target and name
            names |= {line.split()[2] for line in lines if line.startswith("L ")}
    return tuple(names)


def _check_sources(document: Document) -> None:
    """Refuse a package source within reach of this host only: the machine's apt uses it, too."""
    for path, item in _items(document, "sources"):
        url = item.get("url")
        reason = unreachable_elsewhere(url) if isinstance(url, str) else None
        if reason:
            hint = (
                "write its public address; for builds, in slipway.toml below [mirror]: "
                f'{item.get("name")} = "{url}"'
            )
            document.error(
                (*path, "url"),
                f"{dotted((*path, 'url'))}: {url} does not work in an image: {reason}",
                hint,
            )


def _check_names(
    document: Document, key: str, what: str, reserved: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Refuse two items of a list with one name, and reserved names.

    Args:
        reserved: Each reserved name, with its meaning.
    """
    seen: dict[Any, KeyPath] = {}
    for path, item in _items(document, key):
        name = item.get("name")
        place = (*path, "name")
        if isinstance(name, str) and name in reserved:
            document.error(
                place, f'{dotted(place)}: "{name}" is {reserved[name]}', "choose another name"
            )
        elif isinstance(name, str):
            _twice(document, place, seen, name, f'{what} "{name}"')


def _check_written(document: Document) -> None:
    """Refuse values that break the files they are written into."""
    for (key, name), problems in _WRITTEN.items():
        for path, item in _items(document, key):
            value, place = item.get(name), (*path, name)
            for pattern, problem, hint in problems:
                if isinstance(value, str) and pattern.search(value):
                    document.error(place, f"{dotted(place)}: {problem}", hint)
    settings = document.data.get("sysctl")
    for name, value in settings.items() if isinstance(settings, dict) else ():
        if isinstance(value, str) and value.rstrip().endswith("\\"):
            document.error(
                ("sysctl", name),
                f"sysctl.{name}: a backslash at the end may take in the next line",
                "remove it",
            )


def _check_downloads(document: Document) -> None:
    """Refuse two downloads with one path, and one below another."""
    seen: dict[Any, KeyPath] = {}
    for path, item in _items(document, "downloads"):
        target = item.get("path")
        if isinstance(target, str):
            _twice(document, (*path, "path"), seen, target, f"the file {target}")
    for target, path in seen.items():
        above = next((str(each) for each in PurePosixPath(target).parents if str(each) in seen), "")
        if above:
            message = f"{dotted(path)}: {target} is below {above}, which is a file"
            document.error(path, message, "rename one of the two")


def _check_timers(document: Document) -> None:
    """Refuse a timer with an enabled unit's name, or with a command without a path."""
    services = document.data.get("services")
    enabled = services.get("enable", ()) if isinstance(services, dict) else ()
    for path, item in _items(document, "timers"):
        name, command = item.get("name"), item.get("command")
        if (
            isinstance(name, str)
            and isinstance(enabled, tuple)
            and {name, f"{name}.service", f"{name}.timer"} & set(enabled)
        ):
            place: KeyPath = (*path, "name")
            document.error(
                place,
                f'{dotted(place)}: "{name}" is an enabled service too',
                "a timer makes its service: choose another name",
            )
        if isinstance(command, str) and not command.startswith("/"):
            place = (*path, "command")
            document.error(
                place,
                f"{dotted(place)}: this does not start with a path",
                'for a shell: /bin/sh -c "..."',
            )


def _check_volumes(document: Document) -> None:
    """Refuse volumes with a reserved or a shared path, and volumes too large for the disk."""
    seen: dict[Any, KeyPath] = {}
    wanted = 0
    for path, item in _items(document, "volumes"):
        mounted, size = item.get("path"), item.get("size_gib")
        place = (*path, "path")
        if isinstance(mounted, str):
            if mounted == "/" or mounted.split("/")[1] in _NOT_A_VOLUME:
                hint = f"a volume can be anywhere but in {', '.join(sorted(_NOT_A_VOLUME))}"
                document.error(
                    place, f'{dotted(place)}: "{mounted}" has to be in the root file system', hint
                )
            else:
                _twice(document, place, seen, mounted, f"a volume at {mounted}")
        wanted += size if isinstance(size, int) else 0
    resources = document.data.get("resources")
    disk = resources.get("disk_gib", 8) if isinstance(resources, dict) else 8
    if (
        wanted
        and isinstance(disk, int)
        and not document.known_bad(("resources", "disk_gib"))
        and wanted >= disk
    ):
        message = f"volumes: {wanted} GiB together, which a disk of {disk} GiB has no room for"
        document.error(
            ("volumes",),
            message,
            "make resources: {disk_gib} larger, or a volume smaller",
            key=True,
        )


def _check_root(document: Document) -> None:
    """Refuse keys and formats that do not fit the root's mode."""
    root = document.data.get("root")
    root = root if isinstance(root, dict) else {}
    if root.get("mode", "read-write") != "read-only":
        if "slot_mib" in root:
            document.error(
                ("root", "slot_mib"),
                "root.slot_mib: only a read-only root has slots",
                "set mode: read-only",
                key=True,
            )
        return
    formats = document.data.get("formats", ())
    for index, name in enumerate(formats if isinstance(formats, tuple) else ()):
        if name in ("rootfs", "incus"):
            hint = "remove it: what starts an appliance with a read-only root is its disk"
            document.error(
                ("formats", index), f"formats[{index}]: {name} has no slots and no state", hint
            )


def _check_formats(document: Document) -> None:
    """Refuse an OVA with the small kernel: only the generic one has drivers for its hardware."""
    formats = document.data.get("formats", ())
    if (
        isinstance(formats, tuple)
        and "ova" in formats
        and document.data.get("kernel", "cloud") == "cloud"
    ):
        hint = "kernel: generic has drivers for the hardware that VMware and VirtualBox both have"
        document.error(
            ("formats", formats.index("ova")),
            f"formats[{formats.index('ova')}]: an ova needs another kernel",
            hint,
        )


def _check_ports(document: Document, *, mixin: bool) -> None:
    known = interface_names(document)
    seen: dict[Any, KeyPath] = {}
    for path, item in _items(document, "ports"):
        port, protocol, interface = (
            item.get("port"),
            item.get("protocol"),
            item.get("interface", "outside"),
        )
        last = item.get("last")
        if isinstance(port, int) and isinstance(last, int) and last <= port:
            place = (*path, "last")
            document.error(
                place,
                f"{dotted(place)}: {last} does not come after {port}",
                "remove it, or make the range end later",
            )
        if isinstance(port, int) and isinstance(protocol, str) and isinstance(interface, str):
            _twice(
                document,
                path,
                seen,
                (port, protocol, interface),
                f"port {port}/{protocol} on interface {interface}",
            )
        if not mixin and isinstance(interface, str) and known and interface not in known:
            hint = choose(interface, known)
            place = (*path, "interface")
            document.error(place, f'{dotted(place)}: there is no interface "{interface}"', hint)


def _check_parameters(document: Document) -> None:
    seen: dict[Any, KeyPath] = {}
    for path, item in _items(document, "parameters"):
        name = item.get("name")
        if isinstance(name, str):
            _twice(document, (*path, "name"), seen, name, f'parameter "{name}"')
        kind = item.get("type")
        if kind == "secret":
            _check_secret(document, path, item)
        elif isinstance(kind, str):
            if "generate" in item:
                place = (*path, "generate")
                document.error(
                    place,
                    f"{dotted(place)}: only a secret is generated",
                    "remove it, or make the type secret",
                    key=True,
                )
            _check_values(document, path, item, kind)


def _check_secret(document: Document, path: KeyPath, item: dict[str, Any]) -> None:
    for key in ("default", "choices"):
        if key in item:
            place = (*path, key)
            hint = "remove it: images must not contain secrets"
            document.error(place, f"{dotted(place)}: a secret has none", hint, key=True)
    place = (*path, "generate")
    if "generate" not in item and not document.known_bad(place):
        document.error(
            place,
            f"{dotted(place)}: this key is missing",
            'say how long the generated secret is: "generate: 24"',
        )


def _text(value: object) -> str | None:
    """Return a default or a choice as text, as in the model; None if it has another type."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int) else None


def _check_values(document: Document, path: KeyPath, item: dict[str, Any], kind: str) -> None:
    """Check the default and the choices against the type, and the default against the choices."""
    listed = item.get("choices", ())
    choices: list[str] = []
    for index, choice in enumerate(listed if isinstance(listed, tuple) else ()):
        text = _text(choice)
        if text is not None:
            choices.append(text)
            _check_value(document, (*path, "choices", index), kind, text, [])
    default = _text(item["default"]) if "default" in item else None
    if default is not None:
        _check_value(document, (*path, "default"), kind, default, choices)


def _check_value(
    document: Document, path: KeyPath, kind: str, text: str, choices: list[str]
) -> None:
    problem = value_problem(kind, text, choices)
    if problem:
        shown = text if text.isprintable() and len(text) <= 60 else repr(text[:60])
        document.error(
            path,
            f'{dotted(path)}: "{shown}" is not {problem}',
            suggestion(text, choices) or "change the value, or the type",
        )


def _check_services(document: Document) -> None:
    services = document.data.get("services")
    lists = (
        [services.get(key, ()) for key in ("enable", "disable")]
        if isinstance(services, dict)
        else [(), ()]
    )
    enable, disable = (items if isinstance(items, tuple) else () for items in lists)
    units = {unit_name(name) for name in enable if isinstance(name, str)}
    for index, name in enumerate(disable):
        if isinstance(name, str) and unit_name(name) in units:
            path: KeyPath = ("services", "disable", index)
            document.error(
                path,
                f'{dotted(path)}: "{name}" is enabled too',
                "remove it from one of the two lists",
            )
    exposed = services.get("exposed", ()) if isinstance(services, dict) else ()
    for index, item in enumerate(exposed if isinstance(exposed, tuple) else ()):
        name = item.get("service") if isinstance(item, dict) else None
        if isinstance(name, str) and unit_name(name) not in units:
            path = ("services", "exposed", index, "service")
            names = [known for known in enable if isinstance(known, str)]
            document.error(
                path,
                f'{dotted(path)}: "{name}" is not enabled',
                suggestion(name, names) or "enable it, or remove this",
            )
