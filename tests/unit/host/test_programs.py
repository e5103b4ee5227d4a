"""The one table of programs: it can be read, it names every program that is started, and nothing
else.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from real_tools import need
from slipway.commands import namespace
from slipway.development.dependencies import SETS
from slipway.errors import HostError
from slipway.host import process, programs
from slipway.host.programs import Needs, Program, needs_of, parse, with_needs
from started_programs import in_python, in_shell

ROOT = Path(__file__).parents[3]
TABLE = parse(programs.TABLE.read_text())[1]
#: What every Debian has, by package; `run` needs sudo only where it installs something as an
#: ordinary user.
BASE = {
    name: package
    for package, names in {
        "bash": "bash",
        "ca-certificates": "update-ca-certificates",  # in fresh machines only, which have it
        "coreutils": (
            "base64 cat chmod chown chroot cp cut dd df dirname env head "
            "id install ln ls mkdir "
            "mkfifo mktemp mv readlink rm seq sha256sum sleep sort tee touch tr truncate wc"
        ),
        "dash": "sh",
        "diffutils": "diff",
        "dpkg": "dpkg dpkg-query",
        "findutils": "find",
        "grep": "grep",
        "libc-bin": "ldd",
        "mawk": "awk",
        "passwd": "useradd",
        "sed": "sed",
        "sudo": "sudo",
        "tar": "tar",
        "util-linux": "flock pivot_root",
    }.items()
    for name in names.split()
}
#: Names that no program has, for tests of what is said of it.
NOBODYS = {"mkfs.nothing", "script_in", "undeclared"}


def python_files() -> list[Path]:
    """The modules that run on this host; checks in a guest are no Python of ours."""
    folders = (
        "src",
        "tests",
        "requirements",
        "appliances/*/checks/*",
        "templates/mixins/*/checks/*",
    )
    return [
        ROOT / "tasks.py",
        *(
            path
            for folder in folders
            for place in ROOT.glob(folder)
            for path in place.rglob("*.py")
        ),
    ]


def shell_files() -> Iterator[tuple[Path, str]]:
    """The shell scripts that run on this host, with their text."""
    patterns = (
        "run",
        ".ci/run",
        "templates/mmdebstrap/*.sh*",
        "templates/disk/*.sh*",
        "appliances/*/checks/*/*.sh",
        "tests/ceph/*.sh",
    )
    for pattern in (*patterns, "templates/mixins/*/checks/*/*.sh"):
        for path in sorted(ROOT.glob(pattern)):
            # The last part of the object store's script runs in a tree of its own packages.
            yield path, path.read_text().partition("\ninside)\n")[0]


@cache
def started() -> dict[str, set[str]]:
    """Each program that is started, with the files that do."""
    found: dict[str, set[str]] = {}
    sourced = "\n".join(
        (ROOT / "templates/mmdebstrap" / name).read_text() for name in ("box.sh", "chroot.sh")
    )
    texts = [(path, in_python(path.read_text())) for path in python_files()]
    texts += [(path, in_shell(text, sourced)) for path, text in shell_files()]
    for path, names in texts:
        for name in names:
            found.setdefault(name, set()).add(path.relative_to(ROOT).as_posix())
    return found


def declared(name: str) -> bool:
    """Whether the table has a program; a name that is put together has to be the beginning of
    one.
    """
    return name in TABLE or (
        name.endswith("*") and any(each.startswith(name[:-1]) for each in TABLE)
    )


@pytest.mark.integration  # reads all sources: seconds
def test_every_program_that_is_started_is_in_the_table() -> None:
    missing = {name: sorted(files) for name, files in started().items() if not declared(name)}
    assert {
        name: files for name, files in missing.items() if name not in BASE.keys() | NOBODYS
    } == {}


@pytest.mark.integration  # reads all sources: seconds
def test_the_list_of_what_every_debian_has_is_no_longer_than_needed() -> None:
    assert BASE.keys() - started().keys() == set()


@pytest.mark.integration  # reads all sources: seconds
def test_what_builds_and_boots_need_is_of_the_kind_that_they_install() -> None:
    """A program that only tests install fails on the machine of somebody who builds."""
    optional = ("src/slipway/builders/packer/", "src/slipway/development/")
    for name, files in started().items():
        host = [
            file
            for file in files
            if file.startswith(("src/", "templates/", "appliances/"))
            and not file.startswith(optional)
        ]
        if host and name in TABLE:
            assert "build" in TABLE[name].kinds, f"{name} in {host[0]}"


def test_every_program_of_the_table_is_named_somewhere() -> None:
    text = "\n".join(path.read_text() for path in python_files()) + "\n".join(
        text for _, text in shell_files()
    )
    words = set(re.findall(r"[\w-]+", text))
    bases = "\n".join(path.read_text() for path in ROOT.glob("templates/bases/*/base.yaml"))
    for name, program in TABLE.items():
        start, _, system = name.rpartition("-")
        needed = any(name in each.needs for each in TABLE.values())
        assert (
            needed
            or name in words
            or re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)
            or (f"{start}-" in text and system in bases)
        ), program


def test_a_script_among_the_programs_starts_what_the_table_says() -> None:
    """virt-xml-validate is one: it calls xmllint, which its package only suggests."""
    for name in TABLE:
        path = shutil.which(name, path=process.SYSTEM_PATH)
        if path and re.match(rb"#! ?/bin/(ba)?sh\b", Path(path).read_bytes()[:20]):
            known = in_shell(Path(path).read_text()) - BASE.keys() - {name}
            assert known <= set(TABLE[name].needs), name


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("process.run(['planted', '-x'])", {"planted"}),
        ("namespace.run([*namespace.enter, 'planted'])", {"planted"}),
        (
            (
                "def f():\n    argv: list[str] = ['planted', x]\n    argv += ['more']\n"
                "    subprocess.Popen(argv)"
            ),
            {"planted"},
        ),
        ("request = ['planted', 'a']\nsubprocess.run([*request, *names])", {"planted"}),
        ("S = 'one | two'\nprocess.spawn(['sh', '-euc', S, 'sh', 'not-me'])", {"sh", "one", "two"}),
        ("process.run(['sh', '-c', f'{x} y; planted {z}'])", {"sh", "planted"}),
        ("run(['sh', '-c', 'one' + END])\nEND = ' a && two'", {"sh", "one", "two"}),
        (
            "process.find_tool('one', why='x')\nneed('two', 'three')\nshutil.which('four')",
            {"one", "two", "three", "four"},
        ),
        ("find_tool(f'one-{x}')", {"one-*"}),
        (
            (
                "class A:\n    tools = ('one', 'python:two', 'zlib')\n"
                "Part(tools=('three', *(['four'] if x else [])))"
            ),
            {"one", "three", "four"},
        ),
        (
            (
                "process.run([sys.executable, '-m', 'module'])\n"
                "subprocess.run([*ssh, 'elsewhere'])\nx = ['no', 'call']"
            ),
            set(),
        ),
        ("def f():\n    a = ['one']\n    run(a)\ndef g():\n    a = ['two']\n    print(a)", {"one"}),
    ],
)
def test_programs_are_found_in_python(text: str, found: set[str]) -> None:
    assert in_python(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("one a | two 'b; no' && ! three || exec four", {"one", "two", "three", "four"}),
        (
            'x=1 y=$(one "$(two)") three "a $(four) b" # no five\nsix &',
            {"one", "two", "three", "four", "six"},
        ),
        (
            "if one; then two; elif three; then four; else five; fi",
            {"one", "two", "three", "four", "five"},
        ),
        (
            "for x in no words; do one; done\nwhile two; do three; done <no-file",
            {"one", "two", "three"},
        ),
        (
            'case "$(one)" in no | "not $me") two ;; (*) three;; esac; four',
            {"one", "two", "three", "four"},
        ),
        ("f() { one; case $x in a) two ;; esac; }\nf; g() (three)\ng", {"one", "two", "three"}),
        (
            "one <<END | two\nno $(words)\nEND\nthree <<'A' >b\n no\nA\nfour",
            {"one", "two", "three", "four"},
        ),
        (
            "one \\\n    no 2>&1 >>file; $no; \"$no\"; /no/path; echo ${a:-$(two 'x')} $((3 + 4))",
            {"one", "two"},
        ),
        ("{% if x %}one{% endif %}\n{{ no }} x\ntwo {{ no }} | three", {"one", "two", "three"}),
        ("command -v no; command one; [ -x no ] && two", {"one", "two"}),
    ],
)
def test_programs_are_found_in_shell(text: str, found: set[str]) -> None:
    assert in_shell(text) == found


def test_functions_of_a_sourced_script_are_no_programs() -> None:
    assert in_shell("helper a; one", "helper() { two; }") == {"one"}


def test_a_planted_program_is_noticed() -> None:
    names = in_python("process.run(['planted-one'])") | in_shell("mke2fs x | planted-two")
    assert {name for name in names if not declared(name)} == {"planted-one", "planted-two"}


def test_every_task_of_the_table_exists_and_has_a_set_and_kinds() -> None:
    functions = set(namespace().task_names)
    tasks, found = parse(programs.TABLE.read_text())
    kinds = {kind for program in found.values() for kind in program.kinds}
    assert kinds == {"build", "lint", "test"}
    for name, needs in tasks.items():
        assert name in functions
        assert needs.requirements in SETS and {*needs.kinds} <= kinds, name
    assert needs_of("publish") == Needs("tasks", ())
    assert needs_of("build") == Needs("checks", ("build",))


def test_a_table_is_read() -> None:
    tasks, found = parse(
        "# a comment\n\ntask build checks build,test\n"
        "program a build,test x=- y=b+c d needs:e needs:f\nprogram g - -\n"
    )
    assert tasks == {"build": Needs("checks", ("build", "test"))}
    program = Program("a", ("build", "test"), (("x", "-"), ("y", "b+c"), ("", "d")), ("e", "f"))
    assert found == {"a": program, "g": Program("g", (), (("", "-"),))}
    assert program.package({"ID": "x"}) is None
    assert program.package({"ID": "other", "VERSION_CODENAME": "y"}) == "b c"
    assert program.package({}) == "d"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("program a build", "neither a task, nor a program with its kinds and packages"),
        ("tool a build b", "neither a task, nor a program with its kinds and packages"),
        ("task a", "not enough values to unpack (expected 2, got 0)"),
        ("program first build a", "first is repeated"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(line: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(f"program first build first\n{line}\n")
    assert str(caught.value) == f"programs.txt:2: {message}"


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "SYSTEM_PATH", "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostError) as caught:
        process.find_tool("mkfs.vfat", why="needed for this")
    assert str(caught.value) == (
        "error: mkfs.vfat is not installed (needed for this)\n"
        "  hint: sudo apt-get install dosfstools"
    )


def test_a_program_that_another_starts_is_needed_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert with_needs("virsh", "virt-xml-validate") == ("virsh", "virt-xml-validate", "xmllint")
    (tmp_path / "virt-xml-validate").write_text("#!/bin/sh\n")
    (tmp_path / "virt-xml-validate").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"^not installed: xmllint$"):
        need("virt-xml-validate")
    with pytest.raises(KeyError, match="undeclared"):
        need("undeclared")
