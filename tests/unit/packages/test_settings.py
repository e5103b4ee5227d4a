"""Settings come from slipway.toml, environment variables win, and errors say where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from golden import require_golden
from slipway.errors import UserError
from slipway.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MIRROR", "STORE", "CACHE", "CACHE_LIMIT_GIB", "MEMORY_MIB", "QEMU"):
        monkeypatch.delenv(f"SLIPWAY_{name}", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.chdir(tmp_path)


def test_without_a_file_there_are_defaults(tmp_path: Path) -> None:
    assert load_settings(tmp_path) == Settings(
        mirror={}, store=None, cache=Path("/xdg/slipway"), cache_limit_gib=20
    )


def test_a_relative_cache_variable_of_xdg_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert load_settings(tmp_path).cache == Path("/home/somebody/.cache/slipway")


def test_the_file_says_otherwise_and_variables_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        'store = "s3://a/b"\ncache = "here"\ncache_limit_gib = 5\nmemory_mib = 64\nqemu = "host"\n'
        '[mirror]\ndebian = "http://one.example/debian/"\n'
    )
    (tmp_path / "slipway.toml").write_text(text)
    one = {
        "debian": "http://one.example/debian",
        "debian-security": "http://one.example/debian-security",
    }
    read = {
        "store": "s3://a/b",
        "cache": tmp_path / "here",
        "cache_limit_gib": 5,
        "memory_mib": 64,
        "qemu": "host",
    }
    assert load_settings(tmp_path) == Settings(mirror=one, **read)  # type: ignore[arg-type]
    monkeypatch.setenv("SLIPWAY_QEMU", "tree")
    given = {
        "MIRROR": "http://two.example/x",
        "STORE": "/store",
        "CACHE": "/cache",
        "CACHE_LIMIT_GIB": "7",
        "MEMORY_MIB": "1",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"SLIPWAY_{name}", value)
    two = {"debian": "http://two.example/x", "debian-security": "http://two.example/x-security"}
    assert load_settings(tmp_path) == Settings(
        mirror=two,
        store="/store",
        cache=Path("/cache"),
        cache_limit_gib=7,
        memory_mib=1,
        qemu="tree",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'stor = "x"\n',
            'slipway.toml:1:1: error: stor: unknown key\n  hint: did you mean "store"?',
        ),
        (
            'store = 1\n\ncache_limit_gib = "5"\n',
            "slipway.toml:1:1: error: store: 1 is not a text\n  hint: write it in quotes\n"
            "slipway.toml:3:1: error: cache_limit_gib: '5' is not a number of GiB\n"
            "  hint: write a whole number without quotes: 20",
        ),
        (
            'qemu = "tre"\n',
            (
                "slipway.toml:1:1: error: qemu: 'tre' is not one of auto, host, tree\n"
                '  hint: did you mean "tree"?'
            ),
        ),
        ("store = \n", "slipway.toml:1:9: error: <…>\n  hint: https://toml.io says what TOML is"),
        (
            'mirror = "mirror.example"\n',
            (
                "slipway.toml:1:1: error: mirror: 'mirror.example' is not a URI\n"
                '  hint: write it with its scheme: "http://..."'
            ),
        ),
        (
            '[mirror]\ndebain = "http://one.example"\n',
            (
                "slipway.toml:1:2: error: mirror.debain: unknown archive\n"
                '  hint: did you mean "debian"?'
            ),
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
        ("SLIPWAY_MIRROR", "mirror", 'SLIPWAY_MIRROR: "mirror" is not a URI'),
        ("SLIPWAY_CACHE_LIMIT_GIB", "0", 'SLIPWAY_CACHE_LIMIT_GIB: "0" is not a number of GiB'),
        ("SLIPWAY_MEMORY_MIB", "8 GiB", 'SLIPWAY_MEMORY_MIB: "8 GiB" is not a number of MiB'),
        ("SLIPWAY_QEMU", "newest", 'SLIPWAY_QEMU: "newest" is not one of auto, host, tree'),
    ],
)
def test_a_wrong_variable_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as caught:
        load_settings(tmp_path)
    assert (caught.value.message, caught.value.exit_code) == (message, 2)


HINT = (
    "name a mirror that the machines reach, without a user, or leave it out: "
    "images then use the public ones"
)


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("file:///srv/debian", '"file:" is not a server address'),
        ("http://localhost:3142/debian", "localhost is every machine itself"),
        ("http://127.1/debian", "127.1 is every machine itself"),
        ("http://0x7f000001/debian", "0x7f000001 is every machine itself"),
        ("http://[::ffff:127.0.0.1]/debian", "::ffff:127.0.0.1 is every machine itself"),
        ("http://[::1]:3142/debian", "::1 is every machine itself"),
        ("http://0.0.0.0/debian", "0.0.0.0 is every machine itself"),
        (
            "http://169.254.3.4/debian",
            "169.254.3.4 is a link-local address, which only neighbours reach",
        ),
        ("http://[fe80::1]/debian", "fe80::1 is a link-local address, which only neighbours reach"),
    ],
)
def test_no_image_is_given_a_mirror_that_it_cannot_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, problem: str
) -> None:
    message = f"{uri} does not work in an image: {problem}"
    Path("slipway.toml").write_text(f'image_mirror = "{uri}"\n')
    with pytest.raises(UserError) as caught:
        load_settings(Path())
    assert (str(caught.value), caught.value.exit_code) == (
        f"slipway.toml:1:1: error: image_mirror: {message}\n  hint: {HINT}",
        3,
    )
    Path("slipway.toml").unlink()
    monkeypatch.setenv("SLIPWAY_IMAGE_MIRROR", uri)
    with pytest.raises(UserError) as caught:
        load_settings(tmp_path)
    assert (str(caught.value), caught.value.exit_code) == (
        f"error: SLIPWAY_IMAGE_MIRROR: {message}\n  hint: {HINT}",
        2,
    )


def test_an_images_mirror_has_no_password_and_may_be_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_IMAGE_MIRROR", "http://user:word@mirror.example/debian")
    with pytest.raises(UserError) as caught:
        load_settings(tmp_path)
    assert caught.value.message == "SLIPWAY_IMAGE_MIRROR: an image holds no user and no password"
    monkeypatch.setenv("SLIPWAY_IMAGE_MIRROR", "http://10.1.2.3/debian")
    given = {
        "debian": "http://10.1.2.3/debian",
        "debian-security": "http://10.1.2.3/debian-security",
    }
    assert load_settings(tmp_path).image_mirror == given
