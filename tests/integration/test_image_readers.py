"""Images, read by programs that others wrote: libvhdi, libvmdk and virt-v2v."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from example_disk import ABOUT, MIB, write_disk
from real_tools import need
from slipway.formats import load
from slipway.host.namespace import Namespace
from slipway.host.programs import package_of

pytestmark = pytest.mark.integration

#: Mounts an image by FUSE, where nobody else sees it, and hashes the disk's bytes in it.
MOUNTED = (
    'mkdir /mnt/point && "$1" "$2" /mnt/point >&2 && head -c "$3" /mnt/point/* | sha256sum && '
    "umount /mnt/point"
)


def export(name: str, folder: Path) -> Path:
    """The example disk as an image. libvmdk looks for the file that the descriptor names."""
    output = folder / f"disk.{name}"
    load(name).export(
        write_disk(folder / "disk.raw"),
        output,
        virtual_size=1 << 30,
        log=folder / "log",
        about=ABOUT,
    )
    return output


@pytest.mark.parametrize(
    ("name", "reader"), [("vhd", "vhdimount"), ("vhdx", "vhdimount"), ("vmdk", "vmdkmount")]
)
def test_another_reader_finds_the_same_disk(name: str, reader: str, tmp_path: Path) -> None:
    if package_of(reader) is None:
        pytest.skip(f"this distribution has no {reader} that can mount")
    need(reader)
    image = export(name, tmp_path)
    with Namespace() as namespace:
        found = (
            namespace.run(["sh", "-c", MOUNTED, "sh", reader, image, str(24 * MIB)])
            .stdout.split()[0]
            .decode()
        )
    assert found == hashlib.sha256((tmp_path / "disk.raw").read_bytes()).hexdigest()


def virt_v2v(ova: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["virt-v2v", "-i", "ova", ova, "--print-source"],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_an_importer_understands_the_ova(tmp_path: Path) -> None:
    need("virt-v2v")
    done = virt_v2v(export("ova", tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    said = [" ".join(line.split()) for line in done.stdout.splitlines()]
    for line in (
        "source name: thing",
        "hypervisor type: vmware",
        "memory: 2147483648 (bytes)",
        "nr vCPUs: 2",
    ):
        assert line in said
    disks = said[said.index("disks:") :]
    assert disks[1].endswith("[sata]")
    assert disks[disks.index("NICs:") + 1 :][:2] == [
        'Bridge "outside" [e1000]',
        'Bridge "inside" [e1000]',
    ]


def test_an_importer_refuses_an_ova_that_was_altered(tmp_path: Path) -> None:
    need("virt-v2v")
    ova = export("ova", tmp_path)
    ova.chmod(0o644)
    content = ova.read_bytes()
    ova.write_bytes(content.replace(b">2048<", b">4096<"))
    done = virt_v2v(ova)
    assert done.returncode != 0
    assert "checksum" in done.stderr


def test_libvirt_takes_the_domain(tmp_path: Path) -> None:
    need("virsh", "virt-xml-validate")
    domain = export("libvirt", tmp_path)
    subprocess.run(
        ["virt-xml-validate", domain, "domain"], check=True, capture_output=True, timeout=60
    )
    script = f"define --validate {domain}; dumpxml thing"
    done = subprocess.run(
        ["virsh", "-q", "-c", "test:///default", script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "<model type='virtio'/>" in done.stdout
    # As its comment says that a parameter is given.
    text = domain.read_text()
    sysinfo = text[text.index("<sysinfo") : text.index("</sysinfo>")] + "</sysinfo>"
    given = text.replace("  <os", f"{sysinfo}\n  <os", 1).replace(
        "  </os>", '    <smbios mode="sysinfo"/>\n  </os>'
    )
    domain.unlink()  # which nobody may change
    domain.write_text(given.replace("slipway.NAME=VALUE", "slipway.domain=a.test"))
    done = subprocess.run(
        ["virsh", "-q", "-c", "test:///default", script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "<entry>io.systemd.credential:slipway.domain=a.test</entry>" in done.stdout


def test_container_tools_find_the_very_image_in_the_container_disk(tmp_path: Path) -> None:
    need("skopeo", "umoci")
    image = export("qcow2", tmp_path)
    about = replace(ABOUT, images={"qcow2": image})
    load("oci").export(
        tmp_path / "disk.raw",
        tmp_path / "disk.oci.tar",
        virtual_size=1 << 30,
        log=tmp_path / "log",
        about=about,
    )
    source = f"oci-archive:{tmp_path / 'disk.oci.tar'}:1.2.0"
    # The layers' files belong to root, so skopeo has to be root of a user namespace at least
    # (`podman unshare skopeo ...`).
    with Namespace() as namespace:
        namespace.run(
            [
                "skopeo",
                "--insecure-policy",
                "copy",
                "-q",
                source,
                f"oci:{tmp_path / 'layout'}:thing",
            ]
        )
    unpack: list[str | Path] = [
        "umoci",
        "unpack",
        "--rootless",
        "--image",
        f"{tmp_path / 'layout'}:thing",
        tmp_path / "bundle",
    ]
    done = subprocess.run(unpack, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    (found,) = (path for path in (tmp_path / "bundle/rootfs").rglob("*") if path.is_file())
    assert found == tmp_path / "bundle/rootfs/disk/disk.qcow2"
    assert found.read_bytes() == image.read_bytes()
