"""Give the command for a shell in the tree of a stage whose script failed.

Invariant: the shell is in the box of the stage's scripts, as the failed script was. It sees the
tree as its root, and nothing of this host.
"""

from __future__ import annotations

import sys
from typing import Final

from slipway.builders import Broken
from slipway.errors import BuildError
from slipway.host.namespace import MOUNT, Namespace

__all__ = ["broken_tree"]

#: Opens a shell as templates/mmdebstrap/tree.sh.j2 runs a script. The failed script left the
#: overlay mounted.
_SHELL: Final = """\
cd "$1"
SLIPWAY_PYTHON=$2
. ../box.sh
box --show "part=$PWD" --show shared=/mnt/shared --show layer=/mnt/layers/tree /mnt/root \\
    sh -c 'if command -v bash >/dev/null; then exec bash --norc --noediting -i; fi; exec sh -i'
"""


def broken_tree(namespace: Namespace, error: BuildError) -> Broken:
    """Return a tree as its script left it; the shell works until the namespace ends."""
    words = [
        *namespace.enter,
        "sh",
        "-euc",
        _SHELL,
        "sh",
        str(MOUNT / "render/tree"),
        sys.executable,
    ]
    return Broken(stage="tree", why=error.message, shell=tuple(words))
