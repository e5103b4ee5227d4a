"""A machine that failed, for a person to look at: kept until they have seen enough, or a shell in
it.

What goes in: options, and the machine while it runs. What comes out: lines on the terminal. Both
want a terminal, and one machine at a time.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipway.invocation import option
from slipway.terminal import aside, one_line

if TYPE_CHECKING:
    from slipway.boot.trial import Held

__all__ = ["Holding"]


@dataclass(frozen=True, slots=True)
class Holding:
    """What becomes of a machine whose checks failed."""

    keep_failed: bool = option(
        False, "keep the machine of a failed check until Enter or Ctrl-C; wants a terminal"
    )
    debug: bool = option(False, "when a check fails, log in to its machine; wants a terminal")

    def require_terminal(self, *, alone: bool) -> None:
        """Refuse what nobody could look at.

        Args:
            alone: One appliance after the other is worked on, by this process.

        Raises:
            UsageError: There is no terminal, or several work at once.
        """
        from slipway.errors import UsageError

        name = "--debug" if self.debug else "--keep-failed"
        if not (self.debug or self.keep_failed):
            return
        if not alone:
            raise UsageError(
                f"{name} does not go with --jobs or --publish",
                hint="one at a time, and publish what passed then",
            )
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UsageError(
                f"{name} wants a terminal: somebody has to say when the machine may go",
                hint="leave it out; logs are kept",
            )

    @property
    def on_failure(self) -> Callable[[Held], None] | None:
        """Return what is called with a machine that failed; None if it may go."""
        return self._look if self.debug or self.keep_failed else None

    def _look(self, held: Held) -> None:
        with aside():
            print(one_line(f"{held.appliance}: {held.why}"))
            print(f"  console: {held.console}", flush=True)
            if self.debug:
                _log_in(held)
            if self.keep_failed:
                print(f"  log in:  {shlex.join(held.login)}")
                print("the machine runs until Enter or Ctrl-C", flush=True)
                with contextlib.suppress(KeyboardInterrupt):
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
    """Give the terminal to a shell in the machine; script(1) makes it a terminal of its own, which
    jobs need.
    """
    from slipway import process

    print("a shell in the machine; leave it by: exit", flush=True)
    argv = [
        "script",
        "--quiet",
        "--return",
        "--command",
        shlex.join([*held.login, "-t"]),
        "/dev/null",
    ]
    told = {"TERM": os.environ.get("TERM", "dumb")}
    with process.spawn(argv, env=told, stdin=sys.stdin.fileno(), stdout=1, stderr=2) as child:
        status = child.wait()
    if status == 255:  # ssh(1): an error of its own
        print("nobody could log in; its console says more", flush=True)
