"""Names and keys of one instance that packages make when they are installed: removed from the
image, made again at boot.

What goes in: the table below. The build runs ``--forget``, which removes what there is of it and
notes that in /usr/lib/slipway/identities.json, with owners and modes. Each boot makes what is
noted, before services start, and notes in /var/lib/slipway/identities.json for which machine-id.

Invariants: only what was in the image is made. What exists already was given to this instance and
stays. A clone with a new machine-id is a new instance, and all is made anew. What could not be made
is tried again, and first boot fails until then.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atomic import write
from parameters import Failure, run

__all__ = ["IDENTITIES", "Identity", "forget", "main", "make"]

#: What the build removed, and what an instance has made since.
FORGOTTEN = "usr/lib/slipway/identities.json"
MADE = "var/lib/slipway/identities.json"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Files of one identity, as patterns below the root, and the shell commands that make them.

    With ``word``, only a file that has it in its text. ``links`` are patterns of links to the
    files.
    """

    name: str
    files: Sequence[str]
    script: str
    word: str = ""
    links: Sequence[str] = ()


#: Each script is what the package's own postinst does. Owners and modes are put back afterwards, as
#: they were in the image.
IDENTITIES = (
    Identity(name="bind9", files=("etc/bind/rndc.key",), script="rndc-confgen -a"),
    Identity(
        name="dropbear",
        files=("etc/dropbear/dropbear_*_host_key", "etc/dropbear/dropbear_*_host_key.pub"),
        script="""
for kind in rsa ecdsa ed25519; do
    key=/etc/dropbear/dropbear_${kind}_host_key
    rm -f "$key"
    dropbearkey -t "$kind" -f "$key" | grep -E '^(ssh|ecdsa)-' >"$key.pub"
done
""",
    ),
    Identity(
        name="erlang",
        files=("root/.erlang.cookie", "var/lib/*/.erlang.cookie"),
        script="""
for file; do
    LC_ALL=C tr -dc '[:upper:]' </dev/urandom | head -c 40 >"$file"
done
""",
    ),
    Identity(
        name="munge",
        files=("etc/munge/munge.key",),
        script="rm -f /etc/munge/munge.key\nmungekey --create --keyfile=/etc/munge/munge.key",
    ),
    Identity(
        name="nvme-cli",
        files=("etc/nvme/hostnqn", "etc/nvme/hostid"),
        # One name twice: programs complain about a hostid that is not the one in the hostnqn.
        script="""
nvme gen-hostnqn >/etc/nvme/hostnqn
sed 's/.*uuid://' /etc/nvme/hostnqn >/etc/nvme/hostid
""",
    ),
    Identity(
        name="open-iscsi",
        files=("etc/iscsi/initiatorname.iscsi",),
        word="InitiatorName=",
        script="""
name=$(iscsi-iname -p iqn.1993-08.org.debian:01)
printf 'InitiatorName=%s\\n' "$name" >/etc/iscsi/initiatorname.iscsi
""",
    ),
    Identity(
        name="ssl-cert",
        files=("etc/ssl/private/ssl-cert-snakeoil.key", "etc/ssl/certs/ssl-cert-snakeoil.pem"),
        links=("etc/ssl/certs/*.[0-9]",),
        script="make-ssl-cert generate-default-snakeoil --force-overwrite",
    ),
    Identity(
        name="xrdp",
        files=("etc/xrdp/rsakeys.ini",),
        script="rm -f /etc/xrdp/rsakeys.ini\nxrdp-keygen xrdp /etc/xrdp/rsakeys.ini",
    ),
)  # fmt: skip


def forget(root: Path) -> list[str]:
    """Remove what the image holds of the table, and note what was there; return the paths."""
    noted: dict[str, dict[str, Any]] = _read(root / FORGOTTEN)
    gone = []
    for identity in IDENTITIES:
        found = [
            path
            for pattern in identity.files
            for path in sorted(root.glob(pattern))
            if _plain(path, identity.word)
        ]
        for path in found:
            status = path.lstat()
            name = f"/{path.relative_to(root)}"
            # A list, as the owner's and the group's numbers are those of the image in each
            # instance.
            noted.setdefault(identity.name, {})[name] = [
                stat.S_IMODE(status.st_mode),
                status.st_uid,
                status.st_gid,
            ]
            gone.append(name)
            path.unlink()
        if found:
            _remove_links(root, identity)
    if gone:
        write(root / FORGOTTEN, json.dumps(noted, sort_keys=True) + "\n", 0o644)
    return gone


def make(root: Path) -> list[str]:
    """Make what the image lacks and this instance has not; return the names.

    Raises:
        Failure: Some could not be made; all are named, and the others are made.
    """
    noted = _read(root / FORGOTTEN)
    if not noted:
        return []
    instance = (root / "etc/machine-id").read_text().strip()
    before = _read(root / MADE)
    same = before.get("instance") == instance
    done: list[str] = list(before.get("made", [])) if same else []
    fresh, reasons = [], []
    for identity in IDENTITIES:
        files = noted.get(identity.name)
        if not files or identity.name in done:
            continue
        clone = bool(before) and not same
        try:
            if clone or not all(_whole(root / name.lstrip("/")) for name in files):
                _make(root, identity, files)
                fresh.append(identity.name)
        except (Failure, OSError) as error:
            reasons.append(f"the identity of {identity.name} cannot be made: {error}")
            continue
        done.append(identity.name)
        write(root / MADE, json.dumps({"instance": instance, "made": done}) + "\n")
    if reasons:
        raise Failure(*reasons)
    return fresh


def _make(root: Path, identity: Identity, files: dict[str, list[int]]) -> None:
    """Run an identity's script, and give its files the owners and modes that they had."""
    _remove_links(root, identity)
    for name in files:
        with contextlib.suppress(FileNotFoundError):
            (root / name.lstrip("/")).unlink()
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
    run(["sh", "-euc", f"umask 077\n{identity.script}", identity.name, *files], env=environment)
    for name, (mode, user, group) in files.items():
        path = root / name.lstrip("/")
        if not _whole(path):
            raise Failure(f"{name} is empty")
        os.chown(path, user, group)
        path.chmod(mode)


def _remove_links(root: Path, identity: Identity) -> None:
    """Remove links to an identity's files: their names come from its content."""
    names = {Path(pattern).name for pattern in identity.files}
    for pattern in identity.links:
        for path in root.glob(pattern):
            if path.is_symlink() and path.readlink().name in names:
                path.unlink()


def _plain(path: Path, word: str) -> bool:
    """Return whether it is a regular file that has the word; nothing is read through a link."""
    return stat.S_ISREG(path.lstat().st_mode) and (
        not word or any(line.startswith(word) for line in path.read_text().splitlines())
    )


def _whole(path: Path) -> bool:
    """Return whether there is a file with content."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def _read(path: Path) -> dict[str, Any]:
    """Return what a note says; nothing if it is not there or damaged."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text())
        if isinstance(found, dict):
            return found
    return {}


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 0 if all was made or removed, and 1 if not."""
    options = argparse.ArgumentParser(
        description="Make the identities of this instance that its image has not."
    )
    options.add_argument(
        "--root",
        type=Path,
        default=Path("/"),
        metavar="DIR",
        help="where the file system is (for tests)",
    )
    options.add_argument("--forget", action="store_true", help="remove them, in a build")
    given = options.parse_args(argv)
    if given.forget:
        for name in forget(given.root):
            print(f"removed, and made again at boot: {name}")
        return 0
    try:
        for name in make(given.root):
            print(f"made: the identity of {name}", flush=True)
    except Failure as failure:
        print(*failure.reasons, sep="\n", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
