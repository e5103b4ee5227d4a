"""A program: make many synthetic appliances, then validate, plan and render them all; print seconds
and memory as JSON.

Arguments: the count, the root of the templates, and an empty directory to work in. Every spec
differs. A hundredth of them share a lock, as appliances with the same packages have the same lock.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

from slipway.job import Workshop, prepare
from slipway.packages.lock import Lock, LockedPackage, read_lock, write_lock

__all__ = ["main"]

_LOCKS = 100


def write(directory: Path, count: int, templates: Path, lock: Lock) -> None:
    """Make the appliances."""
    (directory / "templates").symlink_to(templates)
    locks = directory / "locks"
    locks.mkdir()
    for number in range(_LOCKS):
        extra = LockedPackage(
            name=f"package-{number}",
            version="1.0-1",
            architecture="all",
            sha256=f"{number:064x}",
            size=1000,
            archive="debian",
            path=f"pool/package-{number}.deb",
        )
        write_lock(locks / str(number), replace(lock, requested=(extra.name,), packages=(extra,)))
    for number in range(count):
        name = f"appliance-{number:06}"
        folder = directory / "appliances" / name
        (folder / "files/etc").mkdir(parents=True)
        (folder / "checks").mkdir()
        (folder / "appliance.yaml").write_text(
            f"schema: 1\nname: {name}\nversion: 1.{number}.0\nsummary: Number {number}\n"
            f"category: system\nbase: {lock.base}\n"
            f"packages: [package-{number % _LOCKS}]\n"
            f"ports:\n  - {{port: {1024 + number % 60000}, protocol: tcp, purpose: Number "
            f"{number}}}\n"
            f"parameters:\n  - {{name: domain, type: hostname, default: d{number}.example, "
            "summary: Its domain}\n"
        )
        (folder / "files/etc/number.conf.j2").write_text(
            "number = {{ spec.version | ini }}\ndomain = {{ parameters[0].default | ini }}\n"
        )
        (folder / "checks/10-number.sh").write_text(f"grep -q 1.{number}.0 /etc/number.conf\n")
        os.link(locks / str(number % _LOCKS), folder / "lock.amd64.json")


def main(count: int, templates: Path, directory: Path) -> int:
    """Measure the appliances; a lock of the default base is read from standard input."""
    lock_file = directory / "lock"
    lock_file.write_bytes(sys.stdin.buffer.read())
    write(directory, count, templates, read_lock(lock_file))
    started = time.monotonic()
    shop = Workshop(root=directory)
    appliances = shop.library.load_all()
    validated = time.monotonic()
    for appliance in appliances:
        prepare(shop, appliance, builder="mmdebstrap", architecture="amd64")
    done = time.monotonic()
    answer = {
        "validate_s": validated - started,
        "plan_render_s": done - validated,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])))
