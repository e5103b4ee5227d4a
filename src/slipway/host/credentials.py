"""Credentials stay with the publishing process; builds, boots and rendering never have them.

What goes in: the environment at the start of a task. What comes out: one of two processes.

* :func:`leave_behind`: a process without credentials, for tasks that have no use for them.
* :func:`seal`: a process with the credentials in its memory alone. It runs no appliance's code.
  It starts such code by :func:`run_apart`, with the variables of an explicit list.

Invariants: in both, ``/proc/<pid>/environ`` shows no credential. The kernel shows a program's first
environment there, whatever it deletes later (proc_pid_environ(5)). So both start this program
again, in the same process. The variables go over in a file in memory, closed as soon as it was read
(memfd_create(2)).
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Final

from slipway.host import process

__all__ = ["build_environment", "leave_behind", "run_apart", "seal"]

#: What a build may know of the environment; everything else is left out.
_ALLOWED: Final = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_[A-Z]+|TZ|TMPDIR|TERM|COLORTERM|COLUMNS|LINES"
    r"|NO_COLOR|FORCE_COLOR|CI"
    # Without them nobody would keep commands of others from the runner.
    r"|GITHUB_(ACTIONS|STEP_SUMMARY)"
    r"|(?i:https?|ftp|all|no)_(?i:proxy)|XDG_CACHE_HOME|XDG_RUNTIME_DIR|VIRTUAL_ENV|PYTHONPATH"
    r"|PYTHONDONTWRITEBYTECODE"
    r"|PYTHONWARNINGS|SOURCE_DATE_EPOCH|PIP_[A-Z_]+|SSL_CERT_(FILE|DIR)|(REQUESTS|CURL)_CA_BUNDLE"
    r"|SLIPWAY_(MIRROR|IMAGE_MIRROR|CACHE|CACHE_LIMIT_GIB|MEMORY_MIB|QEMU|RUN|STORE"
    r"|SECRET_[A-Z0-9_]+)"
)
#: Names of what opens something: keys of channels and clouds, an agent's socket, tokens of a CI
#: system.
_CREDENTIAL: Final = re.compile(
    r"SLIPWAY_|AWS_|AZURE_|ARM_|GOOGLE_|GCLOUD_|CLOUDSDK_|OS_|ACTIONS_|.*(KEY|SECRET|TOKEN|PASS"
    r"|CREDENTIAL|AUTH|BUNDLE|SIGNER)",
    re.IGNORECASE,
)
_HANDOVER: Final = "SLIPWAY_HANDOVER"
#: How long a build may take to end when it is told to: it has a machine or a namespace to put away.
_PATIENCE_S: Final = 20.0
_PR_SET_DUMPABLE: Final = 4


def build_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables that a build may have."""
    return {
        name: value
        for name, value in (os.environ if environ is None else environ).items()
        if _ALLOWED.fullmatch(name)
    }


def leave_behind() -> None:
    """Start this program again without credentials, if it was started with any."""
    kept = build_environment()
    if any(_CREDENTIAL.match(name) for name in os.environ if name not in kept):
        _again(kept)


def seal() -> None:
    """Keep the variables forbidden to builds in this process's memory alone.

    The first call starts this program again. Afterwards, other processes of this user, even
    children, can read neither its memory nor its files (prctl(2), PR_SET_DUMPABLE).
    """
    handover = os.environ.pop(_HANDOVER, None)
    if handover is None:
        kept = build_environment()
        hidden = {name: value for name, value in os.environ.items() if name not in kept}
        if hidden:
            # no MFD_CLOEXEC: it is for the program that comes now
            descriptor = os.memfd_create(_HANDOVER, 0)
            os.write(descriptor, json.dumps(hidden).encode())
            _again({**kept, _HANDOVER: str(descriptor)})
    else:
        with os.fdopen(int(handover), "rb") as file:
            file.seek(0)
            os.environ.update(json.load(file))
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _again(environment: Mapping[str, str]) -> None:
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], dict(environment))


def run_apart(argv: Sequence[str], *, stdout: int | IO[bytes] = 1) -> int:
    """Run a building program without credentials, with this process's standard output and error.

    Args:
        stdout: Another destination of its standard output.

    Returns:
        Its exit code; after a signal, 128 and the signal's number.
    """
    sys.stdout.flush()
    with process.spawn(
        argv, env=build_environment(), stdout=stdout, stderr=2, patience_s=_PATIENCE_S
    ) as child:
        status = child.wait()
    return status if status >= 0 else 128 - status
