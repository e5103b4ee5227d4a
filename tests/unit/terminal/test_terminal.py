"""What others wrote is shown and not obeyed: by terminals, by the workflow's runner, by
Markdown.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slipway.channels.report import describe_changes
from slipway.commandline.invocation import outcome
from slipway.errors import BuildError, StoreError
from slipway.host.process import tail
from slipway.records.manifest import PackageChanges
from slipway.terminal.progress import Progress
from slipway.terminal.text import Screen, one_line, plain, screened, shown

ROOT = Path(__file__).parents[3]
#: By what they do: escapes as they are shown.
HOSTILE = {
    "a colour": ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
    "a title": ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
    "the clipboard": ("\x1b]52;c;ZXZpbA==\x1b\\", "\\x1b]52;c;ZXZpbA==\\x1b\\"),
    "a bell": ("\a", r"\x07"),
    "over what stands there": ("fine\rgone", r"fine\rgone"),
    "back": ("good\b\b\b\bevil", r"good\x08\x08\x08\x08evil"),
    "C1: CSI": ("\x9b2J", r"\x9b2J"),
    "C1: OSC": ("\x9d0;owned\x9c", r"\x9d0;owned\x9c"),
    "C1: next line": ("a\x85b", r"a\x85b"),
    "delete": ("a\x7f", r"a\x7f"),
    "nothing": ("a\x00b", r"a\x00b"),
    "a bidi override": ("user\u202egpj.exe", r"user\u202egpj.exe"),
    "a bidi isolate": ("\u2066x\u2069", r"\u2066x\u2069"),
    "no width": ("ng\u200binx", r"ng\u200binx"),
    "a tag": ("a\U000e0041", r"a\U000e0041"),
    "a line": ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
    "half a pair": ("a\udc9bb", r"a\udc9bb"),
}
SAME = [
    "",
    "plain",
    "a line\nand\ta tab\n",
    "Größe 4 µm → 漢字 🙂",
    "C:\\x1b",
    "100 % [ok] <b> *x*",
]


@pytest.mark.parametrize("kind", HOSTILE)
def test_controls_are_written_out(kind: str) -> None:
    text, escaped = HOSTILE[kind]
    assert plain(text) == escaped
    assert plain(escaped) == escaped


@pytest.mark.parametrize("text", SAME)
def test_plain_text_stays(text: str) -> None:
    assert plain(text) == text


def test_what_is_to_stay_in_its_line_does() -> None:
    assert (
        one_line("nginx\nexample: stable now has 1.0\t!\r")
        == r"nginx\nexample: stable now has 1.0\t!\r"
    )
    changes = PackageChanges(added={"a\nstable: fine": "1"}, removed={}, changed={})
    assert describe_changes(changes) == [r"  + a\nstable: fine 1"]


def test_all_of_them_in_whatever_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with outcome(), screened():
        for text, _ in HOSTILE.values():
            print(text)
    assert capsys.readouterr().out == "".join(f"{escaped}\n" for _, escaped in HOSTILE.values())
    assert not isinstance(sys.stdout, Screen)


def test_a_line_in_pieces_and_one_without_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), screened():
        print("a", end="\x1b")
        print("b")
        print("no end", end="")
        raise KeyError
    assert capsys.readouterr().out == "a\\x1bb\nno end"


def test_an_error_with_a_guests_console(tmp_path: Path) -> None:
    """The console's last lines are in the message of a failed boot, with its lines."""
    from invoke.exceptions import Exit

    console = tmp_path / "console.log"
    console.write_bytes(b"[ ok ]\r\n\x1b[2J\x1b]0;owned\x07\xc2\x9b1m\x9b\ndone\n")
    with pytest.raises(Exit) as caught, outcome(), screened():
        raise BuildError(f"a check failed\n{tail(console)}", hint="\x1b[1mrun this")
    assert caught.value.message == (
        "error: a check failed\n    [ ok ]\n    \\x1b[2J\\x1b]0;owned\\x07\\x9b1m\ufffd\n"
        "    done\n  hint: \\x1b[1mrun this"
    )


def test_progress_obeys_nobody_either() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    progress.line("a\x1bc")
    progress.note("\x07", "ca\rched")
    with progress.step("check \x9b") as step:
        step.detail = "\u202epassed"
    lines = stream.getvalue().splitlines()
    assert lines[0] == r"a\x1bc"
    assert lines[1].split() == [r"\x07", r"ca\rched"]
    assert lines[2].split()[:3] == ["check", r"\x9b", r"\u202epassed"]


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("::add-mask::x\n", "\\:\\:add-mask::x\n"),
        ("fine\n  ::error::no\n", "fine\n  \\:\\:error::no\n"),
        ("x ##[add-mask]y\n", "x #\\#[add-mask]y\n"),
        ("##vso[task]\n", "#\\#vso[task]\n"),
        ("a::b ## c\n", "a::b ## c\n"),
    ],
)
def test_a_workflows_runner_takes_no_command(
    monkeypatch: pytest.MonkeyPatch, text: str, safe: str
) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    assert shown(text, io.StringIO()) == text
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    said = shown(text, io.StringIO())
    assert said == safe.replace("\\:\\:", "\\::")
    assert not any(line.lstrip().startswith("::") for line in said.splitlines())


def test_a_jobs_summary_is_a_code_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is Markdown there, not even what would end a fence.

    The log of the same job stays as it is.
    """
    summary = tmp_path / "summary"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    hostile = "```\n![x](http://evil.example/)\n<script>\n\n# heading\r# another\n"
    summary.write_text("A paragraph\n")
    with summary.open("a") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with screened():
            print(hostile, end="")
            print("more")
    assert summary.read_text() == (
        "A paragraph\n\n    ```\n    ![x](http://evil.example/)\n    <script>\n    \n"
        "    # heading\\r# another\n    more\n"
    )
    with summary.open("a") as stream, pytest.raises(StoreError):
        monkeypatch.setattr(sys, "stdout", stream)
        with screened():
            raise StoreError("no <b>", hint="run: invoke list")
    assert summary.read_text().endswith(
        "    more\n\n    error: no <b>\n      hint: run: invoke list\n"
    )
    with (tmp_path / "log").open("w") as stream:
        assert shown(hostile, stream) == hostile.replace("\r", "\\r")


def run(tmp_path: Path, body: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a task of its own, as people run tasks."""
    script = (
        "from slipway.commandline.invocation import task\n"
        f"\n@task()\ndef deed():\n    {body}\n\n"
        "import sys\nfrom invoke import Collection\n"
        "from slipway.commandline.program import Slipway\n"
        "Slipway(Collection(deed)).run()\n"
    )
    (tmp_path / "deed.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **variables}
    argv = [sys.executable, str(tmp_path / "deed.py"), "deed"]
    return subprocess.run(
        argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_task_by_its_whole_way(tmp_path: Path) -> None:
    assert run(tmp_path, r"print('\x1b[2J')").stdout == "\\x1b[2J\n"
    done = run(tmp_path, r"raise ValueError('\x1b[2J\x9b')")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == r"ValueError: \x1b[2J\x9b"


@pytest.mark.parametrize(
    "workflow", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda path: path.stem
)
def test_only_tasks_write_into_a_jobs_summary(workflow: Path) -> None:
    """They indent it; what `echo` or `cat` put there would be Markdown."""
    for line in workflow.read_text().splitlines():
        if "GITHUB_STEP_SUMMARY" in line:
            assert line.strip().removeprefix("- ").removeprefix("run: ").startswith("./run "), line
