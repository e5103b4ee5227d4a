"""A month of nights, promotions, refreshes, a rollback and a withdrawal: the workflows' own
commands, on moved clocks.

Five of six nights are lost, as where the forge's schedule stands still. Just before the next one
that is not, somebody without keys reads every channel.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from example_release import write_example
from workflow_steps import ROOT, load, make_project, run_job, shell

DAYS, GAP = 31, 6
#: Day -> release, from, to.
PROMOTIONS = {
    0: [("b0", "nightly", "candidate"), ("b0", "candidate", "stable")],
    6: [("b6", "nightly", "candidate"), ("b6", "candidate", "stable")],
}


class Repository:
    """What GitHub keeps between runs: the bundle of each environment, the memory of each cache, the
    variables.
    """

    def __init__(self, folder: Path) -> None:
        self.project = make_project(folder)
        matrix = load(ROOT / ".github/workflows/refresh.yml")["jobs"]["refresh"]["strategy"][
            "matrix"
        ]["channel"]
        found = re.search(r"'(\[.*\])'", matrix)
        assert found
        self.channels: list[str] = json.loads(found[1])
        self.bundles: dict[str, str] = {}
        keys = {"SLIPWAY_KEYS": str(folder / "keys")}
        (folder / "trust").mkdir()
        for channel in self.channels:
            shell(folder, f"./run keys init {channel}", keys)
            self.bundles[channel] = shell(folder, f"./run keys export {channel}", keys)
            self.bundles[f"{channel}-online"] = shell(
                folder, f"./run keys export {channel} --online", keys
            )
            shutil.copy(
                folder / f"keys/{channel}/1.root.json", folder / f"trust/{channel}.root.json"
            )

    def job(self, workflow: str, job: str, environment: str, day: float, **variables: str) -> None:
        """Run a job in an environment."""
        memory = self.project / f"state-{environment.removesuffix('-online')}"
        memory.mkdir(exist_ok=True)
        given = {
            "SLIPWAY_STATE": str(memory),
            "SLIPWAY_STORE": str(self.project / "store"),
            **variables,
        }
        if environment in self.bundles:
            given["SLIPWAY_KEY_BUNDLE"] = self.bundles[environment]
        run_job(self.project, workflow, job, given, day=day)

    def read(self, day: float, status: int = 0) -> str:
        """Audit every channel without keys, as somebody whose memory goes back to the first day."""
        given = {
            "SLIPWAY_STORE": str(self.project / "store"),
            "XDG_STATE_HOME": str(self.project / "reader"),
        }
        return shell(self.project, "./run verify", given, day=day, status=status)


def build(repository: Repository, day: int) -> None:
    """Leave what the night's jobs leave: a new release."""
    shutil.rmtree(repository.project / "built", ignore_errors=True)
    write_example(repository.project / f"built/build-example/1.0.0-b{day}", day)


@pytest.mark.nightly
@pytest.mark.timeout(2400)
def test_a_month_of_nights_leaves_every_channel_readable(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    for day in range(0, DAYS, GAP):
        build(repository, day)
        repository.job("nightly", "publish", "nightly", day + 0.01)
        for release, source, target in PROMOTIONS.get(day, []):
            named = {"APPLIANCE": "example", "BUILD": release, "FROM": source, "TO": target}
            repository.job("promote", "promote", target, day + 0.02, **named)
        if day == 12:
            repository.job(
                "rollback",
                "rollback",
                "stable",
                day + 0.03,
                APPLIANCE="example",
                CHANNEL="stable",
                BUILD="",
            )
        if day == 18:
            for channel in ("stable", "candidate", "nightly"):
                named = {
                    "APPLIANCE": "example",
                    "BUILD": "b6",
                    "REASON": "a test",
                    "CHANNEL": channel,
                }
                repository.job("withdraw", "withdraw", channel, day + 0.03, **named)
        for channel in repository.channels:
            repository.job("refresh", "refresh", f"{channel}-online", day + 0.1, CHANNEL=channel)
        if day == 24:
            repository.job("gc", "gc", "gc", day + 0.2)
        repository.read(day + GAP)
    listed = shell(
        tmp_path, "./run channels --json", {"SLIPWAY_STORE": str(tmp_path / "store")}, day=DAYS
    )
    current = {row["channel"]: row["current"] for row in json.loads(listed)["holdings"]}
    assert current == {"stable": "1.0.0-b0", "candidate": "1.0.0-b0", "nightly": "1.0.0-b30"}
    # Without the schedule a channel ends within a week, and its readers are told.
    assert "expired" in repository.read(DAYS + GAP + 8, status=7)
