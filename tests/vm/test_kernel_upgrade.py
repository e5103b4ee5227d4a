"""The distribution's own tools put another kernel into a running appliance, which then starts from it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from slipway import pipeline, process
from slipway.accelerator import probe
from slipway.boot.checks import follow, systemd_version
from slipway.boot.delivery import PORT, deliver
from slipway.boot.lab import GATEWAY, lab
from slipway.boot.machine import Machine, make_overlay, running
from slipway.cache import sha256_of
from slipway.job import Job, Workshop, prepare
from slipway.packages.lock import resolve
from slipway.progress import Progress
from slipway.spec.folder import Check

ROOT = Path(__file__).parents[2]

INSTALL = f"""\
set -eux
export DEBIAN_FRONTEND=noninteractive
echo 'deb [trusted=yes] http://{GATEWAY}:8000/ ./' >/run/other.list
options='-oDir::Etc::SourceList=/run/other.list -oDir::Etc::SourceParts=/dev/null'
apt-get $options -q update
apt-get $options -q -y install linux-image-amd64
# Of two kernels of one version the menu's first is by name; the other one is chosen as an administrator would.
menu=/boot/grub/grub.cfg
submenu=$(sed -n "s/^submenu .* \\$menuentry_id_option '\\([^']*\\)'.*/\\1/p" $menu)
entry=$(sed -n "s/^[[:space:]]*menuentry .* \\$menuentry_id_option '\\([^']*-amd64-advanced-[^']*\\)'.*/\\1/p" $menu | grep -v cloud)
echo "GRUB_DEFAULT='$submenu>$entry'" >/etc/default/grub.d/99-other.cfg
update-grub
"""
EXPECT = "uname -r; case $(uname -r) in *cloud*) exit 1 ;; *-amd64) exit 0 ;; esac; exit 1"


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workshop, Job]:
    """A new appliance, built but not checked."""
    root = tmp_path_factory.mktemp("kernel")
    (root / "templates").symlink_to(ROOT / "templates")
    shop = Workshop(root=root, progress=Progress(quiet=True))
    shop.library.new("my-thing")
    made = prepare(shop, shop.library.load("my-thing"), builder="mmdebstrap", architecture="amd64")
    pipeline.build(shop, made, boot=False)
    return shop, made


def run_once(job: Job, disk: Path, work: Path, script: str, serve: Path) -> None:
    """Start the machine on its disk, with a web server beside it, and have one script pass in it."""
    appliance, lock = job.source.appliance, job.source.lock
    check = work / "10-kernel.sh"
    check.write_text(script)
    checked = replace(appliance, checks=(Check(name=check.name, path=check, place="guest", timeout_s=300, sha256=sha256_of(check)),))
    accelerator = probe()
    results, console = work / "results", work / "console.log"
    results.write_bytes(b"")
    delivery = deliver(checked, systemd_version(lock), {}, 1 if accelerator.name == "kvm" else 4, work)
    server: list[str | Path] = [sys.executable, "-m", "http.server", "8000", "--bind", GATEWAY, "--directory", serve]
    with lab(["outside"], log=work / "network.log") as network, process.spawn([*network.enter, *server]):
        machine = Machine.for_base(
            appliance.base,
            lock.architecture,
            cpus=2,
            memory_mib=1024,
            disk=disk,
            firmware="bios",
            accelerator=accelerator,
            console=console,
            networks=network.networks(),
            credentials=delivery.credentials,
            drives=delivery.drives,
            ports={PORT: results},
        )
        with running(machine, enter=network.enter, log=work / "qemu.log") as guest:
            found = list(follow(guest, results, console, start_s=420, check_s=1300))
            assert guest.power_off(120)
    failed = [f"{each.name}: {each.output}" for each in found if not each.passed]
    assert not failed, "\n".join(failed) + process.tail(console)


@pytest.mark.timeout(2400)
def test_another_kernel_is_installed_and_started(job: tuple[Workshop, Job], tmp_path: Path) -> None:
    shop, made = job
    appliance = made.source.appliance
    other = resolve(appliance.base, "generic", "amd64", (), mirrors=shop.mirrors, pool=shop.pool, apt_root=shop.settings.cache / "apt")
    known = {package.name for package in made.source.lock.all_packages}
    packages = [package for package in other.all_packages if package.name not in known]
    assert any(package.name.startswith("linux-image-") for package in packages)
    shop.pool.fetch(packages, shop.mirrors)
    shop.pool.repository(packages, tmp_path / "repository")
    disk = tmp_path / "disk.qcow2"
    make_overlay(pipeline.built_image(shop, made), disk, size_gib=appliance.spec.resources.disk_gib)
    run_once(made, disk, tmp_path, INSTALL, tmp_path / "repository")
    run_once(made, disk, tmp_path, EXPECT, tmp_path / "repository")
