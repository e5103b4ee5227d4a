"""The mirrors of packages: the host's own, or those named in the settings.

What goes in: the settings and the host's apt configuration. What comes out: the URI of each
archive, without a slash at its end. Invariants: this project names no mirror. If apt has its lists,
nothing is asked of the network. A password in a URI stays here: apt gets it in a file of this user
(apt_auth.conf(5)), and everything else sees the URI without it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from slipway.cache import create_file
from slipway.errors import BuildError, HostError
from slipway.host import process
from slipway.settings import Settings
from slipway.spec.base import Base
from slipway.spec.model import AptSource

__all__ = [
    "authentication",
    "download",
    "find_mirrors",
    "mirror_of",
    "source_text",
    "sources",
    "with_sources",
]

APT_HELPER: Final = Path("/usr/lib/apt/apt-helper")
#: The archives by the Label in their Release files.
_LABELS: Final = {"Debian": "debian", "Debian-Security": "debian-security"}
#: Marks in an image's sources, until its own cloud-init names the mirrors.
_PUBLIC: Final = {"debian": "@primary@", "debian-security": "@security@"}
_IMAGE_KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_HOST_LOGINS: Final = Path("/etc/apt/auth.conf")
_HINT: Final = (
    "say which mirror of Debian to use: SLIPWAY_MIRROR=http://<mirror>/debian, or in slipway.toml: "
    'mirror = "http://<mirror>/debian"'
)


def find_mirrors(settings: Settings) -> Mapping[str, str]:
    """Return the URI of each archive used by builds (``debian``, ``debian-security``).

    The settings may add mirrors of a spec's sources. Asking apt takes half a second, so its answer
    is cached until the host's sources or lists change.

    Raises:
        HostError: The settings name no mirror, and the host uses none.
    """
    if "debian" in settings.mirror:
        return _without_passwords(settings.mirror)
    if "debian-security" in settings.mirror:
        raise HostError("slipway.toml names a mirror for debian-security only", hint=_HINT)
    return {**_hosts_own(settings), **_without_passwords(settings.mirror)}


def _hosts_own(settings: Settings) -> dict[str, str]:
    memory = settings.cache / "mirrors.json"
    state = _host_state()
    try:
        known = json.loads(memory.read_bytes())
        if known["state"] == state:
            return _without_passwords(
                {str(archive): str(uri) for archive, uri in known["mirrors"].items()}
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    mirrors = _ask_apt()
    with create_file(memory, mode=0o600) as file:
        file.write(json.dumps({"state": state, "mirrors": mirrors}).encode())
    return _without_passwords(mirrors)


#: The machine in apt_auth.conf(5) -> user and password, of every URI so far.
_LOGINS: Final[dict[str, tuple[str, str]]] = {}


def _public(uri: str) -> str:
    """Return a URI without its user and password; remember those for apt."""
    parts = urlsplit(uri)
    secret, at, host = parts.netloc.rpartition("@")
    if not at:
        return uri
    user, _, password = secret.partition(":")
    _LOGINS[f"{parts.scheme}://{host}{parts.path}"] = (unquote(user), unquote(password))
    return urlunsplit(parts._replace(netloc=host))


def _without_passwords(mirrors: Mapping[str, str]) -> dict[str, str]:
    return {archive: _public(uri) for archive, uri in mirrors.items()}


def authentication(file: Path) -> Path:
    """Write a file of logins at mirrors for apt, and return its path.

    The host's own entries come after those of URIs. Only this user can read the file. Give it to
    apt as ``Dir::Etc::netrc``.
    """
    entries = [
        f"machine {machine} login {user} password {password}\n"
        for machine, (user, password) in _LOGINS.items()
    ]
    with contextlib.suppress(OSError):
        entries.append(_HOST_LOGINS.read_text())
    with create_file(file, mode=0o600) as written:
        written.write("".join(entries).encode())
    return file


def sources(base: Base, image_mirrors: Mapping[str, str]) -> str:
    """Return the image's own package sources, as ``debian.sources`` (sources.list(5), deb822
    style).

    An archive without a mirror gets a mark, ``@primary@`` or ``@security@``.
    ``mmdebstrap/mirrors.sh`` replaces it by the public mirror named by the distribution's
    cloud-init. So no image depends on its builder's mirror.
    """
    blocks = []
    for archive in dict.fromkeys(suite.archive for suite in base.suites):
        suites = " ".join(suite.suite for suite in base.suites if suite.archive == archive)
        blocks.append(
            _block(
                image_mirrors.get(archive, _PUBLIC[archive]),
                suites,
                base.components,
                _IMAGE_KEYRING,
            )
        )
    return "\n".join(blocks)


def source_text(source: AptSource, *, signed_by: str | Path, uri: str | None = None) -> str:
    """Return a source besides the base's (sources.list(5), deb822 style), or its copy at a URI."""
    return _block(uri or source.url, source.suite, source.components, signed_by)


def _block(uri: str, suites: str, components: Iterable[str], signed_by: str | Path) -> str:
    return (
        f"Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: {' '.join(components)}\n"
        f"Signed-By: {signed_by}\n"
    )


def with_sources(mirrors: Mapping[str, str], sources: Iterable[AptSource]) -> dict[str, str]:
    """Return the URI of each archive used by builds, an appliance's further sources included."""
    return {**{source.name: source.url.rstrip("/") for source in sources}, **mirrors}


def mirror_of(archive: str, mirrors: Mapping[str, str]) -> str:
    """Return the URI of an archive.

    Raises:
        HostError: No mirror of the archive is known.
    """
    if archive not in mirrors:
        raise HostError(f"no mirror of the archive {archive} is known", hint=_HINT)
    return mirrors[archive]


def _host_state() -> str:
    """Return a digest that changes with the host's package sources or lists."""
    places = [
        Path("/etc/apt"),
        Path("/etc/apt/sources.list"),
        Path("/var/lib/apt/lists"),
        *sorted(Path("/etc/apt/sources.list.d").glob("*")),
    ]
    seen = []
    for place in places:
        try:
            status = place.stat()
            seen.append(f"{place} {status.st_size} {status.st_mtime_ns}")
        except OSError:
            seen.append(f"{place} -")
    return hashlib.sha256("\n".join(seen).encode()).hexdigest()


def _ask_apt() -> dict[str, str]:
    """Return the mirrors used by the host's apt (apt-get(8), indextargets)."""
    try:
        process.find_tool("apt-get")
    except HostError:
        raise HostError(
            "this host has no apt, so it cannot be asked for a mirror of Debian", hint=_HINT
        ) from None
    found = _archives(line.split("|") for line in _targets("$(ORIGIN)|$(LABEL)|$(REPO_URI)"))
    if "debian" not in found:
        found = _archives(_look())
    if "debian" not in found:
        raise HostError("this host's package sources hold no mirror of Debian", hint=_HINT)
    # A mirror has both archives side by side; resolving packages shows if this one answers.
    found.setdefault("debian-security", f"{found['debian']}-security")
    return found


def _targets(form: str, *options: str) -> list[str]:
    argv = ["apt-get", "indextargets", *options, "--format", form, "Created-By: Packages"]
    return (
        process.run(argv, what="asking apt for its mirrors", timeout_s=60)
        .stdout.decode(errors="replace")
        .splitlines()
    )


def _archives(targets: Iterable[list[str]]) -> dict[str, str]:
    """Return the first usable URI of each archive among origins, labels and URIs."""
    found: dict[str, str] = {}
    for origin, label, uri in targets:
        archive, usable = _LABELS.get(label), _usable(uri)
        if origin == "Debian" and archive and usable:
            found.setdefault(archive, usable)
    return found


def _usable(uri: str) -> str | None:
    """Return a URI to download packages from by name; None for others, such as a CD.

    A list of mirrors (apt-transport-mirror(1)) gives its first one.
    """
    if uri.startswith("mirror+file:"):
        try:
            lines = (
                Path(re.sub("^/+", "/", uri.removeprefix("mirror+file:")).rstrip("/"))
                .read_text()
                .splitlines()
            )
        except (OSError, UnicodeDecodeError):
            return None
        return next(
            (
                _usable(line.split()[0])
                for line in lines
                if line.strip() and not line.startswith("#")
            ),
            None,
        )
    scheme = uri.partition(":")[0]
    return (
        uri.rstrip("/")
        if scheme in ("http", "https", "ftp", "file", "copy") or scheme.startswith("tor+")
        else None
    )


def _look() -> list[list[str]]:
    """Return origins, labels and URIs for apt without lists, as in a fresh container.

    They are in the first lines of the mirrors' InRelease files. Those are not verified here;
    packages are verified later, with the base's keyring.
    """
    lines = dict.fromkeys(_targets("$(REPO_URI)|$(BASE_URI)", "--no-release-info"))
    found: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, line in enumerate(lines):
            repository, _, base = line.partition("|")
            uri = _usable(repository)
            if (
                uri is None
                or any(uri == known[2] for known in found)
                or not base.startswith(repository)
            ):
                continue
            target = Path(folder) / str(number)
            try:
                download([(f"{_public(uri)}/{base.removeprefix(repository)}InRelease", target, "")])
            except BuildError:
                continue
            text = target.read_text(errors="replace")[:4096]
            fields = dict(re.findall(r"^(Origin|Label): (.*)$", text, re.MULTILINE))
            found.append([fields.get("Origin", ""), fields.get("Label", ""), uri])
    return found


def download(files: Iterable[tuple[str, Path, str]], log: Path | None = None) -> None:
    """Download files by the host's apt, with its proxies and passwords.

    Args:
        files: URI, target and hash ("" or "SHA256:...") of each.

    Raises:
        HostError: apt is not installed.
        BuildError: At least one file is missing; the others are there.
    """
    if not APT_HELPER.exists():
        raise HostError(
            "apt is not installed (needed to download packages)", hint="sudo apt-get install apt"
        )
    words = [word for uri, target, digest in files for word in (_public(uri), str(target), digest)]
    # apt's own user cannot write into this user's directories.
    options = ["-oAPT::Sandbox::User=root"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="slipway-") as folder:
        options.append(f"-oDir::Etc::netrc={authentication(Path(folder) / 'auth.conf')}")
        process.run(
            [APT_HELPER, *options, "-q", "download-file", *words],
            what="downloading packages",
            log=log,
        )
