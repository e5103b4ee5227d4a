"""The program: Invoke's, with our tasks, our parser, our help, and none of its settings.

What goes in: the words of the command line. What comes out: an exit code. Invoke by itself also
reads /etc/invoke.yaml, ~/.invoke.yaml and variables INVOKE_*. Those are for other projects: they
could name other tasks.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from invoke import Collection, Config, Program
from invoke.completion.complete import print_completion_script
from invoke.exceptions import Exit

from slipway import __version__
from slipway.commandline.answer import failure, problems_of
from slipway.commandline.arguments import Asked, parse
from slipway.commandline.invocation import open_streams, unread, written
from slipway.commandline.manual import overview, task_help, task_list
from slipway.errors import UserError
from slipway.settings import unknown_variables
from slipway.terminal.text import report, shown

__all__ = ["OwnConfig", "Slipway", "main", "take_over"]


class OwnConfig(Config):
    """Invoke's settings without those of the machine, the user and the environment."""

    def __init__(self, *args: Any, **options: Any) -> None:
        nowhere = "/nonexistent/"
        super().__init__(*args, **{"system_prefix": nowhere, "user_prefix": nowhere, **options})

    def load_shell_env(self) -> None:
        """Take nothing from the environment."""


class Slipway(Program):
    """The program ``slipway``, under whatever name it is called."""

    asked: Asked

    def __init__(
        self, tasks: Collection, families: list[tuple[str, list[str]]] | None = None
    ) -> None:
        super().__init__(
            version=__version__,
            namespace=tasks,
            name="slipway",
            binary="invoke",
            config_class=OwnConfig,
        )
        self.families = families or [("Tasks", sorted(tasks.task_names))]

    def parse_core(self, argv: list[str] | None) -> None:
        """Read the whole command line."""
        sys.excepthook = report
        self.normalize_argv(argv)
        self.collection: Collection = self.namespace  # type: ignore[assignment]
        contexts = {str(context.name): context for context in self.collection.to_contexts()}
        try:
            self.asked = parse(self.argv[1:], contexts)
        except UserError as error:
            if "--json" in self.argv:
                name = next((word for word in self.argv[1:] if word in contexts), "")
                sys.stdout.write(failure(name, error.exit_code, problems_of(error)))
            raise Exit(shown(str(error), sys.stderr), code=error.exit_code) from error
        if self.asked.task and self.asked.root and "root" in self.asked.task.args:
            # The checkout of `run`, as people write it.
            here = Path(self.asked.root).resolve() == Path.cwd()
            self.asked.task.args["root"].default = "." if here else self.asked.root

    def parse_collection(self) -> None:
        """Do nothing: the tasks are known."""

    def parse_tasks(self) -> None:
        """Do nothing: the task was read with everything else."""

    def parse_cleanup(self) -> None:
        """Print the requested text, unless a task is to be run.

        Raises:
            Exit: The text is printed.
        """
        if self.asked.mode == "run":
            for line in unknown_variables(os.environ):
                sys.stderr.write(shown(f"warning: {line}\n", sys.stderr))
            return
        try:
            self._print()
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise unread(error) from error
        raise Exit

    def _print(self) -> None:
        asked, names = self.asked, [name for _, family in self.families for name in family]
        summaries = {name: self.collection[name].__doc__ or "" for name in names}
        if asked.mode == "version":
            sys.stdout.write(f"slipway {__version__}\n")
        elif asked.mode == "list":
            sys.stdout.write(task_list(self.families, summaries))
        elif asked.mode == "shell":
            print_completion_script(shell=asked.rest[0], names=["run", "./run", "slipway"])
        elif asked.mode == "complete":
            sys.stdout.write("\n".join(self._completions(asked.rest, names)) + "\n")
        elif asked.task is None:
            sys.stdout.write(overview(__version__, self.families, summaries))
        else:
            sys.stdout.write(task_help(asked.task, summaries[str(asked.task.name)]))

    def _completions(self, words: list[str], names: list[str]) -> list[str]:
        """Return the possible next words: tasks, or the options of the task already given."""
        given = next((word for word in words if word in names), None)
        if given is None:
            return names
        return sorted(
            next(each for each in self.collection.to_contexts() if each.name == given).flags
        )

    def update_config(self, merge: bool = True) -> None:
        """Take no settings from the command line."""
        self.config.merge()

    def execute(self) -> None:
        """Run the task."""
        self.executor_class(self.collection, self.config).execute(self.asked.task)  # type: ignore[arg-type]


def main(argv: list[str] | None = None) -> None:
    """Run the task named on the command line."""
    from slipway.commands import families, namespace

    # Invoke's own program turns the writing of bytecode off; every start would then compile all of
    # slipway.
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    with written():
        open_streams()
        Slipway(namespace(), families()).run(argv)


def take_over(checkout: Path) -> None:
    """Run the task here if Invoke's own program is loading tasks.py.

    Invoke's parser knows neither our words nor our errors.
    """
    program = Path(sys.argv[0])
    if program.name in ("invoke", "inv") or program.parts[-2:] == ("invoke", "__main__.py"):
        main(["slipway", f"--search-root={checkout}", *sys.argv[1:]])
        raise SystemExit
