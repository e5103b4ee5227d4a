"""The command line that `run` starts: Invoke with the tasks of a checkout, and with no settings but ours.

What goes in: the words of the command line. What comes out: an exit code. Invoke by itself also reads /etc/invoke.yaml,
~/.invoke.yaml and variables INVOKE_*, which are for other projects: they could name other tasks.
"""

from __future__ import annotations

from typing import Any

from invoke import Config, Program

from slipway.invocation import open_streams, written

__all__ = ["OwnConfig", "main"]


class OwnConfig(Config):
    """Invoke's settings without those of the machine, the user and the environment."""

    def __init__(self, *args: Any, **options: Any) -> None:
        nowhere = "/nonexistent/"
        super().__init__(*args, **{"system_prefix": nowhere, "user_prefix": nowhere, **options})

    def load_shell_env(self) -> None:
        """Take nothing from the environment."""


def main() -> None:
    """Run the tasks that the command line names."""
    with written():
        open_streams()
        Program(name="invoke", binary="invoke", config_class=OwnConfig).run()


if __name__ == "__main__":
    main()
