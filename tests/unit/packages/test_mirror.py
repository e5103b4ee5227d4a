"""Mirrors come from the settings or from the host's apt, never from here."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from slipway.errors import HostError
from slipway.packages import mirror
from slipway.packages.mirror import find_mirrors, sources
from slipway.settings import Settings
from slipway.spec.library import Library

ROOT = Path(__file__).parents[3]
HINT = 'say which mirror of Debian to use: SLIPWAY_MIRROR=http://<mirror>/debian, or in slipway.toml: mirror = "http://<mirror>/debian"'


def answer(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> list[int]:
    """Let apt's answer be these lines; the list grows by one each time it is asked."""
    asked: list[int] = []

    def targets(form: str, *options: str) -> list[str]:
        asked.append(1)
        return [] if options else lines

    monkeypatch.setattr(mirror, "_targets", targets)
    return asked


def test_settings_win(tmp_path: Path) -> None:
    given = {"debian": "http://one.example/debian", "debian-security": "http://two.example/security"}
    assert find_mirrors(Settings(cache=tmp_path, mirror=given)) == given


def test_apt_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "Other|Debian|http://other.example/",
        "Debian|Debian|cdrom:[Debian]/",
        "Debian|Debian Backports|http://ports.example/debian/",
        "Debian|Debian|http://one.example/debian/",
        "Debian|Debian|http://later.example/debian/",
        "Debian|Debian-Security|https://two.example/security/",
    ]
    asked = answer(monkeypatch, lines)
    expected = {"debian": "http://one.example/debian", "debian-security": "https://two.example/security"}
    assert find_mirrors(Settings(cache=tmp_path)) == expected
    assert find_mirrors(Settings(cache=tmp_path)) == expected
    assert len(asked) == 1


def test_of_a_list_of_mirrors_the_first_one_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "debian.list").write_text("# comment\n\nhttp://one.example/debian\tpriority:1\nhttp://two.example/debian\n")
    answer(monkeypatch, [f"Debian|Debian|mirror+file:{tmp_path}/debian.list/"])
    assert find_mirrors(Settings(cache=tmp_path)) == {
        "debian": "http://one.example/debian",
        "debian-security": "http://one.example/debian-security",
    }


def test_a_host_of_another_distribution_has_to_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, ["Ubuntu|Ubuntu|http://ubuntu.example/ubuntu/"])
    with pytest.raises(HostError) as caught:
        find_mirrors(Settings(cache=tmp_path))
    assert str(caught.value) == f"error: this host's package sources hold no mirror of Debian\n  hint: {HINT}"


def test_an_image_gets_the_same_mirrors_without_passwords() -> None:
    base = dataclasses.replace(Library(ROOT).base("debian-13"), components=("main", "contrib"))
    given = {"debian": "http://user:word@one.example:8080/debian", "debian-security": "http://two.example/security"}
    assert sources(base, given) == (
        "Types: deb\nURIs: http://one.example:8080/debian\nSuites: trixie trixie-updates\nComponents: main contrib\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n"
        "Types: deb\nURIs: http://two.example/security\nSuites: trixie-security\nComponents: main contrib\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )


def test_an_archive_without_a_mirror_is_an_error() -> None:
    with pytest.raises(HostError) as caught:
        sources(Library(ROOT).base("debian-13"), {"debian": "http://one.example/debian"})
    assert str(caught.value) == f"error: no mirror of the archive debian-security is known\n  hint: {HINT}"
