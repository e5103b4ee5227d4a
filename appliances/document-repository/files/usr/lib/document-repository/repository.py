"""The repository, by Subversion's own programs: what is where, what it was before, and who may see it.

Paths are those of the repository and start with "/". Whoever asks has been authenticated by Apache.
"""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

ROOT, ACCESS = "/var/lib/documents/repository", "/etc/documents/access"


class Missing(Exception):
    """There is no such thing, or not in that version."""


@dataclass(frozen=True)
class Item:
    """A document or a folder; ``size`` in bytes, None for a folder."""

    path: str
    folder: bool
    size: int | None
    revision: int
    author: str
    date: str

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Version:
    """What happened to a path in one revision: A(dded), M(odified), D(eleted) or R(eplaced)."""

    revision: int
    author: str
    date: str
    action: str
    path: str


def url(path: str, revision: int | None = None) -> str:
    """A path as Subversion's programs take it; revisions are pegged."""
    return f"file://{ROOT}{quote(path.rstrip('/'))}" + (f"@{revision}" if revision is not None else "@")


def svn(*words: str, data: bytes | None = None) -> bytes:
    """What one of Subversion's programs says.

    Raises:
        Missing: It failed, which here means that a path is not there.
    """
    ran = subprocess.run(words, input=data, capture_output=True, check=False, timeout=60)
    if ran.returncode:
        raise Missing(ran.stderr.decode(errors="replace").strip())
    return ran.stdout


def allowed(user: str, paths: Sequence[str], right: str = "r") -> list[str]:
    """Those of some paths that a user may read ("r") or write ("rw")."""
    found = []
    for path in paths:
        ran = subprocess.run(
            ["svnauthz", "accessof", ACCESS, "--username", user, "--path", path], capture_output=True, check=False, text=True, timeout=20
        )
        if ran.returncode == 0 and (ran.stdout.strip() == "rw" or ran.stdout.strip() == right):
            found.append(path)
    return found


def listing(path: str) -> list[Item]:
    """What is in a folder, folders first."""
    tree = ET.fromstring(svn("svn", "list", "--xml", "--non-interactive", url(path)))
    items = []
    for entry in tree.iter("entry"):
        commit, size = entry.find("commit"), entry.findtext("size")
        assert commit is not None
        items.append(
            Item(
                path=f"{path.rstrip('/')}/{entry.findtext('name')}",
                folder=entry.get("kind") == "dir",
                size=int(size) if size else None,
                revision=int(commit.get("revision", "0")),
                author=commit.findtext("author") or "",
                date=(commit.findtext("date") or "")[:19],
            )
        )
    return sorted(items, key=lambda item: (not item.folder, item.name.casefold()))


def log(path: str, *words: str) -> list[Version]:
    """Every change of a path and of what is below it, in the order of the revisions that are asked for (by default newest
    first); also of one that is not there any more."""
    tree = ET.fromstring(svn("svn", "log", "--xml", "-v", "-q", "--non-interactive", *words, f"file://{ROOT}@"))
    changes = []
    for entry in tree.iter("logentry"):
        for change in entry.iter("path"):
            name = change.text or ""
            if name == path or name.startswith(path.rstrip("/") + "/"):
                changes.append(
                    Version(
                        revision=int(entry.get("revision", "0")),
                        author=entry.findtext("author") or "",
                        date=(entry.findtext("date") or "")[:19],
                        action=change.get("action", ""),
                        path=name,
                    )
                )
    return changes


def content(path: str, revision: int | None = None) -> bytes:
    """A document, as it is or was."""
    return svn("svn", "cat", "--non-interactive", url(path, revision))


def restore(user: str, path: str, revision: int) -> None:
    """Make a document what it was in a revision; a new version, by this user."""
    old = content(path, revision)
    words = [
        "svnmucc",
        "--non-interactive",
        "-u",
        user,
        "-m",
        f"restored from version {revision}",
        "put",
        "/dev/stdin",
        url(path).rstrip("@"),
    ]
    svn(*words, data=old)
