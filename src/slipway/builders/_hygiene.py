"""Check a finished tree in a namespace, and name in an error everything that no image may hold.

The rules are in :mod:`slipway.disk.hygiene`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from pathlib import Path

from slipway import __file__ as package_file
from slipway.errors import BuildError
from slipway.host.namespace import Namespace

__all__ = ["HYGIENE_CODE", "check_hygiene"]

#: The code of the hygiene check.
HYGIENE_CODE = ("builders/_hygiene.py", "disk/hygiene.py", "disk/keys.py", "disk/archives.py")


def check_hygiene(
    namespace: Namespace, tree: Path, name: str, secrets: Collection[str] = ()
) -> None:
    """Look for identities, secrets and traces in a finished tree of a namespace.

    Args:
        secrets: Values to look for anywhere in the tree.

    Raises:
        BuildError: There are findings; all are named.
    """
    # The program needs nothing but the standard library. It runs inside, with every file readable.
    program = Path(package_file).with_name("disk") / "hygiene.py"
    words = json.dumps(list(secrets)).encode()
    argv: list[str | Path] = [sys.executable, "-I", program, "--enter", "--words", tree]
    answer = namespace.run(argv, what="hygiene check", check=False, input=words)
    try:
        findings = json.loads(answer.stdout)
    except ValueError:
        raise BuildError(
            "the hygiene check ended without a report", hint="this is a bug in slipway"
        ) from None
    if findings:
        lines = "\n".join(
            f"  {found['path']}: {found['detail']} ({found['rule']})" for found in findings
        )
        raise BuildError(
            f"the tree of {name} holds what images must not contain:\n{lines}",
            hint="remove it in a setup script, or make it on first boot",
        )
