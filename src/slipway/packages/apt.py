"""The host's apt in a separate root: the package lists of one base and architecture.

What goes in: a base, an architecture and mirrors. What comes out: the available packages, and apt's
choice of packages to install beside a given set. Invariants: the host's package state is neither
read nor written, but its proxies and passwords for the mirrors are used; lists are verified with
the base's keyring; one process at a time has a root.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from slipway.errors import BuildError, HostError
from slipway.host import process
from slipway.packages.locked import LockedPackage
from slipway.packages.mirror import authentication, mirror_of, source_text, with_sources
from slipway.spec.base import Base
from slipway.spec.model import AptSource

__all__ = ["AptRoot", "Available", "open_root"]

#: Lists younger than this are used as they are, unless fresh ones are requested.
MAXIMUM_AGE_S: Final = 3600
_STARTED: Final = time.time()
_LINE: Final = re.compile(r"'([^']+)' (\S+) (\d+) SHA256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Available:
    """The contents of the package lists: all names, and the essential ones.

    Providers of virtual names and single entries are searched in ``files``, the lists.
    """

    names: frozenset[str]
    essential: tuple[str, ...]
    files: tuple[Path, ...]

    def providers(self, virtual: str) -> tuple[str, ...]:
        """Return the packages that provide a virtual name (Debian Policy 7.5)."""
        pattern = re.compile(
            rb"^Provides:.*?[ ,]" + re.escape(virtual.encode()) + rb"(?=[ ,(\n])", re.MULTILINE
        )
        found = set()
        for file in self.files:
            content = file.read_bytes()
            for match in pattern.finditer(content):
                start = (
                    content.rfind(b"\n\n", 0, match.start()) + 2
                    if b"\n\n" in content[: match.start()]
                    else 0
                )
                found.add(_name(content[start : content.index(b"\n", start)]))
        return tuple(sorted(found))

    def stanzas(self, packages: Iterable[LockedPackage]) -> dict[str, str]:
        """Return the lists' entries of some packages, by name."""
        wanted = {(package.name, package.version): package.name for package in packages}
        names = {name.encode() for name, _ in wanted}
        found: dict[str, str] = {}
        for file in self.files:
            for stanza in file.read_bytes().split(b"\n\n"):
                if stanza[9 : stanza.find(b"\n")] in names:
                    text = stanza.decode(errors="replace")
                    version = re.search(r"^Version: (.*)$", text, re.MULTILINE)
                    key = (_name(stanza[: stanza.find(b"\n")]), version[1] if version else "")
                    if key in wanted:
                        found.setdefault(wanted[key], text.strip("\n"))
        return found


def _name(line: bytes) -> str:
    return line.removeprefix(b"Package: ").decode(errors="replace")


@contextlib.contextmanager
def open_root(
    directory: Path,
    base: Base,
    architecture: str,
    mirrors: Mapping[str, str],
    *,
    sources: Sequence[tuple[AptSource, Path]] = (),
    fresh: bool,
) -> Iterator[AptRoot]:
    """Hold a root with recent lists; another process that needs it waits.

    Args:
        directory: The folder of all roots; its contents are disposable.
        sources: Repositories besides the base's, each with its file of keys.
        fresh: Require lists newer than this process, not only younger than an hour.

    Raises:
        HostError: apt is missing, or an archive has no mirror.
        BuildError: The lists cannot be downloaded or do not verify.
    """
    process.find_tool("apt-get", why="needed to resolve packages")
    uris: dict[str, str] = {
        suite.archive: mirror_of(suite.archive, mirrors) for suite in base.suites
    }
    keyring = (base.folder / base.keyring).read_bytes()
    suites = [(suite.suite, suite.archive) for suite in base.suites]
    further = with_sources(mirrors, [source for source, _ in sources])
    uris |= {source.name: further[source.name] for source, _ in sources}
    keys = [
        hashlib.sha256(content).hexdigest()
        for content in (keyring, *(path.read_bytes() for _, path in sources))
    ]
    identity = json.dumps(
        [
            base.name,
            architecture,
            suites,
            base.components,
            uris,
            [str(source) for source, _ in sources],
            keys,
        ]
    )
    root = (
        directory
        / f"{base.name}-{architecture}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    )
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = AptRoot(root, architecture, uris)
        found.prepare(base, keyring, sources)
        found.update(fresh=fresh)
        yield found


class AptRoot:
    """A root in use; made by :func:`open_root`."""

    def __init__(self, root: Path, architecture: str, uris: Mapping[str, str]) -> None:
        self.root = root
        self.architecture = architecture
        self.uris = uris
        self._stamp = root / "updated"

    def prepare(
        self, base: Base, keyring: bytes, sources: Sequence[tuple[AptSource, Path]]
    ) -> None:
        """Write apt's configuration: the sources and their keys.

        Of the host's configuration, only its access to mirrors is used.
        """
        etc = self.root / "etc/apt"
        for folder in (
            etc / "trusted.gpg.d",
            etc / "apt.conf.d",
            etc / "preferences.d",
            etc / "sources.list.d",
            self.root / "cache/archives/partial",
            self.root / "lists/partial",
        ):
            folder.mkdir(parents=True, exist_ok=True)
        suffix = ".asc" if keyring.startswith(b"-----BEGIN") else ".gpg"
        (etc / f"trusted.gpg.d/base{suffix}").write_bytes(keyring)
        components = " ".join(base.components)
        lines = [
            f"deb {self.uris[suite.archive]} {suite.suite} {components}\n" for suite in base.suites
        ]
        (etc / "sources.list").write_text("".join(lines))
        for source, keys in sources:
            text = source_text(source, signed_by=keys.absolute(), uri=self.uris[source.name])
            (etc / f"sources.list.d/{source.name}.sources").write_text(text)
        # A proxy may have a password.
        (self.root / "apt.conf").touch(mode=0o600)
        (self.root / "apt.conf").chmod(0o600)
        (self.root / "apt.conf").write_text(self._configuration())

    def _configuration(self) -> str:
        settings = {
            "Dir": f"{self.root}/",
            "Dir::State": "state/",
            "Dir::State::lists": f"{self.root}/lists/",
            "Dir::State::status": f"{self.root}/status",
            "Dir::Cache": f"{self.root}/cache/",
            "Dir::Etc::netrc": str(authentication(self.root / "auth.conf")),
            "Dir::Etc::netrcparts": "/etc/apt/auth.conf.d",
            "APT::Architecture": self.architecture,
            "APT::Install-Recommends": "false",
            "APT::Install-Suggests": "false",
            "APT::Get::AllowUnauthenticated": "false",
            "APT::Get::Assume-Yes": "true",
            "APT::Update::Error-Mode": "any",
            "Acquire::ForceHash": "SHA256",
            "Acquire::Languages": "none",
            "Acquire::GzipIndexes": "false",
            "Acquire::Retries": "3",
        }
        # apt's own user may not look into this user's cache directory.
        settings |= {"APT::Sandbox::User": "root"} if os.geteuid() == 0 else {}
        lines = [
            f"{key} {json.dumps(value, ensure_ascii=False)};\n" for key, value in settings.items()
        ]
        return "".join(
            [
                *_host_access(),
                *lines,
                "#clear APT::Architectures;\n",
                f'APT::Architectures {{ "{self.architecture}"; }};\n',
            ]
        )

    def update(self, *, fresh: bool) -> None:
        """Download the lists if the present ones are too old."""
        try:
            age_s, updated = time.time() - self._stamp.stat().st_mtime, self._stamp.stat().st_mtime
        except FileNotFoundError:
            age_s, updated = float("inf"), 0.0
        if 0 <= age_s < MAXIMUM_AGE_S and not (fresh and updated < _STARTED):
            return
        self._stamp.unlink(missing_ok=True)
        self.install_nothing()
        try:
            self._apt("update", "-q", what="downloading the package lists")
        except BuildError as error:
            error.hint = (
                "see that this host reaches its mirror; SLIPWAY_MIRROR or mirror in slipway.toml "
                "names another one"
            )
            raise
        self._stamp.touch()

    def install_nothing(self) -> None:
        """Tell apt that no package is installed."""
        (self.root / "status").write_bytes(b"")

    def install(self, packages: Sequence[LockedPackage]) -> None:
        """Tell apt that exactly these packages are installed.

        Raises:
            BuildError: The lists changed meanwhile and lack some of them.
        """
        stanzas = self.available.stanzas(packages)
        missing = [package.name for package in packages if package.name not in stanzas]
        if missing:
            raise BuildError(
                f"the package lists changed while they were read: {', '.join(missing)} is gone",
                hint="run it again",
            )
        texts = [_as_installed(stanzas[package.name]) for package in packages]
        (self.root / "status").write_text(
            "".join(f"{text}\n\n" for text in texts), encoding="utf-8"
        )

    def solve(self, names: Sequence[str]) -> tuple[LockedPackage, ...]:
        """Return apt's choice of packages to install besides the installed ones, sorted by name.

        Raises:
            BuildError: They cannot be installed; the message holds apt's own words.
        """
        answer = self._apt(
            "install", "--print-uris", "-qq", "--no-remove", *names, what="resolving packages"
        )
        return tuple(
            sorted(self._package(line) for line in answer.splitlines() if line.startswith("'"))
        )

    def explain(self, names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Explain a failure of :meth:`solve`.

        Returns:
            The installed packages to be removed, and the unmet dependencies.
        """
        answer = self._apt(
            "install", "--simulate", "-q", *names, what="resolving packages", check=False
        ).splitlines()
        removed = sorted({line.split()[1] for line in answer if line.startswith("Remv ")})
        start = next(
            (
                number
                for number, line in enumerate(answer, 1)
                if line.endswith("unmet dependencies:")
            ),
            len(answer),
        )
        unmet = itertools.takewhile(lambda line: line.startswith(" "), answer[start:])
        return tuple(removed), tuple(" ".join(line.split()) for line in unmet)

    def _package(self, line: str) -> LockedPackage:
        found = _LINE.fullmatch(line.strip())
        if not found:
            raise BuildError(
                f"apt gave no SHA-256 for a package: {line.strip()}",
                hint="use a mirror with SHA-256 in its package lists",
            )
        uri, file, size, sha256 = found.groups()
        archive = next(
            (name for name, base in self.uris.items() if uri.startswith(f"{base}/")), None
        )
        if archive is None:
            raise HostError(
                f"apt would take {uri}, which is on none of the mirrors that it was given",
                hint="say which in slipway.toml",
            )
        name, version, rest = unquote(file).split("_")
        return LockedPackage(
            name=name,
            version=version,
            architecture=rest.removesuffix(".deb"),
            sha256=sha256,
            size=int(size),
            archive=archive,
            path=uri.removeprefix(f"{self.uris[archive]}/"),
        )

    @cached_property
    def available(self) -> Available:
        """The contents of the lists."""
        # apt's own file names (sources.list(5), URI with underscores): asking by indextargets takes
        # half a second.
        files = tuple(sorted((self.root / "lists").glob("*_Packages")))
        names: set[bytes] = set()
        essential: set[str] = set()
        for file in files:
            content = file.read_bytes()
            names.update(re.findall(rb"^Package: (.+)$", content, re.MULTILINE))
            for match in re.finditer(rb"^Essential: yes$", content, re.MULTILINE):
                start = content.rfind(b"\nPackage: ", 0, match.start()) + 1
                essential.add(_name(content[start : content.index(b"\n", start)]))
        return Available(
            names=frozenset(name.decode() for name in names),
            essential=tuple(sorted(essential)),
            files=files,
        )

    def _apt(self, *words: str, what: str, check: bool = True) -> str:
        done = process.run(
            ["apt-get", *words],
            what=what,
            env={"APT_CONFIG": str(self.root / "apt.conf")},
            timeout_s=900,
            check=check,
        )
        return done.stdout.decode(errors="replace")


def _as_installed(stanza: str) -> str:
    """Return an entry of a package list as one of dpkg's status file."""
    kept = [
        line
        for line in stanza.splitlines()
        if not line.startswith(("Filename:", "Size:", "SHA256:", "MD5sum:", "Description-md5:"))
    ]
    return "\n".join([kept[0], "Status: install ok installed", *kept[1:]])


def _host_access() -> list[str]:
    """Return the host's apt settings for reaching mirrors: proxies, certificates, time limits."""
    wanted = re.compile(r'Acquire::(http|https|ftp|tor|ForceIPv[46])(::[^"\s]*)? "[^"]+";')
    lines = (
        process.run(["apt-config", "dump", "--no-empty"], what="reading apt's configuration")
        .stdout.decode(errors="replace")
        .splitlines()
    )
    return [f"{line}\n" for line in lines if wanted.fullmatch(line)]
