"""./run sets up what is missing, says what it does, and gets out of the way when nothing is."""

from __future__ import annotations

import hashlib
import os
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: What the script itself calls, besides the shell.
NEEDED = ("sh", "dirname", "readlink", "sha256sum", "id", "env", "rm", "mv", "flock", "tr")
COPIED = (
    "run",
    "src/slipway/host/programs.txt",
    *(f"requirements/{name}.txt" for name in ("tasks", "checks", "dev")),
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a directory of programs that is the whole PATH, and a table of its own."""
    root = tmp_path / "checköut"
    (root / "bin").mkdir(parents=True)
    for name in COPIED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    for name in NEEDED:
        found = shutil.which(name)
        assert found
        (root / "bin" / name).symlink_to(found)
    return root


def table(root: Path, *lines: str) -> None:
    """Write the table of programs."""
    text = "# a comment\n\n" + "".join(f"{line}\n" for line in lines)
    (root / "src/slipway/host/programs.txt").write_text(text)


def program(path: Path, script: str) -> None:
    """Write a shell script that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def run(
    root: Path, *words: str, ci: bool = False, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": str(root / "bin"),
        "HOME": str(root),
        "LC_ALL": "C",
        "PYTHONPATH": "/nowhere",
        "PYTHONHOME": "/nowhere",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "no number",
        "PYTHON_COLORS": "1",
    }
    environment |= {"CI": "true"} if ci else {}
    environment |= variables
    return subprocess.run(
        [root / "run", *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def set_up(root: Path, requirements: str, kinds: str = "") -> None:
    """Make what a set-up leaves: an environment, and stamps."""
    program(root / ".venv/bin/invoke", 'echo "$*"')
    program(
        root / ".venv/bin/python",
        'case "$*" in "-P -m slipway "*) shift 3; echo "$*";; *) echo "python $*" '
        f">>{root}/asked;; esac",
    )

    def digest(path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    python = os.path.realpath(root / ".venv/bin/python")
    lock = digest(root / f"requirements/{requirements}.txt")
    (root / ".venv/stamp").write_text(f"{root} {python}\n{requirements}\n{lock}\n")
    if kinds:
        (root / ".venv/stamp-system").write_text(
            f"{kinds}\n{digest(root / 'src/slipway/host/programs.txt')}\n"
        )


def asked(root: Path) -> list[str]:
    """What the programs that stand for apt-get and Python were asked for."""
    path = root / "asked"
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def apt(checkout: Path) -> Path:
    """A checkout on a system with apt, where git and zstd are installed."""
    program(checkout / "bin/dpkg-query", "printf 'ii  git \\nii  zstd \\n'")
    program(checkout / "bin/apt-get", f'echo "apt-get $*" >>{checkout}/asked')
    program(checkout / "bin/sudo", 'shift; exec "$@"')  # sudo -n
    program(checkout / "bin/python3", "exit 0")
    return checkout


def test_without_apt_it_lists_what_to_install_and_without_python_it_says_which(
    checkout: Path,
) -> None:
    table(
        checkout,
        "task build checks build",
        "program nothing-a build a",
        "program nothing-b build b+c",
        "program nothing-d test d",
    )
    done = run(checkout, "build", "thing")
    assert done.returncode == 4
    assert done.stdout == ""
    assert done.stderr == (
        "run: this system has no apt; install what brings these commands: nothing-a nothing-b\n"
        "run: (on Debian and Ubuntu they are in: a b c)\n"
        "run: error: Python 3.11, 3.12, 3.13 or 3.14 is needed\n"
        "  hint: sudo apt-get install python3 python3-venv   (Ubuntu 22.04: python3.11-venv)\n"
    )


def test_it_says_what_it_installs_and_how_it_failed(apt: Path) -> None:
    program(apt / "bin/apt-get", f'echo "$*" >>{apt}/asked; exit 100')
    table(
        apt,
        "task build checks build",
        "program git build git",
        "program one build one",
        "file /two build two",
    )
    done = run(apt, "--echo", "build", ci=True)
    assert done.returncode == 4
    assert done.stderr.splitlines()[0] == "run: these system packages are missing: one two"
    assert "run: error: the system packages could not be installed\n" in done.stderr
    assert "install --yes --no-install-recommends one two" in asked(apt)


@pytest.mark.parametrize("user", ["0", "1000"])
def test_packages_come_through_the_callers_proxies(apt: Path, user: str) -> None:
    """sudo hands no variable on (sudoers(5), env_reset)."""
    table(apt, "task build checks build", "program one build one")
    (apt / "bin/id").unlink()
    program(apt / "bin/id", f"echo {user}")
    program(apt / "bin/sudo", 'shift; exec env -i "PATH=$PATH" "$@"')  # sudo -n
    program(
        apt / "bin/apt-get", f'echo "${{http_proxy-none}} $https_proxy $no_proxy" >>{apt}/asked'
    )
    run(apt, "build", ci=True, HTTPS_PROXY="http://a.example", NO_PROXY="b.example")
    assert "none http://a.example b.example" in asked(apt)
    run(apt, "build", ci=True, http_proxy="http://c.example", HTTP_PROXY="http://d.example")
    assert asked(apt)[-1].split() == ["http://c.example"]


@pytest.mark.parametrize(
    ("words", "packages"),
    [
        pytest.param(("list",), None, id="a small task"),
        pytest.param(("--list",), None, id="an option"),
        pytest.param((), None, id="nothing"),
        pytest.param(("publish", "test"), None, id="an argument that looks like a task"),
        pytest.param(("build",), "one", id="one kind"),
        pytest.param(("test",), "one two-a two-b", id="two kinds"),
    ],
)
def test_a_task_has_only_what_it_needs_installed(
    apt: Path, words: tuple[str, ...], packages: str | None
) -> None:
    table(
        apt,
        *(
            "task build checks build",
            "task test dev build,test",
            "program one build one",
            "program two test two-a+two-b needs:one",
        ),
        *("program three - three", "program none test nosuchsystem=none", "program never test -"),
    )
    run(apt, *words, ci=True)
    found = [
        line.partition("recommends ")[2]
        for line in asked(apt)
        if line.startswith("apt-get install")
    ]
    assert found == ([packages] if packages else [])


def test_packages_are_those_of_this_system(apt: Path) -> None:
    system = dict(
        line.partition("=")[::2] for line in Path("/etc/os-release").read_text().splitlines()
    )
    here, codename = system["ID"].strip('"'), system["VERSION_CODENAME"].strip('"')
    table(
        apt,
        "task build checks build",
        f"program a build {here}=for-here other",
        f"program b build nowhere=x {codename}=for-codename y",
    )
    run(apt, "build", ci=True)
    assert (
        "run: these system packages are missing: for-here for-codename"
        in run(apt, "build", ci=True).stderr.splitlines()
    )


def test_a_checkout_that_is_set_up_only_runs_the_task(checkout: Path) -> None:
    set_up(checkout, "tasks", "build")
    done = run(checkout, "plan", "two words")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"--search-root {checkout} plan two words\n"
    assert asked(checkout) == []


def test_the_task_knows_how_it_was_called(checkout: Path) -> None:
    set_up(checkout, "tasks")
    program(checkout / ".venv/bin/python", 'echo "$SLIPWAY_RUN"')
    assert run(checkout, "list").stdout == f"{checkout}/run\n"


def test_the_task_has_none_of_pythons_own_variables(checkout: Path) -> None:
    set_up(checkout, "tasks")
    program(checkout / ".venv/bin/python", "env")
    names = {line.partition("=")[0] for line in run(checkout, "list").stdout.splitlines()}
    assert {name for name in names if name.startswith("PYTHON")} == set()


def test_a_larger_set_and_more_kinds_serve_a_smaller_task(checkout: Path) -> None:
    set_up(checkout, "dev", "build,lint,test")
    for task in ("list", "build", "lint", "test"):
        assert (run(checkout, task).stderr, asked(checkout)) == ("", [])


@pytest.mark.parametrize(
    ("task", "installed"), [("list", "tasks"), ("build", "checks"), ("deps", "dev")]
)
def test_a_set_that_is_missing_is_added(apt: Path, task: str, installed: str) -> None:
    set_up(apt, "tasks", "build")
    done = run(apt, task)
    assert done.returncode == 0
    install = f"python -I {apt}/requirements/install.py {installed}"
    assert asked(apt) == ([install] if installed != "tasks" else [])
    assert (apt / ".venv/stamp").read_text().splitlines()[1] == installed
    assert run(apt, task).stderr == ""


@pytest.mark.parametrize("words", ["build --help", "build -h", "--help build", "help build"])
def test_the_help_of_a_task_installs_no_programs(apt: Path, words: str) -> None:
    set_up(apt, "tasks")
    table(apt, "task build checks build", "program new build new")
    assert run(apt, *words.split()).returncode == 0
    assert asked(apt) == []


def test_another_lock_is_installed_in_the_set_that_was_there(apt: Path) -> None:
    set_up(apt, "checks")
    with (apt / "requirements/checks.txt").open("a") as file:
        file.write("\n")
    assert (
        run(apt, "list").stderr
        == "run: installing the Python packages of requirements/checks.txt\n"
    )
    assert asked(apt) == [f"python -I {apt}/requirements/install.py checks"]
    assert run(apt, "list").stderr == ""


def test_another_table_is_looked_at_again_by_the_tasks_that_need_programs(apt: Path) -> None:
    set_up(apt, "checks", "build,test")
    table(apt, "task build checks build", "program zstd build zstd", "program new test new")
    assert run(apt, "list").stderr == ""
    assert run(apt, "build").stderr == ""
    assert (apt / ".venv/stamp-system").read_text().splitlines()[0] == "build"


def test_an_install_that_fails_is_done_again(apt: Path) -> None:
    set_up(apt, "tasks")
    program(apt / ".venv/bin/python", "exit 3")
    done = run(apt, "deps")
    assert done.returncode == 4
    assert done.stderr == (
        "run: installing the Python packages of requirements/dev.txt\n"
        "run: error: the Python packages could not be installed\n"
        "  hint: see pip's message above; ./run starts again where it stopped\n"
    )
    assert not (apt / ".venv/stamp").exists()
    assert "run: making a Python environment" in run(apt, "list").stderr


def test_an_environment_that_cannot_be_made_is_said(apt: Path) -> None:
    program(apt / "bin/python3", 'case "$*" in *"-m venv"*) echo "disk full" >&2; exit 1 ;; esac')
    done = run(apt, "list")
    assert done.returncode == 4
    assert done.stderr == (
        f"run: making a Python environment in {apt}/.venv\n"
        "disk full\n"
        "run: error: the Python environment could not be made\n"
        "  hint: see Python's message above\n"
    )


def test_the_installer_keeps_the_way_to_an_index_and_drops_all_else() -> None:
    installer = runpy.run_path(str(ROOT / "requirements/install.py"))
    listing = (
        "global.index-url='one'\nglobal.user='true'\ninstall.index-url='two'\ninstall.target='/x'\n"
        ":env:.find-links='/a /b'\n:env:.require-virtualenv='1'\n:env:.constraint='c.txt'\n"
        "global.extra-index-url='\\nd\\ne'\n"
    )
    assert installer["index_settings"](listing) == {
        "PIP_INDEX_URL": "two",
        "PIP_EXTRA_INDEX_URL": "\nd\ne",
        "PIP_FIND_LINKS": "/a /b",
    }
    assert installer["locked_names"]("# x\nA.b==1 \\\n    --hash=sha256:0\nc_d==2 ; x\n") == {
        "a-b",
        "c-d",
    }
