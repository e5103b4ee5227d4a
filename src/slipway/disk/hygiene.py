"""A finished tree -> findings of things no image may hold: identities, secrets, traces of the
build.

What goes in: the directory of a whole file system that is not running. What comes out: findings,
sorted by path. Without findings, every instance of the image starts equal and empty.

Invariants: nothing is written and no symbolic link is followed. An unreadable file is itself a
finding.

This module is also a program (``python -I hygiene.py --enter TREE``). It prints the findings as
JSON, so it can run with access to all files, for example as root of a user namespace. With
``--enter`` the tree becomes its root first. A folder that is a link (``/etc``) is then the tree's,
never the host's.

Content has a known exception: a file from a package, equal byte for byte, is already public, such
as an example or a test's key. The MD5 sums are dpkg's, in ``info/*.md5sums`` and for configuration
files in ``status``.

No list is complete. `build --verify-reproducible` installs the same packages twice and names the
differences. It finds things unknown to the rules here.
"""

from __future__ import annotations

import argparse
import base64
import fnmatch
import hashlib
import json
import os
import re
import stat
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

if not __package__:  # as a program, without any path but the standard library's
    sys.path.insert(0, str(Path(__file__).parents[2]))

from slipway.disk.archives import initramfs, unpacked
from slipway.disk.keys import armoured, binary_key, large_key, pieces

__all__ = ["Finding", "inspect", "main"]


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing that no image may hold; ``path`` is absolute in the image."""

    path: str
    rule: str
    detail: str


@dataclass(frozen=True, slots=True)
class _PathRule:
    """Files recognised by their place alone."""

    name: str
    pattern: str
    detail: str
    #: Whether an empty file is as bad (its existence says something), and whether directories and
    #: links are.
    empty: bool = False
    any_kind: bool = False


_HOME = "(?:root|home/[^/]+)"
_PATH_RULES = (
    _PathRule(
        "ssh-host-key",
        r"etc/ssh/ssh_host_.*",
        "an SSH host key, which first boot makes",
        empty=True,
    ),
    _PathRule(
        "machine-id",
        r"(?:etc|var/lib/dbus)/machine-id",
        "a machine-id; it must be empty, and is made when an instance boots",
    ),
    _PathRule(
        "authorized-keys",
        r"(?:.*/)?\.ssh/authorized_keys2?|etc/ssh/authorized_keys.*",
        "keys of somebody who may log in",
    ),
    _PathRule(
        "history",
        rf"{_HOME}/\.(?:[a-z]+_history|lesshst|viminfo|wget-hsts)|{_HOME}/\.local/share/nano/.*",
        "a history of commands",
    ),
    _PathRule(
        "cloud-init",
        r"var/lib/cloud/.+|etc/systemd/network/10-cloud-init-.*|etc/netplan/.*cloud-init.*",
        "data of an instance",
    ),
    _PathRule(
        "credentials",
        rf"{_HOME}/(?:\.aws/credentials|\.netrc|\.pypirc|\.git-credentials|\.docker/config\.json"
        r"|\.config/gcloud/.+|\.kube/config)"
        r"|etc/apt/auth\.conf(?:\.d/.+)?|etc/cloud/cloud\.cfg\.d/.*(?:credentials|installer).*",
        "somebody's credentials",
    ),
    _PathRule("log", r"var/log/.+", "a log of the building"),
    _PathRule(
        "apt",
        r"var/lib/apt/lists/(?!lock$).+|var/cache/apt/.*\.bin|var/cache/apt/archives/.+\.deb",
        "a list or cache of apt",
    ),
    _PathRule(
        "core-dump", r"var/lib/systemd/coredump/.+|var/crash/.+", "a crashed program's memory"
    ),
    _PathRule(
        "temporary", r"(?:tmp|var/tmp|run)/[^/]+", "a temporary file", empty=True, any_kind=True
    ),
    _PathRule(
        "random-seed",
        r"var/lib/systemd/(?:random-seed|credential\.secret)|var/lib/urandom/random-seed"
        r"|boot/(?:.*/)?loader/random-seed",
        "a seed or secret that instances would share",
    ),
    _PathRule(
        "lease",
        r"var/lib/(?:dhcp|dhcpcd|NetworkManager)/.+\.leases?|var/lib/NetworkManager/secret_key",
        "an address lease or its key",
    ),
    _PathRule(
        "first-boot",
        r"etc/slipway/parameters\.env|var/lib/slipway/.+",
        "what first boot makes for one instance",
    ),
    _PathRule(
        "database-cluster",
        r"var/lib/postgresql/.+/PG_VERSION|var/lib/mysql/(?:ibdata1|aria_log_control|auto\.cnf)"
        r"|var/lib/redis/.+"
        r"|etc/ldap/slapd\.d/.+\.ldif|var/lib/ldap/data\.mdb",
        "a database cluster, which first boot makes",
    ),
    _PathRule(
        "service-key",
        r"(?:etc/bind/|etc/)rndc\.key|(?:.*/)?\.erlang\.cookie|(?:.*/)?[^/]+\.keytab"
        r"|(?:.*/)?\.gnupg/(?:private-keys-v1\.d/.+|secring\.gpg)|etc/munge/munge\.key"
        r"|etc/(?:corosync|pacemaker)/authkey|etc/dropbear/(?:initramfs/)?dropbear_.*_host_key"
        r"|etc/krb5kdc/stash|etc/xrdp/rsakeys\.ini"
        r"|var/lib/tor/(?:.*/)?(?:[^/]*secret[^/]*key|private_key)|var/lib/samba/private/.+\.tdb"
        r"|etc/wireguard/[^/]*(?:private|\.key|\.psk)[^/]*|(?:.*/)?\.(?:pgpass|mylogin\.cnf)",
        "a key or password of a service, which instances would share",
    ),
    _PathRule(
        "instance-name",
        r"etc/nvme/host(?:nqn|id|key)|etc/hostid|etc/openvswitch/system-id\.conf",
        "a name of one instance, which first boot makes",
    ),
    _PathRule(
        "leftover",
        r"usr/sbin/policy-rc\.d|etc/(?:apt/apt\.conf\.d|dpkg/dpkg\.cfg\.d)/99mmdebstrap"
        r"|etc/(?:.*/)?[^/]+\.(?:dpkg-(?:new|old|dist|tmp|remove|bak)|ucf-(?:new|old|dist))",
        "a leftover of the building",
        empty=True,
    ),
)
_PATHS = re.compile(
    "|".join(f"(?P<r{number}>{rule.pattern})" for number, rule in enumerate(_PATH_RULES))
)

#: Of a larger file only armoured keys are looked for.
_KEY_FILE_BYTES = 256 * 1024
#: Compiled Python: a package's examples are in it, and dpkg knows no sum of it.
_NO_TEXT = (".pyc",)
#: Rule, what has to be in the content, the path, the content's pattern, and what it is.
_TEXT_RULES = tuple(
    (rule, word, re.compile(path), re.compile(pattern, re.MULTILINE), detail)
    for rule, word, path, pattern, detail in (
        (
            "service-key",
            b"secret",
            ".*",
            rb'^[^#/]*\bsecret\s+"?[A-Za-z0-9+/]{16,}={0,2}"?\s*;',
            "a key of BIND or DHCP",
        ),
        (
            "credentials",
            b"dbpass",
            "etc/.*",
            rb"""^\s*(?:dbc_dbpass|\$dbpass)\s*=\s*['"]?[^'"\s;]""",
            "a database's password",
        ),
        (
            "credentials",
            b"password",
            r"(?:.*/)?\.my\.cnf|etc/mysql/debian\.cnf",
            rb"^[ \t]*password[ \t]*=[ \t]*\S",
            "a database's password",
        ),
        *(
            (
                "service-key",
                word,
                "(?:etc|srv|opt|var)/.*",
                word + rb"""['"\]]*\s*(?:=>?|:|,)\s*['"]?[^'"<>{}$\s]{16,}""",
                "a secret of a web program",
            )
            for word in (
                b"des_key",
                b"blowfish_secret",
                b"secret_key_base",
                b"SECRET_KEY",
                b"APP_KEY",
            )
        ),
        (
            "instance-name",
            b"InitiatorName",
            r"etc/(?:iscsi/.*|initiatorname.*)",
            rb"^\s*InitiatorName\s*=\s*\S",
            "the iSCSI name of one instance",
        ),
        (
            "instance-name",
            b"MY_HOSTID",
            r"etc/popularity-contest\.conf",
            rb'^\s*MY_HOSTID\s*=\s*"?\w',
            "the name of one instance",
        ),
    )
)
#: Scripts of the early boot bring files of the tree along.
_INITRAMFS = re.compile(r"boot/(?:initrd|initramfs).*")
#: What of the places above says the same of a file in an initramfs.
_IN_INITRAMFS = ("authorized-keys", "credentials", "instance-name", "service-key", "ssh-host-key")
_CORE = re.compile(r"(?:.*/)?core(?:\.\d+)?")


def inspect(
    tree: Path, *, allow: Collection[str] = (), host: str | None = None, words: Sequence[str] = ()
) -> list[Finding]:
    """Return the tree's findings, sorted.

    Args:
        allow: Exceptions, each ``rule:path`` with wildcards (fnmatch) allowed in the path, for
            example ``private-key:/usr/share/doc/*``.
        host: The name of the building machine; a tree with this name got the host's /etc/hostname.
        words: Secrets that no file may hold, as they are or in base64.
    """
    secrets = [form for word in words for form in (word.encode(), base64.b64encode(word.encode()))]
    findings = [*_files(str(tree), secrets), *_accounts(tree), *_configuration(tree, host)]
    return sorted(
        finding
        for finding in findings
        if not any(fnmatch.fnmatchcase(f"{finding.rule}:{finding.path}", rule) for rule in allow)
    )


def _files(tree: str, secrets: Sequence[bytes]) -> Iterator[Finding]:
    """Yield findings about single files, by path or content."""
    shipped = _Shipped(Path(tree))
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            entries = list(os.scandir(f"{tree}/{folder}"))
        except OSError as error:
            yield Finding(f"/{folder}", "unreadable", f"cannot be listed: {error.strerror}")
            continue
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            directory = entry.is_dir(follow_symlinks=False)
            rule = _rule(path)
            regular = entry.is_file(follow_symlinks=False)
            if rule and (
                rule.any_kind
                or (regular and (rule.empty or entry.stat(follow_symlinks=False).st_size))
            ):
                yield Finding(f"/{path}", rule.name, rule.detail)
            elif directory and path not in ("proc", "sys", "dev"):
                pending.append(path)
            elif regular:
                yield from _content(shipped, path, entry)
                if secrets and _holds(entry, secrets):
                    yield Finding(f"/{path}", "secret", "a secret that the build was given")


def _rule(path: str) -> _PathRule | None:
    match = _PATHS.fullmatch(path)
    return _PATH_RULES[int(match.lastgroup[1:])] if match and match.lastgroup else None


def _content(shipped: _Shipped, path: str, entry: os.DirEntry[str]) -> Iterator[Finding]:
    """Yield private keys, service keys and core files: they can lie anywhere under any name."""
    core = _CORE.fullmatch(path)
    size = entry.stat(follow_symlinks=False).st_size
    if not core and (path.endswith(_NO_TEXT) or size < 40):
        return
    try:
        descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if _INITRAMFS.fullmatch(path):
                yield from _early(shipped, path, file)
                return
            data = file.read(_KEY_FILE_BYTES)
            large = size > _KEY_FILE_BYTES and not data.startswith(b"\x7fELF") and large_key(file)
    except OSError as error:
        yield Finding(f"/{path}", "unreadable", f"cannot be read: {error.strerror}")
        return
    if data.startswith(b"\x7fELF"):
        # ELF: e_type, two bytes at 16 in the file's own byte order, is ET_CORE (4) (System V ABI,
        # chapter 4).
        if core and 4 in (data[16:17] + data[17:18]):
            yield Finding(f"/{path}", "core-dump", "a crashed program's memory")
        return
    found = [("private-key", "a private key")] if large else []
    if size <= _KEY_FILE_BYTES:
        found = list(_secrets(path, data))
    if found and not shipped.file(path, entry.path):
        yield from (Finding(f"/{path}", rule, detail) for rule, detail in found)


def _early(shipped: _Shipped, path: str, file: IO[bytes]) -> Iterator[Finding]:
    """Yield findings in an initramfs; it has copies of the tree's files at the time of its
    making.
    """
    try:
        for name, data in initramfs(file, _KEY_FILE_BYTES):
            rule = _rule(name)
            found = (
                [(rule.name, rule.detail)]
                if rule and data and rule.name in _IN_INITRAMFS
                else list(_secrets(name, data))
            )
            if found and not shipped(name, data):
                yield from (
                    Finding(f"/{path}", kind, f"{detail}, as /{name} in it")
                    for kind, detail in found
                )
    except ValueError as error:
        yield Finding(f"/{path}", "unreadable", str(error))


def _secrets(path: str, data: bytes) -> Iterator[tuple[str, str]]:
    """Yield the secrets in a file's content: the rule, and the kind."""
    data = unpacked(data, 1 << 20)  # bounded: a few bytes can become gigabytes
    kind = binary_key(data)
    if kind:
        yield ("service-key" if kind == "a keytab" else "private-key"), kind
    elif armoured(data):
        yield "private-key", "a private key"
    for rule, word, paths, pattern, detail in _TEXT_RULES:
        if word in data and paths.fullmatch(path) and pattern.search(data):
            yield rule, detail


def _holds(entry: os.DirEntry[str], secrets: Sequence[bytes]) -> bool:
    """Return True if a file holds one of these texts; an unreadable one was reported already."""
    try:
        with Path(entry.path).open("rb") as file:
            overlap = max(len(secret) for secret in secrets)
            return any(secret in data for data in pieces(file, overlap) for secret in secrets)
    except OSError:
        return False


class _Shipped:
    """The files of packages by path and MD5 sum; dpkg's lists are read at first use."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree
        self._sums: dict[str, set[str]] | None = None

    def file(self, path: str, file: str) -> bool:
        """Return True if a package ships exactly this file."""
        known = self._known(path)
        if not known:  # it may be of any size
            return False
        with Path(file).open("rb") as opened:
            return (
                hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
                in known
            )

    def __call__(self, path: str, data: bytes) -> bool:
        """Return True if a package ships a file with exactly this content."""
        return hashlib.md5(data, usedforsecurity=False).hexdigest() in self._known(path)

    def _known(self, path: str) -> set[str]:
        """Return the sums of a path's file, in whichever packages it is."""
        if self._sums is None:
            self._sums = {}
            for digest, name in self._read():
                self._sums.setdefault(name, set()).add(digest)
        names = (path, f"usr/{path}", path.removeprefix("usr/"))
        return set().union(*(self._sums.get(name, ()) for name in names))

    def _read(self) -> Iterator[tuple[str, str]]:
        dpkg = self._tree / "var/lib/dpkg"
        for sums in (dpkg / "info").glob("*.md5sums"):
            for line in _text(sums).splitlines():
                digest, _, name = line.partition("  ")
                yield digest, name
        # Configuration files are in the status: a path, and the sum of what the package has there.
        for name, digest in re.findall(
            r"^ /(\S+) ([0-9a-f]{32})(?: obsolete)?$", _text(dpkg / "status"), re.MULTILINE
        ):
            yield digest, name


def _accounts(tree: Path) -> Iterator[Finding]:
    """Yield findings about passwords: the second field may only forbid their use (shadow(5))."""
    for name in ("shadow", "gshadow", "passwd", "shadow-", "gshadow-", "passwd-"):
        for number, line in enumerate(_text(tree / "etc" / name).splitlines(), start=1):
            fields = line.split(":")
            if len(fields) < 2 or re.fullmatch(
                r"[!*]+|x" if name.startswith("passwd") else r"[!*]+", fields[1]
            ):
                continue
            detail = "the password's hash" if fields[1] else "an empty password"
            # A group without a password has an empty field or "!": neither lets anybody in
            # (gshadow(5)).
            if fields[1] or not name.startswith("gshadow"):
                yield Finding(
                    f"/etc/{name}", "password", f"{detail} of {fields[0]!r} in line {number}"
                )


def _configuration(tree: Path, host: str | None) -> Iterator[Finding]:
    """Yield files copied from the host to give programs in the tree a network."""
    resolver = tree / "etc/resolv.conf"
    if re.search(r"^\s*nameserver\s", _text(resolver), re.MULTILINE):
        yield Finding(
            "/etc/resolv.conf", "host-configuration", "name servers of the machine that builds"
        )
    if host and _text(tree / "etc/hostname").strip() == host:
        yield Finding(
            "/etc/hostname", "host-configuration", f'the name of the machine that builds, "{host}"'
        )


def _text(path: Path) -> str:
    """Return a regular file's text; empty if there is no such file."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return ""
        return path.read_text(errors="replace")
    except OSError:
        return ""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the findings as a JSON list and return 1 if there are any, 0 otherwise."""
    options = argparse.ArgumentParser(
        description="Print what in a file system tree belongs to no image, as JSON."
    )
    options.add_argument("tree", type=Path, metavar="TREE")
    options.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="RULE:PATH",
        help="an exception; * matches anything",
    )
    options.add_argument(
        "--host", metavar="NAME", help="the building machine's name, which must not be the tree's"
    )
    options.add_argument(
        "--enter", action="store_true", help="make the tree this process' root first (as root)"
    )
    options.add_argument(
        "--words",
        action="store_true",
        help="read a JSON list of texts from standard input, which no file may hold",
    )
    given = options.parse_args(argv)
    words = json.load(sys.stdin) if given.words else []
    if given.enter:
        os.chroot(given.tree)
        os.chdir("/")
    findings = inspect(
        Path("/") if given.enter else given.tree, allow=given.allow, host=given.host, words=words
    )
    json.dump([asdict(finding) for finding in findings], sys.stdout, indent=1)
    sys.stdout.write("\n")
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
