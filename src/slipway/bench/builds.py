"""The rows: a small server (nginx) built cold, with one more package, with one file changed and
with nothing changed; commands; many specs.

The control is ``mmdebstrap --variant=minbase`` of the same release from the host's mirror. It runs
once as it is, in the directory for temporary files, and once in memory, like Slipway. The floor is
``dpkg-deb -x`` of all the packages.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from slipway.bench import Report, Row, Usage, machine, measured, middle
from slipway.host import process
from slipway.host.namespace import MOUNT, Namespace
from slipway.job import Workshop, lock, lock_path
from slipway.packages.locked import Lock

__all__ = ["bench"]

_NAME = "bench"
_SPEC = """\
schema: 1
name: bench
version: 1.0.0
summary: A small web server
category: system
packages: [{packages}]
"""
#: Small packages without dependencies of their own: what is added, another one in each run.
_ADDED = ("tree", "ncdu", "pv", "bc", "rename", "dos2unix", "moreutils")
_SPECS = 10_000


@dataclass(kw_only=True)
class _Bench:
    """A root of its own with one appliance, and the measurements so far."""

    shop: Workshop
    place: Path
    runs: int
    rows: list[Row] = field(default_factory=list)
    profiles: dict[str, dict[str, float]] = field(default_factory=dict)
    log: Path = field(init=False)
    root: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.place / "log"
        self.root = self.place / "root"
        (self.root / "appliances" / _NAME).mkdir(parents=True)
        (self.root / "templates").symlink_to(self.shop.root / "templates")

    def write(self, *packages: str) -> Lock:
        """Put these packages into the spec, the lock and the pool."""
        folder = self.root / "appliances" / _NAME
        (folder / "appliance.yaml").write_text(_SPEC.format(packages=", ".join(packages)))
        shop = Workshop(root=self.root, progress=self.shop.progress)
        appliance = shop.library.load(_NAME)
        made, _ = lock(shop, appliance, "amd64")
        shop.pool.fetch(made.all_packages, shop.mirrors, self.log)
        return made

    def cache(self, name: str) -> dict[str, str]:
        """Return the environment for an otherwise empty cache with the packages."""
        directory = self.place / name
        directory.mkdir()
        (directory / "pool").symlink_to(self.shop.pool.directory)
        return {"SLIPWAY_CACHE": str(directory)}

    def disk(self, env: dict[str, str], profile: str) -> Usage:
        """Make the raw disk and measure it; the seconds of each step become a profile."""
        said = self.place / "said"
        said.unlink(missing_ok=True)
        usage = measured(
            [
                "sh",
                "-c",
                '"$0" -m slipway.bench.disk "$1" "$2" >"$3"',
                sys.executable,
                self.root,
                _NAME,
                said,
            ],
            env={**_python(), **env},
            log=self.log,
        )
        self.profiles[profile] = json.loads(said.read_text())
        return usage

    def invoke(self, *words: str | Path, env: dict[str, str] | None = None) -> Usage:
        """Run a whole command and measure it."""
        argv = [sys.executable, "-m", "invoke", "--search-root", self.shop.root, *words]
        return measured(argv, env={**_python(), **(env or {})}, log=self.log)

    def row(
        self, name: str, value: float, unit: str, goal: float | None = None, detail: str = ""
    ) -> None:
        """Add a row and show it."""
        self.rows.append(Row(name=name, value=value, unit=unit, goal=goal, detail=detail))
        self.shop.progress.note("bench", f"{name}: {value:.2f} {unit}")


def bench(shop: Workshop, *, runs: int) -> Report:
    """Measure everything; it takes some minutes.

    Raises:
        BuildError: A measured command failed.
    """
    with shop.cache.scratch() as place:
        state = _Bench(shop=shop, place=place, runs=runs)
        about = machine()
        env = _cold(state)
        _warm(state, env)
        _commands(state, env)
        _many_specs(state)
        return Report(machine=about, rows=state.rows, profiles=state.profiles)


def _python() -> dict[str, str]:
    return {"PYTHONPATH": str(Path(__file__).parents[2])}


def _control(state: _Bench, directory: Path) -> list[str | Path]:
    mirror = state.shop.mirrors["debian"]
    return [
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        "trixie",
        directory / "control.tar",
        mirror,
    ]


@contextmanager
def _memory() -> Iterator[Namespace]:
    with Namespace(memory_mib=4096) as namespace:
        yield namespace


def _cold(state: _Bench) -> dict[str, str]:
    """Build from nothing but the packages; return the environment of the cache with the result."""
    packages = state.write("nginx")
    control: list[Usage] = []
    in_memory: list[Usage] = []
    ours: list[Usage] = []
    floor: list[Usage] = []
    env: dict[str, str] = {}
    for number in range(state.runs):
        with state.shop.progress.step("bench") as step:
            step.detail = f"control and cold build, {number + 1} of {state.runs}"
            control.append(measured(_control(state, state.place), log=state.log))
            with _memory() as namespace:
                in_memory.append(
                    measured(
                        [*namespace.enter, "env", f"TMPDIR={MOUNT}", *_control(state, MOUNT)],
                        log=state.log,
                    )
                )
                floor.append(_unpack_all(state, namespace, packages))
            env = state.cache(f"cold-{number}")
            ours.append(state.disk(env, "cold"))
    base, fast, mine, least = middle(control), middle(in_memory), middle(ours), middle(floor)
    for name, usage in (
        ("control", base),
        ("control, in memory", fast),
        ("floor: dpkg-deb -x of the same packages, in memory", least),
    ):
        state.row(name, usage.wall_s, "s", detail=f"{usage.cpu_s:.1f} CPU s")
    count = f"{len(packages.all_packages)} packages, {mine.wall_s:.1f} s, {mine.cpu_s:.1f} CPU s"
    state.row(
        "cold, time",
        mine.wall_s / base.wall_s,
        "x control",
        1.0,
        f"{count}; {mine.wall_s / fast.wall_s:.2f} x in memory",
    )
    state.row(
        "cold, processor time",
        mine.cpu_s / base.cpu_s,
        "x control",
        1.0,
        f"{mine.cpu_s / fast.cpu_s:.2f} x in memory",
    )
    return env


def _unpack_all(state: _Bench, namespace: Namespace, packages: Lock) -> Usage:
    """Measure unpacking alone."""
    files = [state.shop.pool.path(package) for package in packages.all_packages]
    script = 'mkdir /mnt/floor && for file; do dpkg-deb -x "$file" /mnt/floor; done'
    return measured([*namespace.enter, "sh", "-eu", "-c", script, "sh", *files], log=state.log)


def _warm(state: _Bench, env: dict[str, str]) -> None:
    """Build with the earlier build's cache."""
    added: list[Usage] = []
    changed: list[Usage] = []
    for number in range(state.runs):
        with state.shop.progress.step("bench") as step:
            step.detail = f"one more package, one file changed, {number + 1} of {state.runs}"
            state.write("nginx", _ADDED[number % len(_ADDED)])
            added.append(state.disk(env, "one more package"))
            motd = state.root / "appliances" / _NAME / "files/etc/motd"
            motd.parent.mkdir(parents=True, exist_ok=True)
            motd.write_text(f"change {number}\n")
            changed.append(state.disk(env, "one file changed"))
    for name, usages, goal in (
        ("one more package", added, 4.0),
        ("one file changed", changed, 2.0),
    ):
        usage = middle(usages)
        state.row(f"{name} -> raw disk", usage.wall_s, "s", goal, f"{usage.cpu_s:.1f} CPU s")


def _commands(state: _Bench, env: dict[str, str]) -> None:
    """Measure whole commands, and the results of a whole build."""
    build = ("build", _NAME, "--no-boot", "--root", state.root)
    with state.shop.progress.step("bench") as step:
        step.detail = "commands"
        state.write("nginx")
        state.invoke(*build, env=env)
        usage = middle([state.invoke(*build, env=env) for _ in range(state.runs)])
        listed = middle(
            [state.invoke("list", "--root", state.shop.root) for _ in range(state.runs)]
        )
    state.row("nothing changed: invoke build", usage.wall_s, "s", 0.5, f"{usage.cpu_s:.2f} CPU s")
    state.row("invoke list", listed.wall_s, "s", 0.3, f"{listed.cpu_s:.2f} CPU s")
    (image,) = (state.root / "build" / _NAME).glob("*/*.qcow2")
    state.row("small server, qcow2", image.stat().st_size / 1e6, "MB", 95)
    with state.shop.progress.step("bench") as step:
        step.detail = "a second build from an empty cache"
        state.invoke(*build, "--verify-reproducible", env=env)
    state.row(
        "bytes that differ between two builds",
        0,
        "",
        0,
        "raw and qcow2; a difference ends the measuring with its files",
    )


def _many_specs(state: _Bench) -> None:
    """Validate, plan and render."""
    with state.shop.progress.step("bench") as step:
        answers = []
        for count in (_SPECS, 2 * _SPECS):
            step.detail = f"{count} specs"
            answers.append(_specs(state, count))
    one, two = answers
    times = [sum((answer["validate_s"], answer["plan_render_s"])) for answer in answers]
    detail = f"validate {one['validate_s']:.1f} s before that; peak {one['peak_mib']:.0f} MiB"
    state.row(f"plan and render {_SPECS} specs", one["plan_render_s"], "s", 20, detail)
    growth = times[1] / times[0]
    state.row("twice as many specs", growth, "x the time", 2.2, f"peak {two['peak_mib']:.0f} MiB")


def _specs(state: _Bench, count: int) -> dict[str, float]:
    with state.shop.cache.scratch() as directory:
        file = lock_path(Workshop(root=state.root).library.load(_NAME), "amd64")
        argv: Sequence[str | Path] = [
            sys.executable,
            "-m",
            "slipway.bench.specs",
            str(count),
            state.shop.root / "templates",
            directory,
        ]
        answer = process.run(
            argv,
            env={**_python(), "SLIPWAY_CACHE": str(state.shop.settings.cache)},
            input=file.read_bytes(),
        )
        found: dict[str, float] = json.loads(answer.stdout)
        return found
