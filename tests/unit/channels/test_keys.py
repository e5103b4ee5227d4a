"""Keys: where they are kept, how many must sign, and those that are elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from slipway.channels.keys import (
    BUNDLE,
    KeyRing,
    check_channel,
    export,
    init,
    load_ring,
    parse_signers,
    rotate,
)
from slipway.channels.moves import publish_all
from slipway.errors import HostError, UsageError
from slipway.stores.directory import DirectoryStore
from tuf_judge import Judge

Build = Callable[..., Path]


def root_keys(keys: Path) -> list[Path]:
    return sorted(keys.glob("stable.root-*/root-*.pem"))


def test_keys_are_private_and_made_once(keys: Path) -> None:
    ring = init("stable", keys)
    assert {path.stat().st_mode & 0o777 for path in (keys / "stable").glob("*.pem")} == {0o600}
    assert (keys / "stable").stat().st_mode & 0o777 == 0o700
    assert load_ring("stable", keys).roots == ring.roots
    with pytest.raises(UsageError, match="the channel stable has keys already"):
        init("stable", keys)


def test_two_of_three_root_keys_are_enough_and_one_is_not(
    keys: Path, store: DirectoryStore, build: Build, tmp_path: Path
) -> None:
    ring = init("stable", keys, root_keys=3, threshold=2)
    publish_all(store, ring, [build(1)])
    root_keys(keys)[0].unlink()
    after = rotate("stable", keys, "targets")
    publish_all(store, after, [build(2)])
    assert Judge(store, "stable", ring.roots[0], tmp_path / "judge").has(
        "example/1.0.0-b2/example.qcow2"
    )
    root_keys(keys)[0].unlink()
    before = sorted(path.name for path in (keys / "stable").iterdir())
    with pytest.raises(HostError) as caught:
        rotate("stable", keys, "snapshot")
    assert str(caught.value) == (
        "error: 2 root keys of the channel stable must sign, and they are not here\n"
        "  hint: bring more of them: --root-key FOLDER, once for each"
    )
    assert sorted(path.name for path in (keys / "stable").iterdir()) == before


def test_one_root_key_that_was_moved_away_is_asked_for(keys: Path, tmp_path: Path) -> None:
    init("stable", keys)
    (root,) = (keys / "stable").glob("root-*.pem")
    root.rename(tmp_path / root.name)
    with pytest.raises(HostError) as caught:
        rotate("stable", keys, "root")
    assert str(caught.value) == (
        "error: the root key of the channel stable must sign, and is not here\n"
        "  hint: bring it: --root-key FOLDER"
    )


def test_a_key_that_is_elsewhere_signs_by_its_uri(
    keys: Path, store: DirectoryStore, build: Build, tmp_path: Path
) -> None:
    private = generate_private_key(SECP256R1())
    (tmp_path / "far.pem").write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (tmp_path / "far.pem").chmod(0o600)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (tmp_path / "far.pub").write_bytes(public)
    ring = init(
        "stable",
        keys,
        signers=parse_signers([f"targets=file2:{tmp_path}/far.pem,{tmp_path}/far.pub"]),
    )
    assert not list((keys / "stable").glob("targets-*"))
    publish_all(store, ring, [build(1)])
    assert Judge(store, "stable", ring.roots[0], tmp_path / "judge").has(
        "example/1.0.0-b1/example.qcow2"
    )
    # minisign knows ed25519 alone
    assert store.stat("releases/example/1.0.0-b1/SHA256SUMS.nightly.minisig") is None
    (tmp_path / "far.pem").unlink()
    with pytest.raises(HostError, match="the targets key of the channel stable is not here"):
        publish_all(store, load_ring("stable", keys), [build(2)])


def test_a_bundle_signs_without_any_file(
    keys: Path,
    ring: KeyRing,
    store: DirectoryStore,
    build: Build,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(BUNDLE, export(ring))
    carried = load_ring("nightly", tmp_path / "nowhere")
    publish_all(store, carried, [build(1)])
    assert Judge(store, "nightly", ring.roots[0], tmp_path / "judge").has(
        "example/1.0.0-b1/example.qcow2"
    )
    with pytest.raises(HostError) as caught:
        carried.of("root")
    assert str(caught.value) == (
        "error: the root key of the channel nightly is not here\n  hint: do this where it is kept"
    )
    with pytest.raises(HostError, match="there are no keys of the channel stable"):
        load_ring("stable", tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("targets=x", '"targets=x" is not a signer'),
        ("boss=awskms:x,y.pem", '"boss=awskms:x,y.pem" is not a signer'),
    ],
)
def test_signers_that_are_written_wrongly(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_signers([text])
    assert caught.value.message == message


def test_what_makes_no_sense(keys: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2 of 1 root keys is not possible"):
        init("stable", keys, threshold=2)
    with pytest.raises(UsageError, match='"carrier:pigeon" is not a key known to securesystemslib'):
        init("stable", keys, signers={"targets": ("carrier:pigeon", tmp_path / "x")})
    for name in ("", "Stable", "../x", "a/b"):
        with pytest.raises(UsageError, match="a channel cannot be called"):
            check_channel(name)


def test_a_misspelt_channel_is_never_made_by_its_hint(tmp_path: Path) -> None:
    init("nightly", tmp_path)
    with pytest.raises(HostError) as caught:
        load_ring("nightli", tmp_path)
    assert caught.value.hint == 'did you mean "nightly"?'
    with pytest.raises(HostError) as caught:
        load_ring("stable", tmp_path)
    assert caught.value.hint == (
        "they are where they were made: name that folder, --keys DIR or SLIPWAY_KEYS, or set "
        "SLIPWAY_KEY_BUNDLE"
    )
