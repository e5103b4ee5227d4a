"""Fresh machines: minimal systems to run the README's commands in a clean clone.

What goes in: a checkout, and this host's way to reach mirrors of Debian and an index of Python
packages. What comes out: a line for each step, the logs of all steps, and a :class:`BuildError`
with the names of the failed steps.

Each base of the library is installed by mmdebstrap with nothing but its required packages, apt,
sudo, git and ca-certificates. A copy of it is the root of a private namespace, on disk, with the
network of this host. `run` has to install all further needs of the commands. Invariants: the
uncommitted files of this checkout play no part. Every process and mount ends with this process,
even by SIGKILL. The next run then removes the files.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from slipway.errors import BuildError, HostError, UsageError
from slipway.host import process
from slipway.host.namespace import MOUNT, Namespace
from slipway.job import Workshop
from slipway.packages.mirror import mirror_of
from slipway.spec.base import Base

__all__ = [
    "COMMANDS",
    "Access",
    "Machine",
    "apt_options",
    "fresh",
    "local_paths",
    "machines",
    "pip_configuration",
]

#: The commands to run in the clone, by the name of the step: the README's.
COMMANDS: Final = {
    "doctor": "./run doctor",
    "build": './run build "$(./run list --names | head -n 1)" --no-boot',
    "unit": "./run test --unit",
    "integration": "./run test --integration",
}
USERS: Final = ("root", "person")
#: The packages to clone a repository with, beside mmdebstrap's minbase.
_INCLUDED: Final = "ca-certificates,git,sudo"
#: The time limit of a command.
_LIMIT_S: Final = 5400
_KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_CERTIFICATES: Final = Path("/usr/local/share/ca-certificates")
#: Options of apt about the way to a mirror, and about a clock that differs from the mirror's.
_APT_OPTIONS: Final = re.compile(r"Acquire::(https?|Check-|Force|Max-FutureTime|Proxy|Retries)")
#: Environment variables about the way to servers.
_VARIABLES: Final = re.compile(
    r"(all|ftp|http|https|no)_proxy|PIP_\w+|(REQUESTS|CURL)_CA_BUNDLE|SSL_CERT_(FILE|DIR)",
    re.IGNORECASE,
)

#: Makes a tree the root of a namespace: tree, folder for apt's downloads, files of this host that
#: it may read.
ENTER = """\
set -eu
cd "$1"
archives=$2
shift 2
mount --bind . .
cd "$PWD"
mount -t proc -o nosuid,nodev,noexec proc proc
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t tmpfs -o mode=755,nosuid,noexec tmpfs dev
mkdir dev/net dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for number in 0:stdin 1:stdout 2:stderr; do
    ln -s "/proc/self/fd/${number%:*}" "dev/${number#*:}"
done
for device in null zero full random urandom tty fuse kvm net/tun; do
    [ -e "/dev/$device" ] || continue
    : >"dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mount --bind "$archives" var/cache/apt/archives
for path; do
    ! [ -e ".$path" ] || continue
    if [ -d "$path" ]; then mkdir -p ".$path"; else mkdir -p ".${path%/*}"; : >".$path"; fi
    mount --bind "$path" ".$path"
    mount -o remount,bind,ro ".$path"
done
pivot_root . mnt
cd /
umount -l /mnt
"""

#: Makes the tree a machine for a user: name of the user.
PREPARE = """\
set -eu
update-ca-certificates
[ "$1" != root ] || exit 0
useradd --create-home --shell /bin/bash "$1"
echo "$1 ALL=(ALL) NOPASSWD: ALL" >"/etc/sudoers.d/$1"
mv /root/slipway "/home/$1/slipway"
chown -R "$1:$1" "/home/$1/slipway"
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """A fresh machine: a base, and its user."""

    base: str
    user: str

    def __str__(self) -> str:
        return f"{self.base}-{self.user}"

    @property
    def home(self) -> str:
        """The user's folder."""
        return "/root" if self.user == "root" else f"/home/{self.user}"

    def argv(self, command: str, variables: Mapping[str, str]) -> list[str]:
        """Return the words to run a shell command in the clone, as the user.

        Nothing of our environment is passed on.
        """
        path = "/usr/local/bin:/usr/bin:/bin" if self.user != "root" else process.SYSTEM_PATH
        told = {
            "CI": "true",
            "HOME": self.home,
            "USER": self.user,
            "LOGNAME": self.user,
            "PATH": path,
            **variables,
        }
        become = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--init-groups", "--"]
        words = [f"{name}={value}" for name, value in told.items()]
        return [
            *(become if self.user != "root" else []),
            "env",
            "-i",
            *words,
            "sh",
            "-c",
            f"cd ~/slipway && {command}",
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """This host's way to servers: apt's options, pip.conf, environment variables, their files."""

    apt: str
    pip: str
    variables: Mapping[str, str]
    files: tuple[Path, ...]


def machines(bases: Sequence[str], keyword: str = "") -> tuple[Machine, ...]:
    """Return the machines with a keyword in their names.

    All bases are there, the newest first, with all users.

    Raises:
        UsageError: No name has the keyword.
    """
    every = [Machine(base, user) for base in reversed(bases) for user in USERS]
    found = tuple(machine for machine in every if keyword in str(machine))
    if not found:
        raise UsageError(
            f'no fresh machine matches "{keyword}"',
            hint=f"choose from: {', '.join(map(str, every))}",
        )
    return found


def apt_options(dump: str, variables: Mapping[str, str]) -> str:
    """Return the lines of `apt-config dump` about the way to a mirror, as apt.conf.

    Proxies may be variables as well.
    """
    lines = [
        line for line in dump.splitlines() if _APT_OPTIONS.match(line) and not line.endswith(' "";')
    ]
    for scheme in ("http", "https"):
        proxy = variables.get(f"{scheme}_proxy")
        if proxy and not any(line.startswith(f"Acquire::{scheme}::Proxy ") for line in lines):
            lines.append(f'Acquire::{scheme}::Proxy "{proxy}";')
    return "".join(f"{line}\n" for line in lines)


def _pip_settings(listing: str) -> list[tuple[str, str, str]]:
    """Return the section, name and value of each setting in the output of `pip config list`."""
    found = re.findall(r"^([\w:-]+)\.([\w-]+)=(.*)$", listing, re.MULTILINE)
    return [(section, name, str(ast.literal_eval(value))) for section, name, value in found]


def pip_configuration(listing: str) -> str:
    """Return a pip.conf with the settings of `pip config list`, except those of the environment."""
    sections: dict[str, list[str]] = {}
    for section, name, value in _pip_settings(listing):
        if section != ":env:":
            words = value.split()
            sections.setdefault(section, []).append(f"{name} = " + "\n    ".join(words))
    return "\n".join(
        f"[{section}]\n" + "".join(f"{line}\n" for line in lines)
        for section, lines in sections.items()
    )


def local_paths(listing: str, variables: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the files and folders of this host named by pip's settings and variables.

    An index refers to files beside it, so its parent folder is returned.
    """
    settings = [(name, value) for _, name, value in _pip_settings(listing)] + list(
        variables.items()
    )
    found: dict[Path, None] = {}
    for name, value in settings:
        for word in value.split():
            path = Path(urlsplit(word).path if word.startswith("file:") else word)
            if path.is_absolute():
                found[
                    path.parent if name.endswith("index-url") and path.parent != Path("/") else path
                ] = None
    return tuple(found)


def _access() -> Access:
    """Return this host's way to servers."""
    variables = {
        name: value for name, value in os.environ.items() if value and _VARIABLES.fullmatch(name)
    }
    dump = process.run(
        ["apt-config", "dump"], what="asking apt for its options", timeout_s=60
    ).stdout.decode()
    pip = [sys.executable, "-m", "pip", "config", "list"]
    listing = process.run(
        pip, what="asking pip for its settings", env=variables, timeout_s=60
    ).stdout.decode()
    return Access(
        apt=apt_options(dump, variables),
        pip=pip_configuration(listing),
        variables=variables,
        files=tuple(path for path in local_paths(listing, variables) if path.exists()),
    )


def _sources(base: Base, mirrors: Mapping[str, str], keyring: str | Path) -> str:
    """Return package sources (sources.list(5)), with the passwords that the host's own may hold."""
    lines = []
    for suite in base.suites:
        uri = mirror_of(suite.archive, mirrors)
        lines.append(f"deb [signed-by={keyring}] {uri} {suite.suite} {' '.join(base.components)}\n")
    return "".join(lines)


def fresh(shop: Workshop, keyword: str = "") -> None:
    """Run the README's commands on fresh machines, as root and as an ordinary user.

    Raises:
        UsageError: The keyword fits no machine.
        HostError: The user is not root, or this host has no mirror or namespaces.
        BuildError: A step failed.
    """
    chosen = machines(shop.library.bases(), keyword)
    if os.geteuid() != 0:
        raise HostError(
            "fresh machines are made by root: their users need sudo and newuidmap",
            hint="sudo ./run test --fresh",
        )
    access = _access()
    failed: list[str] = []
    with shop.cache.scratch() as work:
        _clone(shop.root, work / "clone")
        for name in dict.fromkeys(machine.base for machine in chosen):
            base = shop.library.base(name)
            shop.progress.line(base.summary)
            with shop.progress.step("minimal system"):
                _install(
                    base,
                    shop.mirrors,
                    access,
                    work,
                    _emptied(shop.root / "build/fresh" / name) / "mmdebstrap.log",
                )
            for machine in (machine for machine in chosen if machine.base == name):
                failed += _try(shop, machine, access, work)
            shutil.rmtree(work / name)
    if failed:
        raise BuildError(
            f"failed: {', '.join(failed)}", hint=f"the logs are in {shop.root / 'build/fresh'}"
        )


def _clone(root: Path, target: Path) -> None:
    """Clone the committed files."""
    # git refuses a repository of another user, except to root by sudo from that user.
    environment = {name: os.environ[name] for name in ("SUDO_UID",) if name in os.environ}
    process.run(
        ["git", "clone", "--quiet", "--no-hardlinks", root, target], what="cloning", env=environment
    )


def _emptied(folder: Path) -> Path:
    """Return a folder for logs, without the old ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for log in folder.glob("*.log"):
        log.unlink()
    return folder


def _install(base: Base, mirrors: Mapping[str, str], access: Access, work: Path, log: Path) -> None:
    """Install a base with little more than its required packages: the tree ``<work>/<name>``."""
    (work / "apt.conf").write_text(access.apt)
    (work / "sources").write_text(_sources(base, mirrors, base.folder.absolute() / base.keyring))
    with Namespace(directory=work) as place:
        argv = [
            "mmdebstrap",
            "--mode=root",
            "--variant=minbase",
            f"--include={_INCLUDED}",
            f"--aptopt={MOUNT}/apt.conf",
        ]
        place.run(
            [*argv, base.release, MOUNT / base.name, MOUNT / "sources"], what="mmdebstrap", log=log
        )
    tree = work / base.name
    # they name a keyring of this host
    for used in (tree / "etc/apt/sources.list.d").iterdir():
        used.unlink()
    (tree / "etc/apt/sources.list").write_text(_sources(base, mirrors, _KEYRING))
    (tree / "etc/pip.conf").write_text(access.pip)
    for name in ("hosts", "hostname", "resolv.conf"):
        (tree / "etc" / name).unlink(missing_ok=True)
        (tree / "etc" / name).write_bytes(Path("/etc", name).read_bytes())
    if _CERTIFICATES.is_dir():
        shutil.copytree(_CERTIFICATES, tree / _CERTIFICATES.relative_to("/"), dirs_exist_ok=True)
    # Daemons would share this host's network.
    policy = tree / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)


def _try(shop: Workshop, machine: Machine, access: Access, work: Path) -> list[str]:
    """Run the commands on a machine of its own, and return the failed steps."""
    logs = _emptied(shop.root / "build/fresh" / str(machine))
    archives = shop.settings.cache / "fresh" / machine.base
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    failed: list[str] = []
    tree, log = MOUNT / str(machine), logs / "start.log"
    try:
        with Namespace(directory=work) as place:
            place.run(["cp", "-a", "--reflink=auto", MOUNT / machine.base, tree], log=log)
            place.run(["cp", "-a", MOUNT / "clone", tree / "root/slipway"], log=log)
            place.run(
                ["sh", "-c", ENTER, "enter", tree, archives, *access.files],
                what="entering the machine",
                log=log,
            )
            place.run(
                ["sh", "-c", PREPARE, "prepare", machine.user],
                what="preparing the machine",
                env={"TMPDIR": "/tmp"},
                log=log,
            )
            for name, command in COMMANDS.items():
                with shop.progress.step(f"{machine.user}: {name}") as step:
                    said = _run(
                        place, machine.argv(command, access.variables), logs / f"{name}.log"
                    )
                    step.detail = "failed" if said else _summary(logs / f"{name}.log")
                if said:
                    failed.append(f"{machine} {name}")
                    shop.progress.line(f"{machine}: {command} {said}")
                    if name == "doctor":  # nothing is set up
                        break
    finally:
        shutil.rmtree(work / str(machine), ignore_errors=True)
    return failed


def _run(place: Namespace, argv: Sequence[str], log: Path) -> str:
    """Run a command; return its failure with its last lines, or an empty text."""
    ended = place.run(argv, env={"TMPDIR": "/tmp"}, log=log, check=False, timeout_s=_LIMIT_S)
    if ended.returncode == 0:
        return ""
    how = (
        f"ended with status {ended.returncode}"
        if ended.returncode > 0
        else f"did not end within {_LIMIT_S} s"
    )
    return f"{how}\n{process.tail(log)}\n  the whole log is {log}"


def _summary(log: Path) -> str:
    """Return the last counts of passed and skipped tests in a log.

    Empty if it has none.
    """
    found = re.findall(
        r"^(\d+ \w+(?:, \d+ \w+)*) in [\d.]+s", log.read_text(errors="replace"), re.MULTILINE
    )
    return str(found[-1]) if found else ""
