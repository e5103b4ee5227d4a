"""README.md's recorded run: its lines are those that the program prints today."""

from __future__ import annotations

import io
import re
from pathlib import Path

from slipway.boot.trial import expected_checks
from slipway.channels.moves import Moved
from slipway.channels.session import describe
from slipway.job import Workshop, prepare
from slipway.terminal.progress import Progress

ROOT = Path(__file__).parents[2]
STEP = re.compile(r"  (\S+) +(\S.*?) +((?:\d+ min \d\d|\d+\.\d) s)")


def runs() -> dict[str, list[str]]:
    """The recorded commands, each with its lines."""
    _, _, rest = (ROOT / "README.md").read_text().partition("\n## A recorded run\n")
    _, block, _ = rest.split("```", 2)
    found: dict[str, list[str]] = {}
    for line in block.splitlines()[1:]:
        if line.startswith("$ "):
            found[line[2:]] = []
        elif line.strip() != "...":
            [*found.values()][-1].append(line)
    return found


def as_printed(line: str) -> str:
    """A step's line as it would be printed in a pipe."""
    found = STEP.fullmatch(line)
    assert found, line
    label, detail, took = found.groups()
    return Progress(io.StringIO())._columns(label, detail, took)


def test_the_build_is_one_of_this_appliance_and_its_lines_are_the_programs() -> None:
    command = next(each for each in runs() if each.startswith("./run build "))
    headline, *steps = runs()[command]
    shop = Workshop(root=ROOT, progress=Progress(quiet=True))
    appliance = shop.library.load(command.split()[-1])
    base = appliance.base
    assert headline == f"{appliance.name} {appliance.spec.version} for amd64 on {base.summary}"
    assert [as_printed(line) for line in steps] == steps
    job = prepare(shop, appliance, builder="mmdebstrap", architecture="amd64")
    kinds = [stage.kind.removeprefix("artifact:") for stage in job.plan.stages]
    labels = [line.split()[0] for line in steps]
    assert set(labels) <= set(kinds) and labels[0] == kinds[0] and labels[-1] == "boot"
    count = len(expected_checks(appliance))
    assert f" {count} of {count} checks passed (tcg, bios) " in steps[-1]


def test_publications_and_promotions_are_told_in_these_words() -> None:
    moved = re.compile(r"(\S+): (\S+) now has (\S+) \(before: none\)")
    seen = 0
    for command, lines in runs().items():
        for line in lines:
            if found := moved.fullmatch(line):
                name, channel, release = found.groups()
                deed = Moved(
                    appliance=name, channel=channel, release=release, before=None, written=True
                )
                assert describe(deed)[0] == line, command
                seen += 1
            elif STEP.fullmatch(line) and "publish" in command:
                assert as_printed(line) == line
    assert seen == 2
