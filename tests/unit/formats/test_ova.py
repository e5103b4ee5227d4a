"""An OVA is in the order, and with the words, that importers want; anything else is refused."""

from __future__ import annotations

import hashlib
import tarfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

from example_disk import ABOUT, write_disk
from slipway.errors import VerificationError
from slipway.formats import Artifact, Description, load
from slipway.formats.ova import check_ova
from slipway.host import process

SIZE = 1 << 30
OVF = "{http://schemas.dmtf.org/ovf/envelope/1}"
RASD = "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData}"


def export(disk: Path, output: Path, about: Description = ABOUT) -> Artifact:
    return load("ova").export(
        disk, output, virtual_size=SIZE, log=output.with_suffix(".log"), about=about
    )


def contents(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {
            member.name: found.read()
            for member in archive
            if (found := archive.extractfile(member))
        }


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of an OVA that is as it has to be."""
    folder = tmp_path_factory.mktemp("good")
    export(write_disk(folder / "disk.raw"), folder / "thing.ova")
    check_ova(folder / "thing.ova")
    return contents(folder / "thing.ova")


def write(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, BytesIO(content))


def test_it_holds_description_manifest_and_disk_in_this_order(disk: Path, tmp_path: Path) -> None:
    artifact = export(disk, tmp_path / "thing.ova")
    assert artifact.uncompressed_sha256 == hashlib.sha256(disk.read_bytes()).hexdigest()
    assert artifact.sha256 == hashlib.sha256((tmp_path / "thing.ova").read_bytes()).hexdigest()
    files = contents(tmp_path / "thing.ova")
    assert list(files) == ["thing.ovf", "thing.mf", "thing-disk1.vmdk"]
    assert files["thing.mf"].decode() == "".join(
        f"SHA256({name})= {hashlib.sha256(files[name]).hexdigest()}\n"
        for name in ("thing.ovf", "thing-disk1.vmdk")
    )
    (tmp_path / "disk.vmdk").write_bytes(files["thing-disk1.vmdk"])
    process.run(["qemu-img", "compare", "-f", "raw", "-F", "vmdk", disk, tmp_path / "disk.vmdk"])


def test_its_description_has_the_machine_and_what_it_asks_for(good: dict[str, bytes]) -> None:
    envelope = ElementTree.fromstring(good["thing.ovf"])
    (file,) = envelope.iter(f"{OVF}File")
    assert file.get(f"{OVF}href") == "thing-disk1.vmdk"
    assert file.get(f"{OVF}size") == str(len(good["thing-disk1.vmdk"]))
    (described,) = envelope.iter(f"{OVF}Disk")
    assert described.get(f"{OVF}capacity") == str(SIZE)
    assert [network.get(f"{OVF}name") for network in envelope.iter(f"{OVF}Network")] == [
        "outside",
        "inside",
    ]
    items = {
        (
            item.findtext(f"{RASD}ResourceType"),
            item.findtext(f"{RASD}VirtualQuantity") or item.findtext(f"{RASD}ResourceSubType"),
        )
        for item in envelope.iter(f"{OVF}Item")
    }
    assert items == {
        ("3", "2"),
        ("4", "2048"),
        ("20", "vmware.sata.ahci"),
        ("17", None),
        ("15", None),
        ("10", "E1000"),
    }
    properties = {each.get(f"{OVF}key"): each for each in envelope.iter(f"{OVF}Property")}
    assert list(properties) == ["domain", "password", "mode", "log"]
    assert properties["domain"].get(f"{OVF}value") == "a.test"
    assert properties["domain"].findtext(f"{OVF}Description") == "Its <name>"
    assert properties["password"].get(f"{OVF}password") == "true"
    assert properties["password"].get(f"{OVF}value") is None
    assert properties["mode"].get(f"{OVF}qualifiers") == 'ValueMap{"one", "two"}'
    assert properties["log"].get(f"{OVF}type") == "boolean"
    assert envelope.findtext(f"{OVF}VirtualSystem/{OVF}Info") == ABOUT.summary


def test_it_is_the_same_twice(disk: Path, tmp_path: Path) -> None:
    assert export(disk, tmp_path / "a").sha256 == export(disk, tmp_path / "b").sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a",
        "a.log",
        "b",
        "b.log",
        "disk.raw",
    ]


def reordered(files: dict[str, bytes]) -> dict[str, bytes]:
    names = ["thing-disk1.vmdk", "thing.ovf", "thing.mf"]
    return {name: files[name] for name in names}


def another_size(files: dict[str, bytes]) -> dict[str, bytes]:
    """The description says another size of the disk, and the manifest agrees with the
    description.
    """
    size = str(len(files["thing-disk1.vmdk"])).encode()
    description = files["thing.ovf"].replace(b'"' + size + b'"', b'"' + size[::-1] + b'"')
    assert description != files["thing.ovf"]
    before, after = (
        hashlib.sha256(content).hexdigest().encode()
        for content in (files["thing.ovf"], description)
    )
    return {**files, "thing.ovf": description, "thing.mf": files["thing.mf"].replace(before, after)}


def late_manifest(files: dict[str, bytes]) -> dict[str, bytes]:
    names = ["thing.ovf", "thing-disk1.vmdk", "thing.mf"]
    return {name: files[name] for name in names}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (reordered, "has to begin with a description (.ovf) and its manifest (.mf)"),
        (late_manifest, "has to begin with a description (.ovf) and its manifest (.mf)"),
        (lambda files: {**files, "extra": b"x"}, "its manifest lists other files than are there"),
        (
            lambda files: {name: files[name] for name in ("thing.ovf", "thing.mf")},
            "its manifest lists other files than are there",
        ),
        (
            lambda files: {**files, "thing-disk1.vmdk": files["thing-disk1.vmdk"] + b"x"},
            "thing-disk1.vmdk has another size or digest",
        ),
        (
            lambda files: {**files, "thing.ovf": files["thing.ovf"].replace(b"2048", b"4096")},
            "thing.ovf has another size or digest",
        ),
        (
            lambda files: {**files, "thing.mf": files["thing.mf"].replace(b"SHA256", b"SHA1")},
            "its manifest lists other files",
        ),
        (lambda files: {**files, "thing.ovf": b"<"}, "its description is not XML"),
        (another_size, "thing-disk1.vmdk has another size or digest"),
    ],
    ids=[
        "disk first",
        "manifest last",
        "extra file",
        "missing file",
        "altered disk",
        "altered description",
        "SHA-1",
        "not XML",
        "another size",
    ],
)
def test_what_importers_may_stumble_over_is_refused(
    good: dict[str, bytes],
    tmp_path: Path,
    change: Callable[[dict[str, bytes]], dict[str, bytes]],
    message: str,
) -> None:
    write(tmp_path / "good.ova", good)
    check_ova(tmp_path / "good.ova")
    write(tmp_path / "bad.ova", change(dict(good)))
    with pytest.raises(VerificationError) as caught:
        check_ova(tmp_path / "bad.ova")
    assert message in str(caught.value)


def test_a_file_that_is_there_twice_is_refused(good: dict[str, bytes], tmp_path: Path) -> None:
    """Importers take one or the other of them, and only one has the digest that was written
    down.
    """
    with tarfile.open(tmp_path / "twice.ova", "w", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("thing.ovf", "thing.mf", "thing-disk1.vmdk", "thing-disk1.vmdk"):
            member = tarfile.TarInfo(name)
            member.size = len(good[name])
            archive.addfile(member, BytesIO(good[name]))
    with pytest.raises(VerificationError) as caught:
        check_ova(tmp_path / "twice.ova")
    assert (
        caught.value.message
        == f"{tmp_path / 'twice.ova'}: thing-disk1.vmdk is not a file, or is listed twice"
    )


def test_a_secret_is_in_no_description_even_with_a_default(disk: Path, tmp_path: Path) -> None:
    secret = ABOUT.parameters[1].model_copy(update={"default": "correct horse"})
    export(
        disk, tmp_path / "x.ova", about=replace(ABOUT, parameters=(*ABOUT.parameters[:1], secret))
    )
    content = (tmp_path / "x.ova").read_bytes()
    assert b"a.test" in content
    assert b"correct horse" not in content
