"""Settings come from slipway.toml, environment variables win, and errors say where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from golden import require_golden
from slipway.errors import UserError
from slipway.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MIRROR", "STORE", "CACHE", "CACHE_LIMIT_GIB", "MEMORY_MIB"):
        monkeypatch.delenv(f"SLIPWAY_{name}", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.chdir(tmp_path)


def test_without_a_file_there_are_defaults(tmp_path: Path) -> None:
    assert load_settings(tmp_path) == Settings(mirror={}, store=None, cache=Path("/xdg/slipway"), cache_limit_gib=20)


def test_a_relative_cache_variable_of_xdg_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert load_settings(tmp_path).cache == Path("/home/somebody/.cache/slipway")


def test_the_file_says_otherwise_and_variables_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'store = "s3://a/b"\ncache = "here"\ncache_limit_gib = 5\nmemory_mib = 64\n[mirror]\ndebian = "http://one.example/debian/"\n'
    (tmp_path / "slipway.toml").write_text(text)
    one = {"debian": "http://one.example/debian", "debian-security": "http://one.example/debian-security"}
    assert load_settings(tmp_path) == Settings(mirror=one, store="s3://a/b", cache=tmp_path / "here", cache_limit_gib=5, memory_mib=64)
    given = {"MIRROR": "http://two.example/x", "STORE": "/store", "CACHE": "/cache", "CACHE_LIMIT_GIB": "7", "MEMORY_MIB": "1"}
    for name, value in given.items():
        monkeypatch.setenv(f"SLIPWAY_{name}", value)
    two = {"debian": "http://two.example/x", "debian-security": "http://two.example/x-security"}
    assert load_settings(tmp_path) == Settings(mirror=two, store="/store", cache=Path("/cache"), cache_limit_gib=7, memory_mib=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('stor = "x"\n', 'slipway.toml:1:1: error: stor: unknown key\n  hint: did you mean "store"?'),
        (
            'store = 1\n\ncache_limit_gib = "5"\n',
            "slipway.toml:1:1: error: store: 1 is not a text\n  hint: write it in quotes\n"
            "slipway.toml:3:1: error: cache_limit_gib: '5' is not a number of GiB\n  hint: write a whole number without quotes: 20",
        ),
        ("store = \n", "slipway.toml:1:9: error: <…>\n  hint: https://toml.io says what TOML is"),
        (
            'mirror = "mirror.example"\n',
            "slipway.toml:1:1: error: mirror: 'mirror.example' is no URI\n  hint: write it with its scheme: \"http://...\"",
        ),
        (
            '[mirror]\ndebain = "http://one.example"\n',
            'slipway.toml:1:2: error: mirror.debain: unknown archive\n  hint: did you mean "debian"?',
        ),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    Path("slipway.toml").write_text(text)
    with pytest.raises(UserError) as caught:
        load_settings(Path())
    require_golden(str(caught.value), message)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SLIPWAY_MIRROR", "mirror", 'SLIPWAY_MIRROR: "mirror" is no URI'),
        ("SLIPWAY_CACHE_LIMIT_GIB", "0", 'SLIPWAY_CACHE_LIMIT_GIB: "0" is not a number of GiB'),
        ("SLIPWAY_MEMORY_MIB", "8 GiB", 'SLIPWAY_MEMORY_MIB: "8 GiB" is not a number of MiB'),
    ],
)
def test_a_wrong_variable_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as caught:
        load_settings(tmp_path)
    assert (caught.value.message, caught.value.exit_code) == (message, 2)
