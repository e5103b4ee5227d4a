"""Tasks run by other processes: without credentials, or several at once.

Takes a task's words; returns its end, and the folders of the releases it made.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from invoke.exceptions import Exit

    from slipway.job import Job, Workshop

__all__ = ["Apart", "built_apart", "side_by_side"]

#: The words that start a task in a process of its own.
_SLIPWAY: Final = (sys.executable, "-P", "-m", "slipway")


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """The result of a task in another process.

    ``ended`` is the exception for its failure, None after success. ``folders`` are those of
    releases; ``told`` is its document.
    """

    ended: Exit | None
    folders: list[Path]
    told: Mapping[str, Any]


def built_apart(shop: Workshop, name: str, words: Sequence[str], *, json: bool = False) -> Apart:
    """Run a building task in a process without credentials.

    Args:
        json: Have it print a document, and keep that.
    """
    import tempfile

    from slipway.commandline.answer import ended_by, read_document
    from slipway.host.credentials import run_apart
    from slipway.outputs import announced

    with tempfile.TemporaryDirectory(prefix="slipway-") as folder, tempfile.TemporaryFile() as told:
        argv = [*_SLIPWAY, name, *words, f"--built={folder}"]
        code = run_apart([*argv, "--json"], stdout=told) if json else run_apart(argv)
        told.seek(0)
        document = read_document(told.read())
        folders = announced(folder, shop.root, {word for word in words if not word.startswith("-")})
        return Apart(
            ended=ended_by(code, document) if code else None, folders=folders, told=document
        )


def side_by_side(
    shop: Workshop, name: str, jobs: Sequence[Job], at_once: int, options: Sequence[str]
) -> None:
    """Run a task for each job in a process of its own, with these options.

    Raises:
        BuildError: One of them failed.
    """
    from contextlib import closing

    from slipway.errors import BuildError
    from slipway.host.namespace import available_memory_mib
    from slipway.workflows.parallel import Command, run_all

    commands = [
        Command(
            name=job.name, argv=[*_SLIPWAY, name, job.name, *options], memory_mib=job.memory_mib
        )
        for job in jobs
    ]
    failed = []
    room = shop.settings.memory_mib or available_memory_mib() * 3 // 4
    with closing(
        run_all(commands, jobs=at_once, memory_mib=room, progress=shop.progress)
    ) as results:
        for ended in results:
            print(ended.output, end="", flush=True)
            if ended.status:
                failed.append(ended.name)
    if failed:
        raise BuildError(
            f"{len(failed)} of {len(jobs)} appliances failed: {', '.join(failed)}",
            hint="the lines above say why",
        )
