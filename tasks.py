"""The tasks, for `invoke TASK` in this checkout: they are in src/slipway/commands/.

`./run --help` shows them.
"""

from __future__ import annotations

from pathlib import Path

from slipway.commandline.program import take_over
from slipway.commands import namespace

#: What Invoke looks for.
ns = namespace()

take_over(Path(__file__).parent)
