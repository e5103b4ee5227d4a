"""The command line, by running it: names, help, exit codes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from invoke.exceptions import Exit

from slipway.commandline.invocation import Terminated, outcome
from slipway.commands.output import confirm
from slipway.errors import (
    BuildError,
    Declined,
    HostError,
    SpecError,
    SpecErrors,
    StoreError,
    UsageError,
    UserError,
    VerificationError,
)

ROOT = Path(__file__).parents[3]


def invoke(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "invoke", "--search-root", str(ROOT), *words],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )


@pytest.mark.integration
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("frob",), 2, 'error: unknown task "frob"\n  hint: invoke --list shows the tasks\n'),
        (("biuld", "x"), 2, 'error: unknown task "biuld"\n  hint: did you mean "build"?\n'),
        (
            ("build", "a", "--al"),
            2,
            'error: build: unknown option --al\n  hint: did you mean "--all"?\n',
        ),
        (
            ("render",),
            2,
            "error: render: NAME is missing\n  hint: invoke render --help shows what it takes\n",
        ),
        (("build",), 2, "error: name appliances, or give --all\n"),
        (
            ("build", "a", "--publish", "--no-boot"),
            2,
            "error: an image that was not booted is not published\n",
        ),
        (("cache", "frob"), 2, 'error: cache has no action "frob"\n  hint: choose from: prune\n'),
    ],
)
def test_a_wrong_command_line_ends_with_its_code_and_says_what_to_do(
    words: tuple[str, ...], code: int, message: str
) -> None:
    done = invoke(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(message), done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (SpecError("x"), 3),
        (SpecErrors([SpecError("x")]), 3),
        (HostError("x"), 4),
        (BuildError("x"), 5),
        (StoreError("x"), 6),
        (VerificationError("x"), 7),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_ends_with_its_code(error: UserError, code: int) -> None:
    with pytest.raises(Exit) as caught, outcome():
        raise error
    assert (caught.value.code, caught.value.message) == (code, "error: x")


@pytest.mark.integration
def test_a_spec_error_ends_with_3_and_its_place(tmp_path: Path) -> None:
    (tmp_path / "templates").symlink_to(ROOT / "templates")
    folder = tmp_path / "appliances/web"
    folder.mkdir(parents=True)
    (folder / "appliance.yaml").write_text(
        "schema: 1\nname: web\nversion: 24.10\nsummary: Web\ncategory: web\n"
    )
    done = invoke("validate", "--root", str(tmp_path))
    assert done.returncode == 3
    assert done.stderr == (
        f"{folder}/appliance.yaml:3:10: error: version: must be text, but YAML reads "
        "24.10 as a number\n"
        '  hint: put quotes around it: "24.10"\n'
    )


@pytest.mark.parametrize(
    ("end", "became"),
    [(KeyboardInterrupt(), Declined), (Terminated(signal.SIGTERM), Terminated)],
    ids=["ctrl-c", "sigterm"],
)
def test_a_question_is_declined_by_ctrl_c_and_ended_by_sigterm(
    end: BaseException, became: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(_: str) -> str:
        raise end

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", ask)
    with pytest.raises(became):
        confirm("remove everything", False)


@pytest.mark.integration
def test_several_names_follow_one_task() -> None:
    names = sorted(path.name for path in (ROOT / "appliances").iterdir() if path.is_dir())
    done = invoke("validate", *names)
    assert (done.returncode, done.stdout) == (0, f"{len(names)} appliances are valid\n")


@pytest.mark.integration
def test_help_of_every_task_says_what_it_does_and_what_it_takes() -> None:
    tasks = re.findall(r"^  (\S+) ", invoke("--list").stdout, re.MULTILINE)
    assert len(tasks) >= 15
    # One process for all of them: most of a command's time is its start.
    script = (
        "import sys\nfrom slipway.commandline.program import Slipway\n"
        "from slipway.commands import namespace\n"
        "for name in sys.argv[1:]:\n"
        "    Slipway(namespace()).run(['slipway', name, '--help'], exit=False)\n"
        "    print('\\f', end='')\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script, *tasks], capture_output=True, text=True, check=True
    ).stdout
    for name, text in zip(tasks, said.split("\f"), strict=False):
        lines = text.splitlines()
        assert lines[0].startswith(f"Usage: invoke {name}") and lines[2], name


@pytest.mark.integration
def test_listing_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "invoke", "--search-root", str(ROOT), "list"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    loaded = {
        line.rpartition("|")[2].strip()
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert "slipway.spec.library" in loaded
    assert not loaded & {
        "boto3",
        "botocore",
        "jsonschema_rs",
        "cyclonedx",
        "hcl2",
        "slipway.boot.checks",
    }
