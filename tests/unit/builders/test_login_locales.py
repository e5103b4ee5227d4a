"""Logins have the machine's locale: sshd takes none from its clients, and the rest of its settings
stays.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

CHROOT = Path(__file__).parents[3] / "templates/mmdebstrap/chroot.sh"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("AcceptEnv LANG LC_* COLORTERM NO_COLOR", "AcceptEnv COLORTERM NO_COLOR"),
        ("AcceptEnv LANG LC_*", "# AcceptEnv of no locale"),
        ("AcceptEnv LC_CTYPE XLANG GIT_*", "AcceptEnv XLANG GIT_*"),
        ("#AcceptEnv LANG", "#AcceptEnv LANG"),
    ],
)
def test_sshd_takes_no_locale_from_its_clients(tmp_path: Path, before: str, after: str) -> None:
    config = tmp_path / "etc/ssh/sshd_config"
    config.parent.mkdir(parents=True)
    config.write_text(f"UsePAM yes\n{before}\nSubsystem sftp /usr/lib/openssh/sftp-server\n")
    script = tmp_path / "script"
    script.write_text(
        f"{CHROOT.read_text()}\nrefuse_locales {tmp_path}\nrefuse_locales {tmp_path}/none\n"
    )
    subprocess.run(["sh", "-eu", script], check=True, timeout=60)
    assert (
        config.read_text() == f"UsePAM yes\n{after}\nSubsystem sftp /usr/lib/openssh/sftp-server\n"
    )
