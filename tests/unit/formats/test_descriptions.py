"""What goes beside an image: for libvirt, Proxmox and Incus; and around it, for KubeVirt."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shlex
import subprocess
import tarfile
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from example_disk import ABOUT
from slipway.formats import load

NAMES = ("incus", "libvirt", "oci", "proxmox")


def export(name: str, disk: Path, output: Path, **changes: Any) -> bytes:
    """A format's file; what some of them need is not looked into."""
    image = output.with_name("image")
    image.write_bytes(b"an image" * 1000)
    about = replace(ABOUT, images={"qcow2": image, "rootfs": image}, **changes)
    artifact = load(name).export(
        disk, output, virtual_size=1 << 30, log=output.with_suffix(".log"), about=about
    )
    content = output.read_bytes()
    assert (artifact.size, artifact.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert artifact.uncompressed_sha256 == hashlib.sha256(disk.read_bytes()).hexdigest()
    return content


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_same_twice(name: str, disk: Path, tmp_path: Path) -> None:
    assert export(name, disk, tmp_path / "a") == export(name, disk, tmp_path / "b")


def test_libvirt_is_told_the_machine(disk: Path, tmp_path: Path) -> None:
    domain = ElementTree.fromstring(export("libvirt", disk, tmp_path / "x"))
    assert domain.findtext("name") == "thing"
    assert domain.findtext("description") == 'thing 1.2.0: A <thing> & "more"'
    assert (domain.findtext("memory"), domain.findtext("vcpu")) == ("2048", "2")
    assert [source.get("network") for source in domain.iterfind("devices/interface/source")] == [
        "default",
        "inside",
    ]
    assert domain.find("sysinfo") is None


@pytest.mark.parametrize("name", ["libvirt", "proxmox"])
def test_a_description_gives_no_default_which_would_outrank_what_somebody_gives_by_cloud_init(
    name: str, disk: Path, tmp_path: Path
) -> None:
    text = export(name, disk, tmp_path / "x").decode()
    assert "slipway.domain" not in text
    assert "a.test" not in text
    if name == "libvirt":
        assert "<entry>io.systemd.credential:slipway.NAME=VALUE</entry>" in text
        assert "\n    domain\n" in text


def test_libvirt_on_another_architecture_is_told_of_its_firmware(
    disk: Path, tmp_path: Path
) -> None:
    domain = ElementTree.fromstring(
        export("libvirt", disk, tmp_path / "x", architecture="arm64", parameters=())
    )
    system, kind = domain.find("os"), domain.find("os/type")
    assert system is not None and kind is not None
    assert (system.get("firmware"), kind.get("arch"), kind.get("machine")) == (
        "efi",
        "aarch64",
        "virt",
    )
    assert domain.find("sysinfo") is None


def proxmox(
    disk: Path, tmp_path: Path, *words: str, image: bool = True
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run the script where qm(1) is a program that writes down how it was called; and those
    words.
    """
    folder = tmp_path / "a folder"
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    script, qm = folder / "thing-1.2.0.proxmox.sh", folder / "bin/qm"
    if not script.exists():
        export("proxmox", disk, script)
    qm.write_text(f'#!/bin/sh\nprintf "%s\\0" "$@" >{shlex.quote(str(tmp_path / "called"))}\n')
    qm.chmod(0o755)
    if image:
        (folder / "thing-1.2.0.qcow2").touch()
    environment = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", script, *words], env=environment, capture_output=True, text=True, timeout=30
    )
    called = tmp_path / "called"
    return done, called.read_text().split("\0")[:-1] if called.exists() else []


def test_proxmox_is_given_the_machine_and_the_parameters(disk: Path, tmp_path: Path) -> None:
    value = 'it\'s $HOME, "and" more'
    done, words = proxmox(disk, tmp_path, "100", "local-lvm", f"domain={value}", "log=false")
    assert done.returncode == 0, done.stderr
    assert words[:2] == ["create", "100"]
    options = dict(zip(words[2::2], words[3::2], strict=True))
    assert options["--name"] == "thing"
    assert options["--description"] == 'thing 1.2.0: A <thing> & "more"'
    assert (options["--cores"], options["--memory"]) == ("2", "2048")
    assert (options["--net0"], options["--net1"]) == ("virtio,bridge=vmbr0", "virtio,bridge=vmbr1")
    assert (
        options["--scsi0"]
        == f"local-lvm:0,import-from={tmp_path / 'a folder/thing-1.2.0.qcow2'},discard=on"
    )
    encoded = base64.b64encode(value.encode()).decode()
    assert options["--args"].split() == [
        "-smbios",
        f"type=11,value=io.systemd.credential.binary:slipway.domain={encoded}",
        "-smbios",
        f"type=11,value=io.systemd.credential.binary:slipway.log={base64.b64encode(b'false').decode()}",
    ]


@pytest.mark.parametrize(
    ("words", "image", "status", "message"),
    [
        ((), True, 2, "usage: sh "),
        (("100", "local", "domian=x"), True, 2, 'no parameter is given by "domian=x"'),
        (("100", "local", "domain"), True, 2, 'no parameter is given by "domain"'),
        (("100", "local"), False, 1, "there is no "),
    ],
)
def test_proxmox_is_not_called_when_something_is_wrong(
    disk: Path, tmp_path: Path, words: tuple[str, ...], image: bool, status: int, message: str
) -> None:
    done, called = proxmox(disk, tmp_path, *words, image=image)
    assert done.returncode == status
    assert message in done.stderr
    assert called == []


def test_the_proxmox_script_is_good_shell(disk: Path, tmp_path: Path) -> None:
    export("proxmox", disk, tmp_path / "x.sh")
    subprocess.run(["shellcheck", "-s", "sh", tmp_path / "x.sh"], check=True)


def test_incus_is_told_what_it_is_and_what_to_write(disk: Path, tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(export("incus", disk, tmp_path / "x"))) as archive:
        texts = {
            member.name: found.read().decode()
            for member in archive
            if (found := archive.extractfile(member))
        }
    metadata = yaml.safe_load(texts["metadata.yaml"])
    assert metadata["architecture"] == "x86_64"
    assert metadata["creation_date"] == ABOUT.epoch
    assert metadata["properties"]["description"] == 'thing 1.2.0: A <thing> & "more"'
    used = {f"templates/{each['template']}" for each in metadata["templates"].values()}
    assert used == texts.keys() - {"metadata.yaml"}


def test_the_container_disk_is_an_image_layout_with_the_image_in_it(
    disk: Path, tmp_path: Path
) -> None:
    with tarfile.open(fileobj=io.BytesIO(export("oci", disk, tmp_path / "x"))) as archive:
        blobs = {
            member.name: found.read()
            for member in archive
            if (found := archive.extractfile(member))
        }
    for name, content in blobs.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"
    (described,) = json.loads(blobs["index.json"])["manifests"]
    assert described["annotations"] == {"org.opencontainers.image.ref.name": "1.2.0"}
    manifest = json.loads(blobs[f"blobs/{described['digest'].replace(':', '/')}"])
    (layer,) = manifest["layers"]
    content = blobs[f"blobs/{layer['digest'].replace(':', '/')}"]
    assert layer["size"] == len(content)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = [
            (member.name, member.mode, member.uid, member.gid, member.isdir()) for member in archive
        ]
        image = archive.extractfile("disk/disk.qcow2")
        assert image and image.read() == b"an image" * 1000
    assert members == [("disk", 0o555, 107, 107, True), ("disk/disk.qcow2", 0o440, 107, 107, False)]


def test_incus_images_are_identified_by_metadata_and_image_together(
    disk: Path, tmp_path: Path
) -> None:
    images = {"qcow2": tmp_path / "one", "rootfs": tmp_path / "two"}
    for name, image in images.items():
        image.write_bytes(name.encode() * 1000)
    about = replace(ABOUT, images=images)
    artifact = load("incus").export(
        disk, tmp_path / "x", virtual_size=1 << 30, log=tmp_path / "log", about=about
    )
    metadata = (tmp_path / "x").read_bytes()
    assert artifact.fingerprints == {
        name: hashlib.sha256(metadata + image.read_bytes()).hexdigest()
        for name, image in images.items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_secret_is_in_no_description_even_with_a_default(
    name: str, disk: Path, tmp_path: Path
) -> None:
    secret = ABOUT.parameters[1].model_copy(update={"default": "correct horse"})
    content = export(name, disk, tmp_path / "x", parameters=(*ABOUT.parameters[:1], secret))
    if name == "incus":
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            content = b"".join(
                found.read() for member in archive if (found := archive.extractfile(member))
            )
    assert b"correct horse" not in content
