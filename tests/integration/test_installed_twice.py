"""Packages that make names and keys, installed twice by the real builder: what differs is known,
gone, and made again.

It needs a mirror, and takes minutes; no machine is started.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slipway.builders._layers import unpack
from slipway.host.namespace import MOUNT, Namespace

ROOT = Path(__file__).parents[2]
SPEC = """\
schema: 1
name: twice
version: 1.0.0
summary: Packages that make names and keys when they are installed
category: base
base: debian-13
formats: [raw]
packages: [bind9, dropbear, munge, nvme-cli, open-iscsi, rabbitmq-server, ssl-cert, xrdp]
resources: {cpus: 1, memory_mib: 512, disk_gib: 8}
"""
#: What an installation leaves that says when it was, and no image has: logs and caches, which a
#: tree's end removes.
EXPLAINED = ("/var/log/", "/var/cache/ldconfig/aux-cache")
#: What the packages above make for one instance. The initramfs has a copy of the iSCSI name.
IDENTITIES = {
    "/etc/bind/rndc.key",
    *(
        f"/etc/dropbear/dropbear_{kind}_host_key{end}"
        for kind in ("rsa", "ecdsa", "ed25519")
        for end in ("", ".pub")
    ),
    "/etc/iscsi/initiatorname.iscsi",
    "/etc/munge/munge.key",
    "/etc/nvme/hostid",
    "/etc/nvme/hostnqn",
    "/etc/ssl/certs/ssl-cert-snakeoil.pem",
    "/etc/ssl/private/ssl-cert-snakeoil.key",
    "/etc/xrdp/rsakeys.ini",
    "/var/lib/rabbitmq/.erlang.cookie",
}
#: Prints path -> what it is, for every path below a folder.
LISTING = """\
import hashlib, json, os, stat, sys
found = {}
os.chdir(sys.argv[1])
for folder, folders, files in os.walk("."):
    for name in (*folders, *files):
        path = os.path.join(folder, name)
        s = os.lstat(path)
        content = os.readlink(path) if stat.S_ISLNK(s.st_mode) else ""
        if stat.S_ISREG(s.st_mode):
            with open(path, "rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        found[path[1:]] = [oct(s.st_mode), s.st_uid, s.st_gid, s.st_rdev, content]
print(json.dumps(found))
"""
#: Prints the packages of a tree whose licence is not in it.
UNLICENSED = """\
cd "$1/usr/share/doc"
for name in $(sed -n 's/^Package: //p' "$1/var/lib/dpkg/status"); do
    test -s "$name/copyright" || echo "$name"
done
"""
#: A first boot's part that makes them, with the tree as the root.
MAKE = """\
mount --rbind /dev "$1/dev" && mount -t proc proc "$1/proc"
echo "$2" >"$1/etc/machine-id"
chroot "$1" /usr/bin/python3 -E -s -B /usr/lib/slipway/identities.py
umount "$1/proc" && umount -R "$1/dev"
"""


def invoke(root: Path, cache: Path, *words: str) -> str:
    """Run a task with a cache of its own."""
    argv = [
        sys.executable,
        "-P",
        "-m",
        "slipway",
        "--search-root",
        str(ROOT),
        *words,
        "--root",
        str(root),
    ]
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | {
        "SLIPWAY_CACHE": str(cache)
    }
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Path]]:
    """Build twice, each time from an empty cache, with the same packages at hand.

    Give the layers of both, by kind.
    """
    root = tmp_path_factory.mktemp("project")
    (root / "templates").symlink_to(ROOT / "templates")
    (root / "appliances/twice").mkdir(parents=True)
    (root / "appliances/twice/appliance.yaml").write_text(SPEC)
    made = []
    for number in (1, 2):
        cache = root / f"cache{number}"
        cache.mkdir(mode=0o700)
        if number == 1:
            invoke(root, cache, "lock", "twice")
        else:
            subprocess.run(["cp", "-al", root / "cache1/pool", cache], check=True, timeout=60)
            (root / "build").rename(root / "build1")
        invoke(root, cache, "build", "twice", "--no-boot")
        made.append(
            {
                entry_of(path.parent)["kind"]: path.parent
                for path in (cache / "stages").glob("*/entry")
            }
        )
    return made


def entry_of(folder: Path) -> dict[str, Any]:
    """What the cache knows of a stage; the record's own sum is below it."""
    found: dict[str, Any] = json.JSONDecoder().raw_decode((folder / "entry").read_text())[0]
    return found


def listing(namespace: Namespace, folder: Path) -> dict[str, list[object]]:
    found: dict[str, list[object]] = json.loads(
        namespace.run([sys.executable, "-I", "-c", LISTING, folder]).stdout
    )
    return found


def differing(one: dict[str, list[object]], other: dict[str, list[object]]) -> set[str]:
    return {path for path in one.keys() | other.keys() if one.get(path) != other.get(path)}


@pytest.mark.nightly
@pytest.mark.timeout(3000)
def test_what_differs_between_two_installations_is_a_known_identity(
    caches: list[dict[str, Path]],
) -> None:
    with Namespace(memory_mib=4096) as namespace:
        for number, layers in enumerate(caches):
            unpack(
                namespace,
                layers["packages"] / "layer.tar.zst",
                MOUNT / f"packages{number}",
                what="unpacking",
            )
        found = differing(*(listing(namespace, MOUNT / f"packages{number}") for number in (0, 1)))
    early = {path for path in found if path.startswith("/boot/initrd.img-")}
    assert len(early) == 1
    assert {path for path in found - early if not path.startswith(EXPLAINED)} == IDENTITIES


@pytest.mark.nightly
@pytest.mark.timeout(3000)
def test_the_image_is_the_same_and_each_instance_makes_its_own(
    caches: list[dict[str, Path]],
) -> None:
    images = [entry_of(layers["artifact:raw"])["facts"]["sha256"] for layers in caches]
    assert images[0] == images[1]
    instances = []
    with Namespace(memory_mib=6144) as namespace:
        for kind in ("base", "packages", "tree"):
            unpack(namespace, caches[0][kind] / "layer.tar.zst", MOUNT / kind, what="unpacking")
        for name in ("a", "b"):
            upper, tree = MOUNT / f"upper-{name}", MOUNT / f"tree-{name}"
            namespace.run(["mkdir", "-p", upper, MOUNT / f"work-{name}", tree])
            lower = ":".join(str(MOUNT / kind) for kind in ("tree", "packages", "base"))
            options = (
                f"userxattr,lowerdir={lower},upperdir={upper},workdir={MOUNT / f'work-{name}'}"
            )
            namespace.run(["mount", "-t", "overlay", "overlay", tree, "-o", options])
            assert namespace.run(["sh", "-euc", UNLICENSED, "sh", tree]).stdout == b""
            image = listing(namespace, tree)
            assert not IDENTITIES & image.keys()
            said = namespace.run(["sh", "-euc", MAKE, "sh", tree, name * 32]).stdout.decode()
            assert said.count("made: the identity of ") == 8
            instances.append(listing(namespace, tree))
            noted = json.loads(namespace.path(tree / "usr/lib/slipway/identities.json").read_text())
            for path, (mode, user, group) in [
                pair for files in noted.values() for pair in files.items()
            ]:
                assert instances[-1][path][:3] == [oct(0o100000 | mode), user, group], path
    made = {
        path for path in differing(image, instances[1]) if not path.startswith("/etc/ssl/certs/")
    }
    assert made >= IDENTITIES - {"/etc/ssl/certs/ssl-cert-snakeoil.pem"}
    # The two dates, the links by hash and the folders' times aside, nothing of one instance is in
    # the other.
    same = {path for path in IDENTITIES if instances[0][path][4] == instances[1][path][4]}
    assert same == set()
