"""The distribution's own tools put another kernel into a running appliance, which then starts from
it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from machine_script import run_once
from slipway import pipeline
from slipway.boot.lab import GATEWAY
from slipway.boot.machine import make_overlay
from slipway.job import Job, Workshop, prepare
from slipway.packages.lock import Lists, Wanted, resolve
from slipway.terminal.progress import Progress

ROOT = Path(__file__).parents[2]

INSTALL = f"""\
set -eux
export DEBIAN_FRONTEND=noninteractive
echo 'deb [trusted=yes] http://{GATEWAY}:8000/ ./' >/run/other.list
options='-oDir::Etc::SourceList=/run/other.list -oDir::Etc::SourceParts=/dev/null'
apt-get $options -q update
apt-get $options -q -y install linux-image-amd64
# Of two kernels of one version the menu's first is by name; the other one is chosen as an
# administrator would.
menu=/boot/grub/grub.cfg
submenu=$(sed -n "s/^submenu .* \\$menuentry_id_option '\\([^']*\\)'.*/\\1/p" $menu)
option="\\$menuentry_id_option '\\([^']*-amd64-advanced-[^']*\\)'"
entry=$(sed -n "s/^[[:space:]]*menuentry .* $option.*/\\1/p" $menu | grep -v cloud)
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


@pytest.mark.nightly
@pytest.mark.timeout(2400)
def test_another_kernel_is_installed_and_started(job: tuple[Workshop, Job], tmp_path: Path) -> None:
    shop, made = job
    appliance = made.source.appliance
    other = resolve(
        appliance.base,
        "generic",
        "amd64",
        Wanted(),
        lists=Lists(mirrors=shop.mirrors, folder=shop.settings.cache / "apt"),
        pool=shop.pool,
    )
    known = {package.name for package in made.source.lock.all_packages}
    packages = [package for package in other.all_packages if package.name not in known]
    assert any(package.name.startswith("linux-image-") for package in packages)
    shop.pool.fetch(packages, shop.mirrors)
    shop.pool.repository(packages, tmp_path / "repository")
    disk = tmp_path / "disk.qcow2"
    make_overlay(pipeline.built_image(shop, made), disk, size_gib=appliance.spec.resources.disk_gib)
    run_once(made, disk, tmp_path, INSTALL, tmp_path / "repository")
    run_once(made, disk, tmp_path, EXPECT, tmp_path / "repository")
