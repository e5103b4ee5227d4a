"""The entry point of `run` and `python -m slipway`: :mod:`slipway.commandline.program`."""

from __future__ import annotations

import signal

__all__: list[str] = []

if __name__ == "__main__":
    # Ctrl-C while modules are loaded is no error of theirs: it ends this as it does any program. A
    # task says more.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from slipway.commandline.program import main

    main()
