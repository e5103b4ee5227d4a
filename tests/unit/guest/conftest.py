"""The guest's programs, as modules and as a file system that they can be run on."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from slipway.spec import parameters as rules

__all__ = ["Guest", "guest", "guest_module", "parameters"]

FILES = Path(__file__).parents[3] / "templates/guest/files"
_ASSEMBLED = tempfile.TemporaryDirectory()
#: The programs as they stand in an image: with the rules for values, which are the builder's own.
PROGRAMS = Path(shutil.copytree(FILES / "usr/lib/slipway", Path(_ASSEMBLED.name) / "slipway"))
shutil.copy(rules.__file__, PROGRAMS / "accepted.py")
#: systemd-ask-password(1) with somebody at the console; it fails, as at its time limit, when there
#: are no more answers.
ANSWERING = """\
#!/bin/sh
echo "$*" >>"$MARK/asked"
IFS= read -r answer <"$MARK/answers" || exit 1
sed -i 1d "$MARK/answers"
printf '%s\\n' "$answer"
"""


@pytest.fixture(scope="session")
def guest_module() -> Callable[[str], ModuleType]:
    """Import a module of the image by its name."""

    def load(name: str) -> ModuleType:
        sys.path.insert(0, str(PROGRAMS))
        try:
            return importlib.import_module(name)
        finally:
            sys.path.remove(str(PROGRAMS))

    return load


@pytest.fixture(scope="session")
def parameters(guest_module: Callable[[str], ModuleType]) -> ModuleType:
    """The module parameters.py of the image."""
    return guest_module("parameters")


class Guest:
    """The root of a fake instance, on which first boot is run as it is in the image."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in (
            "etc/ssh",
            "usr/lib/slipway/firstboot.d",
            "run/credentials/@system",
            "sys/class/net",
            "var/lib",
        ):
            (root / folder).mkdir(parents=True)
        self.answers()
        self.instance("a" * 32)
        self.define([])

    def instance(self, machine_id: str) -> None:
        """Be the instance with this machine-id."""
        (self.root / "etc/machine-id").write_text(machine_id + "\n")

    def define(self, definitions: list[dict[str, Any]]) -> None:
        """Write the appliance's parameters."""
        (self.root / "usr/lib/slipway/parameters.json").write_text(json.dumps(definitions))

    def credential(self, name: str, content: bytes) -> None:
        """Give a system credential."""
        (self.root / "run/credentials/@system" / name).write_bytes(content)

    def cloud(self, text: str) -> None:
        """Give user data, as cloud-init keeps it."""
        file = self.root / "var/lib/cloud/instance/cloud-config.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def user_data(self, *parts: str) -> None:
        """Give user data in parts, as cloud-init keeps it: as it came, and merged by Python's rules
        for YAML.
        """
        message = MIMEMultipart()
        merged: dict[str, Any] = {}
        for text in parts:
            message.attach(MIMEText(text, "cloud-config"))
            merged |= yaml.safe_load(text)
        self.cloud(yaml.safe_dump(merged))
        (self.root / "var/lib/cloud/instance/user-data.txt.i").write_bytes(message.as_bytes())

    def given_file(self, text: str) -> None:
        """Give the file that user data writes."""
        file = self.root / "etc/slipway/parameters.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def ovf(self, properties: Mapping[str, str]) -> None:
        """Give an OVF environment."""
        file = self.root / "run/slipway/ovf-env.xml"
        file.parent.mkdir(parents=True, exist_ok=True)
        items = "".join(
            f'<Property oe:key="{key}" oe:value="{value}"/>' for key, value in properties.items()
        )
        space = "http://schemas.dmtf.org/ovf/environment/1"
        file.write_text(
            f'<Environment xmlns="{space}" '
            f'xmlns:oe="{space}"><PropertySection>{items}</PropertySection></Environment>'
        )

    def card(self, name: str, index: int) -> None:
        """Add a network card."""
        folder = self.root / "sys/class/net" / name
        (folder / "device").mkdir(parents=True)
        (folder / "ifindex").write_text(f"{index}\n")

    def script(self, name: str, text: str) -> None:
        """Add a first-boot script of the appliance."""
        (self.root / "usr/lib/slipway/firstboot.d" / name).write_text(text)

    def answers(self, *texts: str) -> None:
        """Be somebody at a console, who gives these answers and then none.

        What was asked is in ``asked``.
        """
        (self.root / "answers").write_text("".join(f"{text}\n" for text in texts))
        program = self.root / "bin/systemd-ask-password"
        program.parent.mkdir(exist_ok=True)
        program.write_text(ANSWERING)
        program.chmod(0o755)
        for name in ("agetty", "systemctl"):
            program = self.root / "bin" / name
            program.write_text(f'#!/bin/sh\necho "{name} $*" >>"$MARK/called"\n')
            program.chmod(0o755)

    @property
    def called(self) -> list[str]:
        """How the programs of the running system were called."""
        return (
            (self.root / "called").read_text().splitlines()
            if (self.root / "called").exists()
            else []
        )

    @property
    def asked(self) -> list[str]:
        """The arguments of each question, on a line each."""
        return (
            (self.root / "asked").read_text().splitlines() if (self.root / "asked").exists() else []
        )

    def session(self, name: str, kind: str) -> None:
        """Begin a session, as systemd-logind notes it."""
        file = self.root / "run/systemd/sessions" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            f"# This is private data. Do not parse.\nUID=1000\nCLASS={kind}\nSTATE=active\n"
        )

    def boot(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run first boot."""
        if not words:
            (self.root / "run/issue.d/50-slipway.issue").unlink(missing_ok=True)
        command = [
            sys.executable,
            "-E",
            "-s",
            "-B",
            str(PROGRAMS / "firstboot.py"),
            "--root",
            str(self.root),
            *words,
        ]
        environment = {"PATH": f"{self.root / 'bin'}:{os.environ['PATH']}", "MARK": str(self.root)}
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    def read(self, path: str) -> str:
        """A file's text."""
        return (self.root / path).read_text()

    @property
    def issue(self) -> str:
        """What the consoles' prompts show."""
        return self.read("run/issue.d/50-slipway.issue")


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    """A fresh instance."""
    return Guest(tmp_path)
