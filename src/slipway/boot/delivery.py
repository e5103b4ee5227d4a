"""Get checks into a guest whose image contains nothing of them.

What goes in: the checks and the expectations for the guest. What comes out: a read-only disk (a tar
archive) for the machine, and the means to make the guest's systemd start its content.

systemd 256 and newer gets a unit in system credentials (``systemd.extra-unit.*``,
systemd-debug-generator(8)). Older versions get a cloud-init seed (the ``CIDATA`` disk of the
NoCloud datasource).
"""

from __future__ import annotations

import io
import json
import shlex
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slipway.boot.attempt import KIT
from slipway.host import process
from slipway.spec.library import Appliance
from slipway.spec.model import Parameter

__all__ = [
    "PORT",
    "SEED",
    "Delivery",
    "deliver",
    "make_seed",
    "parameter_credentials",
    "parameter_values",
    "samples",
]

#: The virtio-serial port for results, and the serial numbers of the disk and of a seed.
PORT, SERIAL, SEED = "slipway", "slipway-checks", "slipway-seed"
_START = (
    f"mkdir -p /run/slipway-checks && tar -xf /dev/disk/by-id/virtio-{SERIAL} -C "
    "/run/slipway-checks && exec sh /run/slipway-checks/runner.sh"
)
_UNIT = f"""\
[Unit]
Description=Acceptance checks of this image
After=slipway-firstboot.service

[Service]
Type=exec
ExecStart=/bin/sh -c '{_START}'
StandardOutput=journal
"""
#: Values for parameters without a default that are not generated: an accepted one of each type.
_SAMPLES = {
    "string": "sample",
    "hostname": "sample.test",
    "integer": "1",
    "boolean": "true",
    "ipv4": "192.0.2.1",
    "ipv4-cidr": "192.0.2.1/24",
    "secret": "a-sample-secret",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The system credentials of a machine, and its disks by serial number."""

    credentials: Mapping[str, bytes]
    drives: Mapping[str, Path]


def parameter_values(
    parameters: tuple[Parameter, ...], given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return an instance's parameter values, as far as they are known before it starts.

    These are given values, defaults, and samples for parameters without which first boot would
    stop. Values generated in the guest are left out.
    """
    values = dict(given or {})
    for parameter in parameters:
        if parameter.name not in values and not (
            parameter.generate or (parameter.type == "secret" and parameter.default is None)
        ):
            default = parameter.choices[0] if parameter.choices else _SAMPLES[parameter.type]
            values[parameter.name] = parameter.default if parameter.default is not None else default
    return values


def samples(parameters: tuple[Parameter, ...]) -> dict[str, str]:
    """Return the checks' sample values for parameters without a default, by name."""
    known = parameter_values(parameters)
    return {
        each.name: known[each.name]
        for each in parameters
        if each.default is None and each.name in known
    }


def parameter_credentials(
    parameters: tuple[Parameter, ...], values: Mapping[str, str]
) -> dict[str, bytes]:
    """Return the credentials that give an instance these values; defaults are left out."""
    defaults = {parameter.name: parameter.default for parameter in parameters}
    return {
        f"slipway.{name}": value.encode()
        for name, value in values.items()
        if defaults.get(name) != value
    }


def deliver(
    appliance: Appliance, systemd: int, values: Mapping[str, str], factor: int, directory: Path
) -> Delivery:
    """Make the disk of checks, and the credentials or the seed to start it.

    Args:
        systemd: The version of the guest's systemd.
        values: Parameters by name. First boot gets those that differ from their defaults.
        factor: The multiplier of every time limit.
    """
    disk = directory / "checks.tar"
    disk.write_bytes(_archive(appliance, factor))
    credentials = parameter_credentials(appliance.spec.parameters, values)
    drives = {SERIAL: disk}
    if systemd >= 256:
        credentials["systemd.extra-unit.slipway-checks.service"] = _UNIT.encode()
        credentials["systemd.unit-dropin.multi-user.target~slipway"] = (
            b"[Unit]\nWants=slipway-checks.service\n"
        )
    else:
        # Once the system is up.
        start = (
            "systemd-run --no-block --unit=slipway-checks --property=Type=exec /bin/sh -c "
            f"{shlex.quote(_START)}"
        )
        drives[SEED] = make_seed(directory, {"runcmd": [start]})
    return Delivery(credentials=credentials, drives=drives)


def _archive(appliance: Appliance, factor: int) -> bytes:
    """Return a tar archive of the runner, its settings and the guest's checks.

    Its size is a whole number of sectors, as of every tar archive.
    """
    spec = appliance.spec
    services = " ".join(spec.services.enable)
    ports = " ".join(
        dict.fromkeys(f"{port.protocol}/{port.port}" for port in spec.ports if port.last is None)
    )
    growing = " ".join(
        [
            "/state" if spec.root.mode == "read-only" else "/",
            *(volume.path for volume in spec.volumes),
        ]
    )
    settings = {"FACTOR": str(factor), "SERVICES": services, "PORTS": ports, "GROWING": growing}
    guest = [check for check in appliance.checks if check.place == "guest"]
    files = {
        "runner.sh": Path(__file__).with_name("runner.sh").read_bytes(),
        "settings.sh": "".join(
            f"{name}={shlex.quote(value)}\n" for name, value in settings.items()
        ).encode(),
        "list": "".join(f"{check.timeout_s} {check.name}\n" for check in guest).encode(),
        **{f"checks/{check.name}": check.read() for check in guest},
        f"checks/{KIT.name}": KIT.read_bytes(),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            item = tarfile.TarInfo(name)
            item.size, item.mode = len(content), 0o755
            archive.addfile(item, io.BytesIO(content))
    return buffer.getvalue()


def make_seed(directory: Path, config: Mapping[str, object]) -> Path:
    """Make a disk with a cloud-config for cloud-init's NoCloud datasource.

    Args:
        directory: The folder for the disk, one for each machine. Only this user can read it
            afterwards.
    """
    directory.chmod(0o700)
    seed = directory / "seed.img"
    (directory / "meta-data").write_text("instance-id: slipway-checks\n")
    (directory / "user-data").write_text(f"#cloud-config\n{json.dumps(config)}\n")  # JSON is YAML
    with seed.open("wb") as file:
        file.truncate(1 << 20)
    process.run(["mkfs.vfat", "-n", "CIDATA", seed])
    process.run(
        ["mcopy", "-i", seed, directory / "meta-data", directory / "user-data", "::"],
        env={"MTOOLS_SKIP_CHECK": "1"},
    )
    return seed
