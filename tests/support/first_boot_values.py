"""Runs an appliance's first boot in its unpacked tree, once for each value that somebody may give a
parameter.

``python first_boot_values.py TREE [PARAMETER...]``, as root in a mount, network and PID namespace
of its own: each case has a fresh layer over the tree, its value as a system credential, and
programs of the running system that do nothing. It prints one JSON object a line: the parameter, the
value, the exit status, what first boot said, and which files it made.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["ATTACK", "values"]

#: A file that a value makes if it is ever a command.
ATTACK = "pwned"
COMMANDS = (
    f"x$(id>/{ATTACK})yz123",
    f"x`id>/{ATTACK}`yz1234",
    f"x;id>/{ATTACK};yz123",
    f"x'$(id>/{ATTACK})'yz",
    f"x|id>/{ATTACK}|yz123",
    f'"$(id>/{ATTACK})"xx',
    f"#{{T(java.lang.Runtime).getRuntime().exec('touch /{ATTACK}')}}",
    "{{ 7*7 }}xx12345",
)
TEXTS = (
    "tom&jerry99",
    "cost$100now",
    "${HOME}-${user}",
    "a;b;c;d;e;f",
    "par(enth)99",
    'quo"te"s9999',
    "it's mine 99",
    "less<more>9",
    "pi|pe99999",
    "50%off%s%n%99",
    r"back\slash\n\c99",
    "trailing999\\",
    "@CLIENTS@|s|x",
    "#comment999",
    "!a!b!c!d!e",
    "*?[a-z]*99",
    "~root/../..",
    "../../etc/passwd",
    "two words here",
    "  leading 99",
    "trailing 99  ",
    "grün-und-größe",
    "\U0001f600" * 20,
    "ẞ" * 37,
    "a" * 63,
    "a" * 64,
    "a" * 73,
    "a" * 256,
    "a" * 4096,
    "0123456701",
    "12345678.10",
    "-n-option-99",
    "--help-me-99",
    "CAPITALS-99",
    "2001:db8::1",
    "[2001:db8::1]:80",
    "null",
    "user:pass:99",
    "a,b,c,d,e",
    "a=b=c=d9",
)
SHORT = (
    "",
    "a",
    " ",
    "-",
    ".",
    "root",
    "postgres",
    "pgbouncer",
    "guest",
    "none",
    "admin",
    "nobody",
    "application",
    "Admin",
    "a.b",
    "*:80",
    "192.0.2.1",
    "::1",
    "999.1.1.1",
    "10.0.0.0/33",
    ",,",
    "0.0.0.0/0",
    "fd00::/8,192.0.2.0/24",
    "8080:10:80",
    "8080:1_0:80",
    "web1.example.org:80",
    "[mail.example.org]:25",
)
TYPES = {
    "string": (*SHORT, *TEXTS, *COMMANDS),
    "secret": (*TEXTS, *COMMANDS),
    "hostname": (
        "a",
        "Example.ORG",
        "x" * 63,
        ".".join(["x" * 61] * 4),
        "com",
        "localhost",
        "1.2.3.4",
        "xn--bcher-kva.example",
        "a-b.c",
        "0",
    ),
    "integer": ("0", "-1", "-0", "1", "2", "65536", "9" * 18, "-" + "9" * 18),
    "boolean": ("true", "false"),
    "ipv4": ("0.0.0.0", "127.0.0.1", "255.255.255.255", "224.0.0.1", "192.0.2.1"),
    "ipv4-cidr": (
        "0.0.0.0/0",
        "127.0.0.1/8",
        "224.0.0.1/24",
        "192.0.2.1/32",
        "192.0.2.7/24",
        "10.77.0.0/16",
        "255.255.255.255/32",
    ),
}
#: The machine's network cards, as many as any appliance has.
CARDS = ("enp0s1", "enp0s2", "enp0s3")
#: What first boot makes before an appliance's own scripts run.
OWN = ("etc/slipway/", "etc/ssh/ssh_host_", "var/lib/slipway/", "run/", "tmp/", "etc/machine-id")


def values(parameter: dict[str, Any]) -> tuple[str, ...]:
    """Return the legal values to try for an entry of parameters.json."""
    return tuple(parameter.get("choices") or ()) or TYPES[parameter["type"]]


def cases(tree: Path, wanted: list[str]) -> Iterator[tuple[str, str]]:
    """Yield each parameter of a tree with each of its values."""
    for parameter in json.loads((tree / "usr/lib/slipway/parameters.json").read_text()):
        for value in values(parameter) if not wanted or parameter["name"] in wanted else ():
            yield parameter["name"], value


def run(*argv: str | Path) -> None:
    """Run a program that has to succeed."""
    subprocess.run(argv, check=True, timeout=60)


def prepare(root: Path, name: str, value: str) -> None:
    """Make an instance of the tree at ``root``, with a value, three network cards, and no running
    system.
    """
    run("mount", "--rbind", "--make-rslave", "/dev", root / "dev")
    for folder in ("run", "tmp", "sys"):
        run("mount", "-t", "tmpfs", "tmpfs", root / folder)
    for number, card in enumerate(CARDS, 2):
        (root / "sys/class/net" / card / "device").mkdir(parents=True)
        (root / "sys/class/net" / card / "ifindex").write_text(f"{number}\n")
    for program in ("systemctl", "networkctl", "agetty", "sysctl"):
        stub = root / "tmp" / program
        stub.write_text("#!/bin/sh\ncase $* in *is-active*) exit 3 ;; esac\n")
        stub.chmod(0o755)
    (root / "etc/machine-id").unlink(missing_ok=True)
    (root / "etc/machine-id").write_text("a" * 32 + "\n")
    (root / "run/lock").mkdir()
    store = root / "run/credentials/@system"
    store.mkdir(parents=True)
    (store / f"slipway.{name}").write_bytes(value.encode())


def made(upper: Path) -> list[str]:
    """Return the files of a layer, but for those that first boot makes for every appliance."""
    found = [
        str(path.relative_to(upper))
        for path in upper.rglob("*")
        if path.is_symlink() or not path.is_dir()
    ]
    return sorted(path for path in found if not path.startswith(OWN))


def case(tree: Path, work: Path, name: str, value: str) -> dict[str, Any]:
    """Run first boot once."""
    run("mount", "-t", "tmpfs", "tmpfs", work)
    root, upper = work / "root", work / "upper"
    for folder in (root, upper, work / "work"):
        folder.mkdir()
    run(
        "mount",
        "-t",
        "overlay",
        "overlay",
        root,
        "-o",
        f"lowerdir={tree},upperdir={upper},workdir={work / 'work'}",
    )
    try:
        prepare(root, name, value)
        command = [
            "unshare",
            "--pid",
            "--fork",
            "--kill-child",
            f"--mount-proc={root / 'proc'}",
            "chroot",
            str(root),
            "/usr/bin/python3",
            "-E",
            "-s",
            "-B",
        ]
        environment = {
            "PATH": "/tmp:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
        }
        ended = subprocess.run(
            [*command, "/usr/lib/slipway/firstboot.py"],
            stdin=subprocess.DEVNULL,
            env=environment,
            capture_output=True,
            timeout=120,
            check=False,
        )
        return {
            "parameter": name,
            "value": value,
            "status": ended.returncode,
            "said": ended.stderr.decode(errors="replace"),
            "made": made(upper),
            "run": (root / ATTACK).exists(),
        }
    finally:
        run("umount", "--lazy", root)
        run("umount", "--lazy", work)


def main(argv: list[str]) -> int:
    """Run all cases, and print them."""
    tree, wanted = Path(argv[0]), argv[1:]
    work = Path("/mnt")
    for card in CARDS:
        run("ip", "link", "add", card, "type", "bridge")
    for name, value in cases(tree, wanted):
        print(json.dumps(case(tree, work, name, value)), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
