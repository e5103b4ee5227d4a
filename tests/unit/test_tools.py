"""Versions of programs and digests of code change when the program or the code does."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import re
from pathlib import Path

import pytest
import zstandard

from slipway import tools
from slipway.errors import HostError
from slipway.host import process
from slipway.tools import code_digest, tool_versions


def program(folder: Path, name: str, version: str) -> None:
    """Install a program that says its version."""
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{version}'\necho more\n")
    path.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The first folder that programs are looked for in, before the host's own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr(process, "SYSTEM_PATH", f"{folder}:{process.SYSTEM_PATH}")
    return folder


def test_a_program_that_was_replaced_is_asked_again(path: Path, tmp_path: Path) -> None:
    memory = tmp_path / "cache/tools.json"
    program(path, "zstd", "zstd 1.0")
    assert tool_versions(["zstd"], memory) == {"zstd": "zstd 1.0"}
    remembered = memory.read_bytes()
    assert tool_versions(["zstd"], memory) == {"zstd": "zstd 1.0"}
    assert memory.read_bytes() == remembered
    program(path, "zstd", "zstd 1.0.1")
    assert tool_versions(["zstd"], memory) == {"zstd": "zstd 1.0.1"}


def test_a_program_that_does_not_say_its_version_has_its_digest(path: Path, tmp_path: Path) -> None:
    program(path, "mkfs.vfat", "one")
    first = tool_versions(["mkfs.vfat"], tmp_path / "tools.json")["mkfs.vfat"]
    program(path, "mkfs.vfat", "another")
    second = tool_versions(["mkfs.vfat"], tmp_path / "tools.json")["mkfs.vfat"]
    assert first.startswith("sha256 ") and second.startswith("sha256 ") and first != second


def test_a_memory_that_is_damaged_is_made_anew(path: Path, tmp_path: Path) -> None:
    program(path, "zstd", "zstd 1.0")
    (tmp_path / "tools.json").write_text("{")
    assert tool_versions(["zstd", "python:zstandard"], tmp_path / "tools.json") == {
        "zstd": "zstd 1.0",
        "python:zstandard": (
            f"{importlib.metadata.version('zstandard')}, "
            f"zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))}"
        ),
    }


def test_a_program_that_is_missing_is_an_error(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "SYSTEM_PATH", str(path))
    monkeypatch.setenv("PATH", str(path))
    with pytest.raises(HostError, match=r"^error: zstd is not installed"):
        tool_versions(["zstd"], tmp_path / "tools.json")


def test_a_library_that_was_replaced_is_another_version(path: Path, tmp_path: Path) -> None:
    """qemu-img compresses with a library that a system upgrades alone."""
    library = path / "libzstd.so.1"
    library.write_bytes(b"one")
    program(path, "qemu-img", "qemu-img version 1")
    program(path, "ldd", f"\tlibzstd.so.1 => {library} (0x00007f)")
    memory = tmp_path / "tools.json"
    first = tool_versions(["qemu-img"], memory)["qemu-img"]
    assert first == f"qemu-img version 1, libzstd.so.1 sha256 {hashlib.sha256(b'one').hexdigest()}"
    assert tool_versions(["qemu-img"], memory)["qemu-img"] == first
    library.write_bytes(b"another")
    assert tool_versions(["qemu-img"], memory)["qemu-img"] != first


def test_the_interpreter_and_its_libraries_have_versions(tmp_path: Path) -> None:
    found = tool_versions(["python", "lzma", "zlib"], tmp_path / "tools.json")
    assert found["python"] == f"CPython {platform.python_version()}"
    assert re.fullmatch(r"(liblzma\.so\.5 sha256 [0-9a-f]{64})?", found["lzma"])


def test_a_script_of_a_package_is_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """boot/runner.sh runs in the guest: with another one, a report is another one."""
    monkeypatch.setattr(tools, "__file__", str(tmp_path / "tools.py"))
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/runner.sh").write_text("true\n")
    code_digest.cache_clear()
    first = code_digest("boot")
    (tmp_path / "boot/runner.sh").write_text("false\n")
    code_digest.cache_clear()
    try:
        assert code_digest("boot") != first
    finally:
        code_digest.cache_clear()


def test_code_is_its_text_and_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "__file__", str(tmp_path / "tools.py"))
    (tmp_path / "formats").mkdir()

    def digest(text: str, name: str = "one.py") -> str:
        for path in (tmp_path / "formats").iterdir():
            path.unlink()
        (tmp_path / "formats" / name).write_text(text)
        code_digest.cache_clear()
        return code_digest("formats")

    try:
        assert digest("a = 1\n") == digest("a = 1\n")
        assert len({digest("a = 1\n"), digest("a = 2\n"), digest("a = 1\n", "two.py")}) == 3
    finally:
        code_digest.cache_clear()
