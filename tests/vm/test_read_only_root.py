"""An appliance with a read-only root and a volume: what it may write to, and that it is updated as
a whole or not at all.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from machine_script import run_once
from slipway import pipeline
from slipway.boot.machine import make_overlay
from slipway.job import Workshop, prepare
from slipway.terminal.progress import Progress
from slipway.workflows.inspection import verify_reproducible

ROOT = Path(__file__).parents[2]

SLOT = """\
set -eux
# Which slot is in use, and which is the default.
slot() {
    for _ in $(seq 60); do
        slipway-update >/run/slots
        grep "slot $1: my-thing .*in use, default" /run/slots && return 0
        sleep 1
    done
    cat /run/slots
    return 1
}
"""
#: A whole image is in its own slot: what an update reads may be a root without a disk around it.
UPDATE = f"""{SLOT}
slot a
grep 'slot b: empty' /run/slots
if touch /usr/file; then exit 1; fi
test "$(findmnt -no FSTYPE /)" = squashfs
test "$(findmnt -no FSTYPE /etc)" = overlay
test "$(findmnt -no SOURCE /home)" != "$(findmnt -no SOURCE /state)"
test "$(lsblk -nbo SIZE "$(findmnt -no SOURCE /srv/data)")" = 1073741824
echo kept | tee /home/kept /etc/kept /srv/data/kept
if slipway-update --sha256 00 /dev/disk/by-partlabel/root-a; then exit 1; fi
slipway-update | grep 'slot b: empty'
slipway-update /dev/disk/by-partlabel/root-a
slipway-update | grep 'slot b: my-thing .*tried on the next boot'
"""
#: The next update is damaged after it was written.
UPDATED = f"""{SLOT}
slot b
grep -x kept /home/kept /etc/kept /srv/data/kept
slipway-update /dev/disk/by-partlabel/root-b
dd if=/dev/zero of=/dev/disk/by-partlabel/root-a bs=1M count=1 conv=notrunc,fsync
"""
FELL_BACK = f"""{SLOT}
slot b
grep 'slot a: empty' /run/slots
"""


@pytest.mark.nightly
@pytest.mark.timeout(2400)
def test_an_update_replaces_the_root_or_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "templates").symlink_to(ROOT / "templates")
    shop = Workshop(root=tmp_path, progress=Progress(quiet=True))
    spec = shop.library.new("my-thing") / "appliance.yaml"
    with spec.open("a") as file:
        file.write(
            "root: {mode: read-only}\nvolumes:\n  - {name: home, path: /home}\n"
            "  - {name: data, path: /srv/data, size_gib: 1}\n"
        )
    job = prepare(shop, shop.library.load("my-thing"), builder="mmdebstrap", architecture="amd64")
    pipeline.build(shop, job, boot=False)
    assert set(verify_reproducible(shop, job)) == {"qcow2", "raw"}
    disk = tmp_path / "disk.qcow2"
    make_overlay(
        pipeline.built_image(shop, job), disk, size_gib=job.source.appliance.spec.resources.disk_gib
    )
    for script in (UPDATE, UPDATED, FELL_BACK):
        run_once(job, disk, tmp_path, script)
