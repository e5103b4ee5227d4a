"""A failed build or check for a person to look at: the kept machine, or a shell.

The shell is in the machine, or in the tree of an image. What goes in: options, and the machine or
the tree while it exists. What comes out: lines on the terminal. All of it needs a terminal, and one
appliance at a time.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipway.commandline.invocation import option
from slipway.commands.output import until_ctrl_c
from slipway.terminal.text import aside, one_line, plain

if TYPE_CHECKING:
    from slipway.boot.trial import Held
    from slipway.builders import Broken

__all__ = ["Holding"]


@dataclass(frozen=True, slots=True)
class Holding:
    """The options for a machine with failed checks, and for a tree with failed scripts."""

    keep_failed: bool = option(
        False, "keep the machine of a failed check until Enter or Ctrl-C; needs a terminal"
    )
    debug: bool = option(
        False,
        "a shell in the machine of a failed check, or in the tree of a failed setup step; needs a"
        " terminal",
    )

    def require_terminal(self, *, alone: bool) -> None:
        """Refuse these options if nobody can look.

        Args:
            alone: This process works on one appliance after the other.

        Raises:
            UsageError: There is no terminal, or several appliances are worked on at once.
        """
        from slipway.errors import UsageError

        name = "--debug" if self.debug else "--keep-failed"
        if not (self.debug or self.keep_failed):
            return
        if not alone:
            raise UsageError(
                f"{name} does not go with --jobs or --publish",
                hint="build one at a time, then publish",
            )
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UsageError(
                f"{name} needs a terminal: somebody must say when the machine may go",
                hint="leave it out; logs are kept",
            )

    @property
    def on_failure(self) -> Callable[[Held], None] | None:
        """The callback for a failed machine; None if nobody looks at it."""
        return self._look if self.debug or self.keep_failed else None

    @property
    def on_broken(self) -> Callable[[Broken], None] | None:
        """The callback for a tree with failed scripts; None if nobody looks at it."""
        return _enter if self.debug else None

    def _look(self, held: Held) -> None:
        with aside():
            print(one_line(f"{held.appliance}: {held.why}"))
            print(f"  console: {held.console}", flush=True)
            if self.debug:
                _log_in(held)
            if self.keep_failed:
                # A reader of the line about Ctrl-C may press it before the next line runs.
                with until_ctrl_c():
                    print(f"  log in:  {shlex.join(held.login)}")
                    print("the machine runs until Enter or Ctrl-C", flush=True)
                    _wait(held)
                print("going on: the machine is switched off", flush=True)


def _wait(held: Held) -> None:
    """Wait for a line, or for the machine's own end."""
    while held.guest.ended is None:
        if select.select([sys.stdin], [], [], 1.0)[0]:
            sys.stdin.readline()
            return
    print("the machine has ended by itself", flush=True)


def _log_in(held: Held) -> None:
    print("a shell in the machine; leave it by: exit", flush=True)
    if _shell([*held.login, "-t"]) == 255:  # ssh(1): an error of its own
        print("nobody could log in; its console says more", flush=True)


def _enter(broken: Broken) -> None:
    with aside():
        print(plain(broken.why))
        print(f"a shell in the {broken.stage} as it was left, at /; leave it by: exit", flush=True)
        _relay(broken.shell)
        print("going on: the tree is removed", flush=True)


def _shell(words: Sequence[str]) -> int:
    """Give the terminal to a program until it ends.

    script(1) gives it a terminal of its own, needed for job control.
    """
    from slipway.host import process

    argv = ["script", "--quiet", "--return", "--command", shlex.join(words), "/dev/null"]
    told = {"TERM": os.environ.get("TERM", "dumb")}
    with process.spawn(argv, env=told, stdin=sys.stdin.fileno(), stdout=1, stderr=2) as child:
        return child.wait()


def _relay(words: Sequence[str]) -> None:
    """Pass lines between the terminal and a program until it ends.

    The box of a tree takes no terminal; control characters from it are shown and not obeyed.
    """
    from slipway.host import process

    pipe, decoder = subprocess.PIPE, codecs.getincrementaldecoder("utf-8")("replace")
    typed = sys.stdin.fileno()
    with process.spawn(words, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT) as child:
        assert child.stdin and child.stdout
        said, watched = child.stdout.fileno(), {child.stdout.fileno(), typed}
        while said in watched:
            ready = select.select(watched, [], [])[0]
            if said in ready:
                data = os.read(said, 1 << 16)
                print(decoder.decode(data), end="", flush=True)
                watched -= set() if data else {said}
            elif line := os.read(typed, 1 << 16):
                with contextlib.suppress(BrokenPipeError):
                    child.stdin.write(line)
                    child.stdin.flush()
            else:
                watched.remove(typed)
                child.stdin.close()
