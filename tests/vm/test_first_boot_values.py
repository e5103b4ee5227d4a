"""First boot of every appliance with every kind of value: it works, or is refused by the
parameter's name before anything is made.

Nothing boots: an appliance's tree is unpacked, and its first boot runs in it once for each value.
No value is ever a command.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slipway import pipeline
from slipway.job import Workshop, prepare
from slipway.terminal.progress import Progress

pytestmark = [pytest.mark.vm, pytest.mark.nightly, pytest.mark.timeout(7200)]

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests/support/first_boot_values.py"
#: Also those whose parameters are their mix-ins' alone. Of a read-only root there is no archive of
#: files to unpack.
NAMES = sorted(
    path.parent.name
    for path in (ROOT / "appliances").glob("*/appliance.yaml")
    if "mode: read-only" not in path.read_text()
)


def complaint(tried: dict[str, Any]) -> str:
    """Return what is wrong with the end of a case; empty if nothing is."""
    if tried["run"]:
        return "its value was run as a command"
    if tried["status"] == 0:
        return ""
    said = [line.strip() for line in tried["said"].splitlines()]
    if not any(
        line.startswith(f"{tried['parameter']}") or f" {tried['parameter']} " in line
        for line in said
    ):
        return f"it failed without the parameter's name: {said[-3:]}"
    return f"it was refused after {tried['made']} had been made" if tried["made"] else ""


@pytest.mark.parametrize("name", NAMES)
def test_every_legal_value_works_or_is_refused_by_name(name: str, tmp_path: Path) -> None:
    shop = Workshop(root=ROOT, progress=Progress(quiet=True))
    job = prepare(
        shop,
        shop.library.load(name),
        builder="mmdebstrap",
        architecture="amd64",
        formats=["rootfs"],
    )
    (archive,) = pipeline.build(shop, job, boot=False).folder.glob("*.rootfs.tar.zst")
    tree = tmp_path / "tree"
    tree.mkdir()
    enter = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    enter += [] if os.geteuid() == 0 else ["--map-auto", "--map-root-user"]
    script = 'tar --zstd --numeric-owner -xpf "$1" -C "$2" && exec "$3" "$4" "$2"'
    ended = subprocess.run(
        [*enter, "sh", "-c", script, "sh", archive, tree, sys.executable, PROGRAM],
        capture_output=True, text=True, timeout=7000, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    tried = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(tried) >= 2
    wrong = [
        f"{item['parameter']} = {item['value'][:60]!r}: {text}"
        for item in tried
        if (text := complaint(item))
    ]
    assert wrong == []
