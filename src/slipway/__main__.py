"""What `run` and `python -m slipway` start: the program of :mod:`slipway.commandline`."""

from __future__ import annotations

from slipway.commandline import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
