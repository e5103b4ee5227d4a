"""Two builds of one appliance at once, with a prune and a reader beside them: real processes lose
nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from example_root import make_root

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests/support/race_builder.py"
SPEC = """\
schema: 1
name: thing
version: 1.0.0
summary: A thing
category: system
packages: [web]
formats: [qcow2, raw]
"""


@pytest.mark.parametrize("rounds", [6, pytest.param(200, marks=pytest.mark.nightly)])
def test_two_builds_and_a_prune_at_once_lose_nothing(
    rounds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_root(
        tmp_path, "thing", {"appliance.yaml": SPEC, "README.md": "A thing\n"}, monkeypatch
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}

    def start(*words: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-P", str(PROGRAM), words[0], str(root), *words[1:]]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            argv, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )

    with (
        start("prune") as pruning,
        start("look") as looking,
        start("build", str(rounds), "one") as one,
        start("build", str(rounds), "two") as two,
    ):
        try:
            for each in (one, two):
                said, errors = each.communicate(timeout=60 + 10 * rounds)
                assert (each.returncode, said) == (0, "whole\n" * rounds), errors[-3000:]
            for each in (pruning, looking):
                said, errors = each.communicate("", timeout=60)
                assert each.returncode == 0, errors[-3000:]
                assert int(said) > 0
        finally:
            for each in (pruning, looking, one, two):
                each.kill()
    left = [path.name for path in (tmp_path / "cache/scratch").iterdir()] + [
        path.name for path in (root / "build/thing").glob(".*.new")
    ]
    assert left == []
