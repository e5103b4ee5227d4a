"""The repository, by Subversion's own library: what is where, what it was before, and who may see
it.

Paths are those of the repository and start with "/". Apache has authenticated the user. A library's
object serves one request: its memory is given back with it, and nothing of it is shared by threads.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from svn import core, fs, repos

ROOT, ACCESS = "/var/lib/documents/repository", "/etc/documents/access"
#: The most revisions that one page of a history looks at.
REVISIONS = 20_000
_CHUNK = 1 << 16


class Missing(Exception):
    """There is no such thing, or not in that version."""


class InTheWay(Exception):
    """There is something else of that name now."""


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
    """What happened to a path in one revision: A(dded), M(odified), D(eleted) or R(eplaced).

    ``last`` is the newest revision in which the path had what this version left, or took away.
    """

    revision: int
    author: str
    date: str
    action: str
    path: str
    folder: bool

    @property
    def last(self) -> int:
        return self.revision - 1 if self.action == "D" else self.revision


class Rights:
    """Who may read and write what, by the rules of Subversion's authz file."""

    def __init__(self, user: str, access: str = ACCESS) -> None:
        self._user, self._rules = user, repos.authz_read(access, True)

    def allow(self, path: str, *, write: bool = False) -> bool:
        """Return True if the user may read (and write) a path.

        What is below it has rules of its own.
        """
        wanted = repos.svn_authz_read | (repos.svn_authz_write if write else 0)
        return bool(repos.authz_check_access(self._rules, "", path, self._user, wanted))


class Repository:
    """The repository as it is now, and was."""

    def __init__(self, root: str = ROOT) -> None:
        self._url = f"file://{root}"
        self._repository = repos.open(root)
        self._fs = repos.fs(self._repository)
        self._said: dict[int, tuple[str, str]] = {}
        self.youngest: int = fs.youngest_rev(self._fs)

    def kind(self, path: str, revision: int | None = None) -> str:
        """Return "document", "folder", or nothing where there is none."""
        kind = fs.check_path(self._root(revision), path)
        return {core.svn_node_file: "document", core.svn_node_dir: "folder"}.get(kind, "")

    def listing(self, path: str) -> list[Item]:
        """Return what is in a folder, folders first.

        Raises:
            Missing: There is no such folder.
        """
        if self.kind(path) != "folder":
            raise Missing(path)
        root, items = self._root(), []
        for name, entry in fs.dir_entries(root, path).items():
            inside = f"{path.rstrip('/')}/{_text(name)}"
            revision, folder = fs.node_created_rev(root, inside), entry.kind == core.svn_node_dir
            author, date = self._by(revision)
            size = None if folder else fs.file_length(root, inside)
            items.append(
                Item(
                    path=inside,
                    folder=folder,
                    size=size,
                    revision=revision,
                    author=author,
                    date=date,
                )
            )
        return sorted(items, key=lambda item: (not item.folder, item.name.casefold()))

    def tree(self, path: str, revision: int | None = None) -> Iterator[tuple[str, bool]]:
        """Find a path and all that is below it, each with True for a folder.

        Nothing if it is not there.
        """
        kind = self.kind(path, revision)
        if kind:
            yield path, kind == "folder"
        if kind == "folder":
            for name in sorted(fs.dir_entries(self._root(revision), path)):
                yield from self.tree(f"{path.rstrip('/')}/{_text(name)}", revision)

    def documents(self, path: str) -> Iterator[str]:
        """Find the documents at or below a path."""
        return (each for each, folder in self.tree(path) if not folder)

    def changed(self, revision: int) -> Mapping[str, str]:
        """Return the actions of a revision, by path."""
        letters = {fs.path_change_add: "A", fs.path_change_delete: "D", fs.path_change_replace: "R"}
        changes = fs.paths_changed2(self._root(revision))
        return {
            _text(path): letters.get(change.change_kind, "M")
            for path, change in sorted(changes.items())
        }

    def history(self, path: str, newest: int, most: int) -> tuple[list[Version], int]:
        """Follow a path, and all that was below it, back through its changes and its former names.

        Returns:
            Its changes, newest first, and the revision where the rest begins; 0 if this is all.
        """
        found: list[Version] = []
        name, revision = path, min(newest, self.youngest)
        end = revision - REVISIONS
        while revision > max(0, end) and len(found) < most:
            changed = self.changed(revision)
            found += [
                self._version(revision, action, each)
                for each, action in changed.items()
                if _within(each, name)
            ]
            source = next(
                filter(
                    None,
                    (self._source(revision, each, name) for each in changed if _within(name, each)),
                ),
                None,
            )
            revision, name = source or (revision - 1, name)
        return found, revision

    def size(self, path: str, revision: int | None = None) -> int:
        """Return a document's bytes.

        Raises:
            Missing: There is no such document in that version.
        """
        if self.kind(path, revision) != "document":
            raise Missing(path)
        return int(fs.file_length(self._root(revision), path))

    def content(self, path: str, revision: int | None = None) -> Iterator[bytes]:
        """Read a document, as it is or was, in pieces; there has to be one."""
        stream = core.Stream(fs.file_contents(self._root(revision), path))
        while piece := stream.read(_CHUNK):
            yield piece

    def restore(self, user: str, path: str, revision: int) -> None:
        """Make a path what it was in a revision; a new version, by this user.

        A document that exists gets its former content; what is deleted comes back with its history,
        and the folders that it was in.

        Raises:
            Missing: It was not there in that version.
            InTheWay: A folder has its name now, or a document has that of a folder.
        """
        was, now = self.kind(path, revision), self.kind(path)
        if not was:
            raise Missing(path)
        if was == now == "document":
            with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
                for piece in self.content(path, revision):
                    file.write(piece)
                file.flush()
                self._commit(user, revision, ["put", file.name, self._at(path)])
            return
        if now:
            raise InTheWay(path)
        names = path.strip("/").split("/")[:-1]
        folders = ["/" + "/".join(names[: number + 1]) for number in range(len(names))]
        if any(self.kind(folder) == "document" for folder in folders):
            raise InTheWay(path)
        made = [
            word
            for folder in folders
            if not self.kind(folder)
            for word in ("mkdir", self._at(folder))
        ]
        self._commit(user, revision, [*made, "cp", str(revision), self._at(path), self._at(path)])

    def _commit(self, user: str, revision: int, words: list[str]) -> None:
        say = f"restored from version {revision}"
        subprocess.run(
            ["svnmucc", "--non-interactive", "-u", user, "-m", say, *words],
            check=True,
            capture_output=True,
            timeout=60,
        )

    def _root(self, revision: int | None = None) -> object:
        if revision is not None and not 0 <= revision <= self.youngest:
            raise Missing(f"version {revision}")
        return fs.revision_root(self._fs, self.youngest if revision is None else revision)

    def _at(self, path: str) -> str:
        """A path as Subversion's programs take it."""
        return self._url + quote(path.rstrip("/"))

    def _by(self, revision: int) -> tuple[str, str]:
        """Who made a revision, and when (UTC, to the second)."""
        if revision not in self._said:
            names = (core.SVN_PROP_REVISION_AUTHOR, core.SVN_PROP_REVISION_DATE)
            author, date = (
                _text(fs.revision_prop(self._fs, revision, name) or b"") for name in names
            )
            self._said[revision] = (author, date[:19])
        return self._said[revision]

    def _version(self, revision: int, action: str, path: str) -> Version:
        author, date = self._by(revision)
        kind = self.kind(path, revision - 1 if action == "D" else revision)
        return Version(
            revision=revision,
            author=author,
            date=date,
            action=action,
            path=path,
            folder=kind == "folder",
        )

    def _source(self, revision: int, copied: str, name: str) -> tuple[int, str] | None:
        """Where a name was before this revision copied or renamed it, or a folder above it: the
        revision, and the path.
        """
        root = self._root(revision)
        if fs.check_path(root, copied) == core.svn_node_none:
            return None
        since, source = fs.copied_from(root, copied)
        return (since, _text(source) + name[len(copied) :]) if source else None


def _within(path: str, folder: str) -> bool:
    """Return True for the folder itself, and what is below it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _text(name: bytes | str) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else name
