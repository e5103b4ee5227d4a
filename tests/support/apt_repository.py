"""An apt repository, signed with a key of its own, for tests of further package sources."""

from __future__ import annotations

import hashlib
import subprocess
from email.utils import formatdate
from pathlib import Path

__all__ = ["make_repository", "write_lists"]


def make_repository(folder: Path, *, package: str, version: str, suite: str) -> bytes:
    """Make a repository (Debian's repository format) of one package, which has one program of its
    name.

    Args:
        folder: What a server shows; it does not exist yet.

    Returns:
        The key that signs it, in ASCII.
    """
    tree, pool = folder.with_name(f"{folder.name}.tree"), folder / "pool"
    for directory in (tree / "DEBIAN", tree / "usr/bin", pool):
        directory.mkdir(parents=True)
    control = (
        f"Package: {package}\nVersion: {version}\nArchitecture: all\n"
        "Maintainer: Nobody <nobody@example.org>\nDescription: A program\n"
    )
    (tree / "DEBIAN/control").write_text(control)
    (tree / "usr/bin" / package).write_text(f"#!/bin/sh\necho {version}\n")
    (tree / "usr/bin" / package).chmod(0o755)
    file = pool / f"{package}_{version}_all.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", tree, file],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    content = file.read_bytes()
    index = (
        f"{control}Filename: pool/{file.name}\nSize: {len(content)}\n"
        f"SHA256: {hashlib.sha256(content).hexdigest()}\n\n"
    ).encode()
    return write_lists(folder, suite, index)


def write_lists(folder: Path, suite: str, index: bytes) -> bytes:
    """Write the lists of a repository, Packages and a signed InRelease, and return the key that
    signs them, in ASCII.
    """
    lists = folder / f"dists/{suite}/main/binary-amd64"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / "Packages").write_bytes(index)
    digest = f" {hashlib.sha256(index).hexdigest()} {len(index)} main/binary-amd64/Packages"
    head = (
        f"Suite: {suite}\nCodename: {suite}\nArchitectures: amd64 all\nComponents: main\n"
        f"Date: {formatdate(usegmt=True)}\n"
    )
    release = folder / f"dists/{suite}/Release"
    release.write_text(f"{head}SHA256:\n{digest}\n")
    return _sign(release, folder.with_name(f"{folder.name}.keys"))


def _sign(release: Path, home: Path) -> bytes:
    """Make the InRelease of a Release with a new key, and return the key."""
    home.mkdir(mode=0o700)
    gpg = [
        "gpg",
        "--homedir",
        str(home),
        "--batch",
        "--quiet",
        "--passphrase",
        "",
        "--pinentry-mode",
        "loopback",
    ]
    try:
        subprocess.run(
            [*gpg, "--quick-generate-key", "vendor@example.org", "ed25519", "sign", "never"],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        subprocess.run(
            [*gpg, "--clearsign", "--output", release.with_name("InRelease"), release], check=True
        )
        return subprocess.run([*gpg, "--armor", "--export"], check=True, capture_output=True).stdout
    finally:
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)
