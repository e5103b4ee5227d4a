"""First-boot parameters reach an instance by each platform's way: what hypervisors attach, and what
clouds serve.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from once_more import once_more
from real_tools import need
from slipway import pipeline
from slipway.boot.lab import Lab, lab
from slipway.boot.machine import Machine, command, make_overlay
from slipway.boot.results import Died
from slipway.host import process
from slipway.host.accelerator import probe
from slipway.job import Job, Workshop, prepare
from slipway.seeds.seed import Seed, write_seed
from slipway.terminal.progress import Progress

pytestmark = [pytest.mark.vm, pytest.mark.nightly]

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "tests/support/metadata_server.py"
METADATA_SERVER = "169.254.169.254"
NAMES = ("one", "two", "three")
OVF = """\
<?xml version="1.0" encoding="UTF-8"?>
<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1" xmlns:oe="http://schemas.dmtf.org/ovf/environment/1">
  <PropertySection><Property oe:key="slipway.three" oe:value="by OVF"/></PropertySection>
</Environment>
"""
USER_DATA = "#cloud-config\nslipway: {parameters: {%s}}\n"


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Path]:
    """A built appliance with three parameters that have no default, and its image."""
    root = tmp_path_factory.mktemp("project")
    (root / "templates").symlink_to(ROOT / "templates")
    shop = Workshop(root=root, progress=Progress(quiet=True))
    folder = shop.library.new("my-thing")
    parameters = "".join(
        f"  - {{name: {name}, type: string, summary: A value}}\n" for name in NAMES
    )
    with (folder / "appliance.yaml").open("a") as file:
        file.write(f"parameters:\n{parameters}")
    say = folder / "firstboot/10-say.sh"
    say.parent.mkdir()
    say.write_text('echo "given: $PARAM_ONE, $PARAM_TWO, $PARAM_THREE"\n')
    made = prepare(
        shop,
        shop.library.load("my-thing"),
        builder="mmdebstrap",
        architecture="amd64",
        formats=["qcow2"],
    )
    pipeline.build(shop, made, boot=False)
    return made, pipeline.built_image(shop, made)


def drain(line: socket.socket) -> None:
    """Read what comes until it ends."""
    with contextlib.suppress(OSError):
        while line.recv(1 << 16):
            pass


def first_boot(
    job: tuple[Job, Path],
    folder: Path,
    network: Lab,
    *options: str,
    credentials: dict[str, bytes] | None = None,
    answers: Mapping[str, str] | None = None,
) -> str:
    """Start an instance with more of QEMU's options, and wait for what its first boot says it was
    given.

    Args:
        answers: What is typed at the serial console when it asks for a parameter, by the
            parameter's name.
    """
    made, image = job
    overlay, console = folder / "overlay.qcow2", folder / "console.log"
    machine = Machine.for_base(
        made.source.appliance.base,
        made.architecture,
        cpus=2,
        memory_mib=made.source.appliance.spec.resources.memory_mib,
        disk=overlay,
        firmware="bios",
        accelerator=probe(made.architecture),
        console=console,
        networks=network.networks(),
        credentials=credentials or {},
    )
    line = folder / "line"
    argv = [*network.enter, *command(machine), *options]
    at = argv.index(f"file,id=console,path={console}")
    argv[at] = f"socket,id=console,path={line},server=on,wait=off,logfile={console}"

    def start() -> str:
        make_overlay(image, overlay, size_gib=made.source.appliance.spec.resources.disk_gib)
        console.unlink(missing_ok=True)
        line.unlink(missing_ok=True)
        with process.spawn(
            argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as qemu:
            return heard(qemu, console, line, answers or {})

    return once_more(start)


def heard(
    qemu: subprocess.Popen[bytes], console: Path, line: Path, answers: Mapping[str, str]
) -> str:
    """What a machine's first boot says that it was given; its questions are answered on the way.

    Raises:
        Died: It said nothing of the kind.
    """
    waiting = dict(answers)
    with socket.socket(socket.AF_UNIX) as keyboard:
        until = time.monotonic() + 400
        while time.monotonic() < until and qemu.poll() is None:
            said = console.read_text(errors="replace") if console.exists() else ""
            lines = [
                line
                for line in said.splitlines()
                if "given: " in line or "first boot failed" in line
            ]
            if lines:
                return lines[-1].rpartition("given: ")[2].strip()
            for name in [name for name in waiting if f"({name}):" in said]:
                if len(waiting) == len(answers):
                    keyboard.connect(str(line))
                    # What nobody reads there, QEMU soon writes nowhere, not to its log either.
                    threading.Thread(target=drain, args=(keyboard,), daemon=True).start()
                keyboard.sendall(f"{waiting.pop(name)}\r".encode())
            time.sleep(0.5)
    ended = (
        "nothing was heard of it for 400 s"
        if qemu.poll() is None
        else f"QEMU ended with status {qemu.poll()}"
    )
    raise Died(f"{ended}\n{process.tail(console, 40)}")


def test_a_credential_a_seed_and_an_ovf_environment(job: tuple[Job, Path], tmp_path: Path) -> None:
    """SMBIOS as libvirt and Proxmox give it, NoCloud's disk, the ISO that VMware and VirtualBox
    attach; each has a part.
    """
    need("genisoimage")
    seed, ovf = tmp_path / "seed", tmp_path / "ovf"
    seed.mkdir()
    (seed / "meta-data").write_text("instance-id: i-1\n")
    (seed / "user-data").write_text(USER_DATA % "two: by a seed")
    ovf.mkdir()
    (ovf / "ovf-env.xml").write_text(OVF)
    options: list[str] = ["-device", "ahci,id=ahci"]
    for number, (label, source) in enumerate((("CIDATA", seed), ("OVF ENV", ovf))):
        iso = tmp_path / f"{number}.iso"
        subprocess.run(
            ["genisoimage", "-quiet", "-r", "-J", "-V", label, "-o", iso, source], check=True
        )
        options += ["-drive", f"if=none,id=cd{number},media=cdrom,format=raw,file={iso}"]
        options += ["-device", f"ide-cd,bus=ahci.{number},drive=cd{number}"]
    with lab(["outside"], log=tmp_path / "network.log") as network:
        said = first_boot(
            job, tmp_path, network, *options, credentials={"slipway.one": b"by a credential"}
        )
    assert said == "by a credential, by a seed, by OVF"


def test_a_seed_that_was_made_for_a_download(job: tuple[Job, Path], tmp_path: Path) -> None:
    """As `fetch --set` writes it, attached as a CD: texts of any kind arrive as they were given."""
    made, _ = job
    values = {"one": "Käse & 😀 'x' \"y\" {}: #", "two": "0775", "three": "true"}
    seed = Seed(appliance=made.name, release="1.0.0-b1", values=values)
    write_seed(tmp_path / "a.seed.iso", seed)
    options = ["-device", "ahci,id=ahci", "-device", "ide-cd,bus=ahci.0,drive=cd"]
    drive = f"if=none,id=cd,media=cdrom,format=raw,readonly=on,file={tmp_path / 'a.seed.iso'}"
    with lab(["outside"], log=tmp_path / "network.log") as network:
        said = first_boot(job, tmp_path, network, "-drive", drive, *options)
    assert said == ", ".join(values.values())


def test_who_is_at_the_console_is_asked(job: tuple[Job, Path], tmp_path: Path) -> None:
    """For all that nobody gave, and nothing else."""
    with lab(["outside"], log=tmp_path / "network.log") as network:
        answers = {"one": "typed at a console", "three": "typed as well"}
        said = first_boot(
            job, tmp_path, network, credentials={"slipway.two": b"by a credential"}, answers=answers
        )
    assert said == "typed at a console, by a credential, typed as well"


EC2 = {
    "2009-04-04/meta-data/": "instance-id\nlocal-hostname",
    "2009-04-04/meta-data/instance-id": "i-0123456789abcdef0",
    "2009-04-04/meta-data/local-hostname": "cloudy",
    "2009-04-04/dynamic/instance-identity": "document",
    "2009-04-04/dynamic/instance-identity/document": "{}",
    "2009-04-04/user-data": USER_DATA % "one: by EC2, two: '2', three: true",
}
OPENSTACK = {
    "openstack": "latest\n",
    "openstack/latest/meta_data.json": json.dumps(
        {"uuid": "d8e02d56-2648-49a3-bf97-6be8f1204f38", "name": "cloudy"}
    ),
    "openstack/latest/user_data": USER_DATA % "one: by OpenStack, two: '2', three: true",
}


@pytest.mark.parametrize(
    ("served", "dmi", "wanted"),
    [
        (
            EC2,
            [
                "type=1,uuid=ec2e1916-9099-7caf-fd21-012345abcdef,serial=ec2e1916-9099-7caf-fd21-012345abcdef"
            ],
            "by EC2, 2, true",
        ),
        (OPENSTACK, ["type=1,product=OpenStack Compute"], "by OpenStack, 2, true"),
    ],
    ids=["ec2", "openstack"],
)
def test_a_clouds_metadata(
    job: tuple[Job, Path], tmp_path: Path, served: dict[str, str], dmi: Sequence[str], wanted: str
) -> None:
    (tmp_path / "served.json").write_text(json.dumps(served))
    with lab(["outside"], log=tmp_path / "network.log") as network:
        network.namespace.run(["ip", "address", "add", f"{METADATA_SERVER}/32", "dev", "outside"])
        server: list[str | Path] = [
            *network.enter,
            sys.executable,
            SERVER,
            tmp_path / "served.json",
            METADATA_SERVER,
        ]
        with process.spawn(server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
            said = first_boot(
                job, tmp_path, network, *(word for text in dmi for word in ("-smbios", text))
            )
    assert said == wanted
