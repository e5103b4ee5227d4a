"""The pool: every locked package once, as ``<sha256>.deb``, so a lock can be built for ever.

It also has every file named by its hash in a spec, as ``<sha256>.file``. What goes in: locked
packages and mirrors. What comes out: flat apt repositories of exactly these packages. Invariants: a
file under its final name was whole and right from the start, and is compared with its hash again
before each use. Files are never changed. Several builds share a pool. A killed build leaves only a
folder, removed by the next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from slipway.errors import BuildError
from slipway.host.locks import take_lock
from slipway.host.ownership import make_private
from slipway.packages.debfile import control_stanza
from slipway.packages.locked import LockedPackage
from slipway.packages.mirror import download, mirror_of

__all__ = ["Pool"]

_INCOMING: Final = "incoming-"
#: Packages in one call of apt's downloader; a call's words have to stay below 2 MiB (execve(2)).
_BATCH: Final = 1000
_CHUNK: Final = 1 << 20


class Pool:
    """The packages in one directory, made on demand."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._good: dict[str, tuple[int, int, int, int]] = {}

    def path(self, package: LockedPackage) -> Path:
        """Return a package's path, whether the package exists or not."""
        return self.directory / f"{package.sha256}.deb"

    def missing(self, packages: Sequence[LockedPackage]) -> tuple[LockedPackage, ...]:
        """Return the packages that are absent or have the wrong size; nothing is read."""

        def there(package: LockedPackage) -> bool:
            with contextlib.suppress(OSError):
                return self.path(package).stat().st_size == package.size
            return False

        return tuple(package for package in packages if not there(package))

    def fetch(
        self,
        packages: Sequence[LockedPackage],
        mirrors: Mapping[str, str],
        log: Path | None = None,
        *,
        began: Callable[[Path, int], None] = lambda folder, total: None,
    ) -> tuple[LockedPackage, ...]:
        """Download the missing packages into the pool, and verify all of them.

        Args:
            began: Called with the download folder and the bytes in all.

        Returns:
            The downloaded packages.

        Raises:
            BuildError: Some are unavailable in their locked version; all are named.
        """
        wanted = self._not_good(packages)
        if not wanted:
            return ()
        make_private(self.directory)
        # Two builds with the same package download it once.
        with take_lock(self.directory / "fetching", fcntl.LOCK_EX, lambda: None):
            wanted = self._not_good(wanted)
            with self.incoming() as folder:
                began(folder, sum(package.size for package in wanted))
                for start in range(0, len(wanted), _BATCH):
                    self._download(wanted[start : start + _BATCH], mirrors, folder, log)
        return wanted

    def _not_good(self, packages: Sequence[LockedPackage]) -> tuple[LockedPackage, ...]:
        """Return the packages that are absent or have wrong bytes; remove the wrong ones."""
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            good = list(threads.map(self._verify, packages))
        return tuple(
            package for package, is_good in zip(packages, good, strict=True) if not is_good
        )

    def fetch_file(self, url: str, sha256: str, log: Path | None = None) -> Path:
        """Return the path of a verified file in the pool; download it if it is missing.

        Raises:
            BuildError: The file is unavailable, or has another hash.
        """
        if self.has_file(sha256):
            return self.file_path(sha256)
        with self.incoming() as folder:
            target, said = folder / sha256, folder / "log"
            with contextlib.suppress(BuildError):
                download([(url, target, "")], said)
            text = said.read_text(errors="replace") if said.exists() else ""
            if log:
                with log.open("a") as whole:
                    whole.write(text)
            if not target.exists():
                raise BuildError(
                    f"{url} cannot be downloaded: {_answer(url, text) or 'no answer'}",
                    hint="see downloads in the spec",
                )
            hint = (
                "somebody has changed it: if you trust what is there now, write its "
                "SHA-256 into the spec"
            )
            return self.add_file(target, sha256, what=url, hint=hint)

    def file_path(self, sha256: str) -> Path:
        """Return a file's path, whether the file exists or not."""
        return self.directory / f"{sha256}.file"

    def has_file(self, sha256: str) -> bool:
        """Return True if a file is there with the right bytes; remove a wrong one."""
        path = self.file_path(sha256)
        found = _sha256(path)
        if found not in (None, sha256):
            path.unlink(missing_ok=True)
        return found == sha256

    def add_file(self, file: Path, sha256: str, *, what: str, hint: str) -> Path:
        """Add a downloaded file, in a folder of :meth:`incoming`, to the pool.

        Raises:
            BuildError: The file is missing, or has another hash.
        """
        _make_own(file)
        found = _sha256(file)
        if found != sha256:
            raise BuildError(
                f"{what} is not what was wanted: its SHA-256 is {found or 'none'}, not {sha256}",
                hint=hint,
            )
        file.chmod(0o444)
        with contextlib.suppress(FileExistsError):
            os.link(file, self.file_path(sha256))
        return self.file_path(sha256)

    def repository(
        self, packages: Sequence[LockedPackage], directory: Path, *, suite: str = "slipway"
    ) -> None:
        """Make a flat apt repository (Debian's repository format: Packages, Release).

        Args:
            packages: Its exact contents.
            directory: Made on demand. It gets hard links, or copies on another file system; in both
                cases their bytes were compared with the hash.
            suite: The repository's name in Release; mmdebstrap finds essential packages by it.

        Raises:
            BuildError: Some packages are missing from the pool or have changed; all are named.
                Fetch them first.
        """
        directory.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            stanzas = list(threads.map(lambda package: self._place(package, directory), packages))
        missing = [
            package for package, stanza in zip(packages, stanzas, strict=True) if stanza is None
        ]
        if missing:
            names = ", ".join(f"{package.name} {package.version}" for package in missing)
            raise BuildError(
                f"not in the pool, or not what was locked: {names}",
                hint="build again: they are downloaded anew",
            )
        index = "".join(f"{stanza}\n\n" for stanza in stanzas).encode()
        (directory / "Packages").write_bytes(index)
        release = [
            "Origin: slipway",
            "Label: slipway",
            f"Suite: {suite}",
            f"Codename: {suite}",
            "Date: Thu, 01 Jan 1970 00:00:00 UTC",
            f"SHA256:\n {hashlib.sha256(index).hexdigest()} {len(index)} Packages\n",
        ]
        (directory / "Release").write_text("\n".join(release))

    def _verify(self, package: LockedPackage) -> bool:
        """Return True if a package is there with the right bytes; remove a wrong one."""
        path = self.path(package)
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                identity = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
                if self._good.get(package.sha256) == identity:
                    return True
                good = (
                    status.st_size == package.size
                    and hashlib.file_digest(file, "sha256").hexdigest() == package.sha256
                )
        except FileNotFoundError:
            return False
        if good:
            self._good[package.sha256] = identity
        else:
            path.unlink(missing_ok=True)
        return good

    def _download(
        self,
        packages: Sequence[LockedPackage],
        mirrors: Mapping[str, str],
        folder: Path,
        log: Path | None,
    ) -> None:
        """Download packages and add the right ones to the pool.

        Raises:
            BuildError: Some are unavailable; each is named with its reason.
        """
        uris = {
            package: f"{mirror_of(package.archive, mirrors)}/{package.path}" for package in packages
        }
        targets = {package: folder / f"{package.sha256}.deb" for package in packages}
        said = folder / "log"
        with contextlib.suppress(BuildError):
            # Missing packages are found below, one by one.
            download(
                (
                    (uris[package], targets[package], f"SHA256:{package.sha256}")
                    for package in packages
                ),
                said,
            )
        text = said.read_text(errors="replace") if said.exists() else ""
        if log:
            with log.open("a") as whole:
                whole.write(text)
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            good = list(
                threads.map(lambda package: self._adopt(targets[package], package), packages)
            )
        failed = [package for package, is_good in zip(packages, good, strict=True) if not is_good]
        if failed:
            lines = [
                (
                    f"  {package.name} {package.version}: "
                    f"{_reason(uris[package], targets[package], text)}"
                )
                for package in failed
            ]
            raise BuildError(
                f"{len(failed)} of the locked packages cannot be downloaded:\n" + "\n".join(lines),
                hint="lock again (invoke lock NAME), or give it a pool or a mirror that has them",
            )

    def _adopt(self, file: Path, package: LockedPackage) -> bool:
        """Add a downloaded package to the pool; return False if it is missing or wrong."""
        _make_own(file)
        try:
            with file.open("rb") as content:
                if (
                    hashlib.file_digest(content, "sha256").hexdigest() != package.sha256
                    or file.stat().st_size != package.size
                ):
                    return False
        except FileNotFoundError:
            return False
        file.chmod(0o444)
        with contextlib.suppress(FileExistsError):
            os.link(file, self.path(package))
        return True

    @contextlib.contextmanager
    def incoming(self) -> Iterator[Path]:
        """Hold a folder for downloads; remove it after the block.

        Folders of killed processes are removed first.
        """
        make_private(self.directory)
        with (self.directory / "lock").open("ab") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            for left in self.directory.glob(f"{_INCOMING}*"):
                with contextlib.suppress(OSError):
                    descriptor = os.open(left, os.O_RDONLY | os.O_DIRECTORY)
                    try:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        shutil.rmtree(left)
                    finally:
                        os.close(descriptor)
            folder = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=self.directory))
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(held, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(held)

    def _place(self, package: LockedPackage, directory: Path) -> str | None:
        """Put a package into a repository; return its entry in Packages, or None if it is wrong."""
        name = f"{package.name}_{package.version.replace(':', '%3a')}_{package.architecture}.deb"
        target = directory / name
        target.unlink(missing_ok=True)
        try:
            os.link(self.path(package), target)
            good = self._verify(package) and target.stat().st_size == package.size
        except FileNotFoundError:
            return None
        except OSError:
            good = _copy(self.path(package), target, package)
        if not good:
            target.unlink(missing_ok=True)
            self.path(package).unlink(missing_ok=True)
            return None
        return (
            f"{control_stanza(self.path(package))}\nFilename: {name}\nSize: {package.size}\n"
            f"SHA256: {package.sha256}"
        )


def _make_own(file: Path) -> None:
    """Replace a link by a copy.

    For mirrors of ``file:``, apt makes links to the mirror's own files.
    """
    if file.is_symlink():
        copy = file.with_name(f"{file.name}.copy")
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(file, copy)
            copy.replace(file)


def _sha256(path: Path) -> str | None:
    """Return a file's SHA-256; None if it does not exist."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def _copy(source: Path, target: Path, package: LockedPackage) -> bool:
    """Copy a package, hashing the copied bytes; return True if they are right."""
    digest, size = hashlib.sha256(), 0
    try:
        with source.open("rb") as reader, target.open("xb") as writer:
            while chunk := reader.read(_CHUNK):
                digest.update(chunk)
                writer.write(chunk)
                size += len(chunk)
    except FileNotFoundError:
        return False
    return size == package.size and digest.hexdigest() == package.sha256


def _reason(uri: str, target: Path, said: str) -> str:
    """Return why a package is unavailable, from apt's words."""
    if target.with_name(f"{target.name}.FAILED").exists() or target.exists():
        return "the mirror has other bytes under its name (the hash differs)"
    answer = _answer(uri, said)
    if answer and answer.startswith("404"):
        return "the mirror no longer has this version"
    return answer or "it could not be downloaded"


def _answer(uri: str, said: str) -> str | None:
    """Return the server's answer for a URI, from apt's words."""
    found = re.search(rf"^E: Failed to fetch {re.escape(uri)}\s+(.*)$", said, re.MULTILINE)
    return found[1].strip() if found else None
