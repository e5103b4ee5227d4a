"""Files on this machine -> their releases, as listed in signed metadata.

What goes in: a session, and images or seeds. What comes out: the release of each.

Invariants: an image is known by its size and hash, under any name. An expired or unverifiable
channel vouches for nothing. A release withdrawn from any readable channel is refused, also if
another channel still lists it. A seed counts only for the release named in it, and only if that
release's verified manifest accepts its values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway.cache import sha256_of
from slipway.channels.client import fetch_manifest
from slipway.channels.session import Session
from slipway.channels.state import Channel
from slipway.errors import HostError, UsageError, UserError, VerificationError
from slipway.seeds.seed import SUFFIX, Seed, read_seed, require_made_for, seed_path
from slipway.terminal.text import one_line

__all__ = ["Found", "Known", "known_releases", "look_at", "require_files"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The channels able to vouch for a file, and the problems of the others by name.

    ``signed`` are all properly signed channels, also expired ones: a withdrawal does not expire.
    """

    channels: Sequence[Channel]
    signed: Sequence[Channel]
    problems: dict[str, UserError]

    def releases(self) -> Iterator[tuple[Channel, str, str]]:
        """Yield each release with its channel and appliance."""
        for channel in self.channels:
            for appliance in channel.appliances:
                for release in channel.shelf(appliance).releases:
                    yield channel, appliance, release

    def names(self) -> str:
        """Return the names of the channels looked at, and of the others."""
        looked = ", ".join(channel.name for channel in self.channels) or "no channel"
        return f"{looked} (not looked at: {', '.join(self.problems)})" if self.problems else looked


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file's release, the channels that list it, and the seed: the file's, or the file itself."""

    appliance: str
    release: str
    channels: tuple[str, ...]
    seed: Seed | None
    seed_path: Path


def require_files(paths: Sequence[Path]) -> None:
    """Require files to exist.

    Raises:
        UsageError: A file is missing, or is a folder.
    """
    for path in paths:
        if path.is_dir():
            raise UsageError(
                f"{path} is a folder", hint="name a file, or a channel without a slash or a dot"
            )
        if not path.exists():
            raise UsageError(
                f"there is no file {path}", hint="a channel's name has no slash and no dot"
            )


def known_releases(session: Session) -> Known:
    """Read the channels trusted here.

    Raises:
        HostError: No channel can be trusted and read.
    """
    channels, problems = session.holdings()
    sound = [channel for channel in channels if channel.name not in problems]
    if not sound:
        first = next(iter(problems.values()), None)
        raise HostError(
            f"no channel of {session.store.url} can vouch for a file"
            + (f": {first.message}" if first else ""),
            hint=first.hint if first else None,
        )
    return Known(channels=sound, signed=channels, problems=problems)


def look_at(session: Session, known: Known, path: Path) -> Found:
    """Find the release of an image, with the seed beside it, or of a seed.

    Raises:
        VerificationError: No channel lists the file; or the seed is damaged, or for another
            release.
    """
    if path.name.endswith(SUFFIX):
        seed = read_seed(path)
        return _with_seed(session, known, seed, path, (seed.appliance, seed.release))
    appliance, release = _release_of(known, path)
    _require_not_withdrawn(known, appliance, release, path)
    beside = seed_path(path)
    if beside.is_file():
        return _with_seed(session, known, read_seed(beside), beside, (appliance, release))
    return Found(
        appliance=appliance,
        release=release,
        channels=_channels(known, appliance, release),
        seed=None,
        seed_path=beside,
    )


def _release_of(known: Known, path: Path) -> tuple[str, str]:
    """Return the appliance and the release of an image.

    Raises:
        VerificationError: No channel lists the file.
    """
    size, sha256 = path.stat().st_size, ""
    for channel, appliance, release in known.releases():
        for length, digest in channel.shelf(appliance).releases[release].files.values():
            if length == size:
                sha256 = sha256 or sha256_of(path)
                if digest == sha256:
                    return appliance, release
    raise VerificationError(
        f"{path} is not a file of a release in {known.names()}{_withdrawn(known, path.name)}",
        hint="fetch it again: invoke fetch NAME",
    )


def _require_not_withdrawn(known: Known, appliance: str, release: str, path: Path) -> None:
    """Refuse what a channel lists and another one has withdrawn.

    Raises:
        VerificationError: One has.
    """
    for channel in known.signed:
        if appliance in channel.appliances:
            stone = channel.shelf(appliance).withdrawn.get(release)
            if stone:
                raise VerificationError(
                    f"{path} is of {appliance} {release}, which was withdrawn from "
                    f"{channel.name}: {one_line(stone.reason)}"
                )


def _withdrawn(known: Known, name: str) -> str:
    """Return the reason of a withdrawal if a file is called after a withdrawn release; ""
    otherwise.
    """
    for channel in known.signed:
        for appliance in channel.appliances:
            for release, stone in channel.shelf(appliance).withdrawn.items():
                if name.startswith(f"{appliance}-{release}."):
                    return f"; {appliance} {release} was withdrawn: {one_line(stone.reason)}"
    return ""


def _channels(known: Known, appliance: str, release: str) -> tuple[str, ...]:
    return tuple(
        channel.name
        for channel, name, listed in known.releases()
        if (name, listed) == (appliance, release)
    )


def _with_seed(
    session: Session, known: Known, seed: Seed, path: Path, of: tuple[str, str]
) -> Found:
    """Compare a seed with the manifest of a release.

    Raises:
        VerificationError: No channel lists the release, or the seed is not for it.
    """
    appliance, release = of
    channels = _channels(known, appliance, release)
    if not channels:
        gone = _withdrawn(known, f"{appliance}-{release}.")
        raise VerificationError(
            f"{path} is a seed for {seed.subject}, which is in none of {known.names()}{gone}"
        )
    _require_not_withdrawn(known, appliance, release, path)
    manifest = fetch_manifest(session.client(channels[0]), appliance, release)
    require_made_for(seed, manifest, str(path))
    return Found(appliance=appliance, release=release, channels=channels, seed=seed, seed_path=path)
