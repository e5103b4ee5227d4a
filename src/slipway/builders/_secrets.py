"""Run a command that is given secrets, and pass on its output without them.

What goes in: a JSON object of secrets by name on standard input, and the command. The command reads
them from its own standard input, one a line: the name, and the value in base64. What comes out: its
exit status, and its output with ``***`` for every secret.

The command gets pipes and never the log itself: as root it could change the log's mode. This module
is a program of the standard library only, so it can run in a namespace, between a build's scripts
and its log.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence

__all__ = ["main", "redactor"]


def redactor(secrets: Iterable[str]) -> re.Pattern[bytes]:
    """Return a pattern for all forms of the secrets.

    The forms are the secret itself, its base64, and each of its lines of 8 bytes or more.
    """
    forms = set()
    for secret in secrets:
        whole = secret.encode()
        forms |= {
            whole,
            base64.b64encode(whole),
            *(line for line in whole.splitlines() if len(line) >= 8),
        }
    return re.compile(b"|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True)))


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    secrets: dict[str, str] = json.load(sys.stdin)
    pattern = redactor(secrets.values()) if secrets else None
    lines = "".join(
        f"{name} {base64.b64encode(value.encode()).decode()}\n" for name, value in secrets.items()
    )
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as command:
        assert command.stdin and command.stdout
        # Before it reads them, the command says less than a pipe holds: nobody waits for anybody.
        # The command did not read them; its status says whether it failed.
        with contextlib.suppress(BrokenPipeError):
            command.stdin.write(lines.encode())
            command.stdin.close()
        for line in command.stdout:
            sys.stdout.buffer.write(pattern.sub(b"***", line) if pattern else line)
            sys.stdout.buffer.flush()
    return command.returncode if command.returncode >= 0 else 128 - command.returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
