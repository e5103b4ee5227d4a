"""Packer itself takes what is rendered: every appliance here, for every platform that it can be had
for.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from slipway.builders import packer as packer_module
from slipway.builders.packer import Packer, packer_version
from slipway.errors import BuildError, UsageError
from slipway.host.sshkey import make_key
from slipway.job import Job, Workshop, prepare
from slipway.terminal.progress import Progress

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        packer_version() is None, reason="this distribution has no package of Packer"
    ),
]

#: What the variables of who builds are taken from.
SECRETS = dict.fromkeys(("PROXMOX_PASSWORD", "VSPHERE_USER", "VSPHERE_PASSWORD"), "x") | {
    f"ARM_{name}": "x" for name in ("SUBSCRIPTION_ID", "CLIENT_ID", "CLIENT_SECRET")
}


def packer(folder: Path, *words: str) -> str:
    env = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(folder),
        "CHECKPOINT_DISABLE": "1",
        "PACKER_NO_COLOR": "1",
    } | SECRETS
    ran = subprocess.run(
        ["packer", *words, "."], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def written(job: Job, folder: Path, targets: tuple[str, ...]) -> None:
    """The folder as it is rendered, with a real key.

    The disks are empty, for nobody starts them here.
    """
    job.builder.render(job.source, targets).write(folder)
    key = make_key(folder / "key", "test")
    (folder / "repository").mkdir()
    (folder / "seed").mkdir()
    (folder / "seed/meta-data").write_text("instance-id: x\n")
    (folder / "seed/user-data").write_text(key)
    for name in ("base.ova", "base.qcow2", "base.vhdx"):
        (folder / name).touch()
        (folder / f"{name}.sha256").write_text(f"{'0' * 64}  {name}\n")


def possible(job: Job) -> tuple[str, ...]:
    """The platforms whose machines the appliance's kernel has drivers for."""
    found = []
    for target in Packer.targets:
        try:
            job.builder.render(job.source, (target,))
            found.append(target)
        except BuildError as error:
            assert "has hardware that the cloud kernel" in error.message
    return tuple(found)


@pytest.mark.parametrize("name", Workshop(root=ROOT).library.names())
def test_packer_validates_every_platform(name: str, tmp_path: Path) -> None:
    shop = Workshop(root=ROOT, progress=Progress(quiet=True))
    appliance = shop.library.load(name)
    if appliance.spec.root.mode == "read-only":
        with pytest.raises(
            UsageError, match=f"{name} has a read-only root, which Packer's build cannot make"
        ):
            prepare(shop, appliance, builder="packer", architecture="amd64")
        return
    job = prepare(shop, appliance, builder="packer", architecture="amd64")
    targets = possible(job)
    assert len(targets) >= len(Packer.targets) - 2
    written(job, tmp_path / "all", targets)
    packer(tmp_path / "all", "validate")
    scripts = sorted((tmp_path / "all/provision").glob("*.sh"))
    subprocess.run(["shellcheck", "-s", "sh", "-e", "SC1091", *scripts], check=True)
    packer(tmp_path / "all", "fmt", "-check", "-diff")


def test_what_is_rendered_for_todays_packer_is_formatted_as_it_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packer_module, "packer_version", lambda: (1, 11, 2))
    shop = Workshop(root=ROOT, progress=Progress(quiet=True))
    job = prepare(
        shop, shop.library.load(shop.library.names()[0]), builder="packer", architecture="amd64"
    )
    written(job, tmp_path / "all", possible(job))
    assert "required_plugins" in (tmp_path / "all/qemu.pkr.hcl").read_text()
    packer(tmp_path / "all", "fmt", "-check", "-diff")
