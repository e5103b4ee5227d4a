"""doctor looks at every program that builds and boots start."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from slipway.host import process
from slipway.host.programs import package_of, programs
from slipway.job import Workshop
from slipway.workflows.doctor import _findings


def test_a_missing_program_is_shown_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(process, "SYSTEM_PATH", "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    _python, *found = itertools.takewhile(
        lambda finding: finding.name != "packer", _findings(Workshop(root=tmp_path))
    )
    assert [finding.name for finding in found] == [program.name for program in programs("build")]
    for finding in found:
        assert (finding.state, finding.detail) == ("missing", f"{finding.name} is not installed")
        assert finding.hint == f"sudo apt-get install {package_of(finding.name)}"


def test_a_program_is_shown_with_its_version_or_its_path(tmp_path: Path) -> None:
    found = itertools.takewhile(
        lambda finding: finding.name != "packer", _findings(Workshop(root=tmp_path))
    )
    lines = {finding.name: finding.line for finding in found}
    assert lines["zstd"].startswith("ok       zstd               *** ")
    assert lines["mmd"] == f"ok       mmd                {process.find_tool('mmd')}"


@pytest.mark.integration
def test_the_mirrors_of_images_are_others_than_those_of_builds(tmp_path: Path) -> None:
    lines = {finding.name: finding.line for finding in _findings(Workshop(root=tmp_path))}
    assert (
        lines["image mirrors"]
        == "ok       image mirrors      the public ones that Debian's cloud-init names"
    )
    (tmp_path / "slipway.toml").write_text(
        'image_mirror = {debian = "http://one.example/debian"}\n'
    )
    lines = {finding.name: finding.line for finding in _findings(Workshop(root=tmp_path))}
    given = "debian: http://one.example/debian, debian-security: http://one.example/debian-security"
    assert lines["image mirrors"] == f"ok       image mirrors      {given}"


@pytest.mark.integration
def test_a_wrong_file_of_settings_hides_nothing_else_and_its_errors_have_their_lines(
    tmp_path: Path,
) -> None:
    (tmp_path / "slipway.toml").write_text('stor = "x"\ncache_limit_gib = "many"\n')
    argv = [sys.executable, "-P", "-m", "slipway", f"--search-root={tmp_path}", "doctor"]
    done = subprocess.run(argv, cwd="/", capture_output=True, text=True, timeout=120, check=False)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("ok       python ")
    assert lines[-2:] == [
        "MISSING  slipway.toml       2 errors: the lines below",
        f"{'':<28}-> do so, and run doctor again",
    ]
    assert done.stderr == (
        f'{tmp_path}/slipway.toml:1:1: error: stor: unknown key\n  hint: did you mean "store"?\n'
        f"{tmp_path}/slipway.toml:2:1: error: cache_limit_gib: 'many' is not a number of GiB\n"
        "  hint: write a whole number without quotes: 20\n"
    )
    assert done.returncode == 3
