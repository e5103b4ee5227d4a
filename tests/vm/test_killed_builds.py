"""A build that is killed, wherever it is, leaves nothing behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from pathlib import Path

import pytest

from new_project import command, environment, invoke, leftovers, make_project, release

KILLS = 20


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose appliance was built once, so that the base is in its cache."""
    root = make_project(tmp_path_factory.mktemp("project"))
    invoke(root, "build", "my-thing", "--no-boot")
    return root


def test_a_build_that_is_killed_leaves_nothing_and_the_next_one_completes_it(project: Path) -> None:
    chance = random.Random(20)
    motd = project / "appliances/my-thing/files/etc/motd.j2"
    for number in range(KILLS):
        motd.write_text(f"my-thing 0.1.{number}: tried\n")
        with subprocess.Popen(
            command(project, "build", "my-thing", "--no-boot"),
            env=environment(project),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as build:
            try:
                build.wait(chance.uniform(0.2, 9))
            except subprocess.TimeoutExpired:
                build.send_signal(signal.SIGKILL)
            build.wait()
        for _ in range(2000):
            if not (left := leftovers(project)):
                break
            os.sched_yield()
        assert not left, left
    invoke(project, "build", "my-thing", "--no-boot")
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=release(project), check=True)
    assert not [path for path in (project / "cache/scratch").iterdir()]
    assert not [
        path
        for path in (project / "build/my-thing").iterdir()
        if path.name.startswith(".") and not path.name.startswith(".seen-")
    ]
