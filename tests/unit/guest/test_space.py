"""Each login and each start names the disks that are full, and no other."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

PROGRAM = Path(__file__).parents[3] / "templates/guest/files/usr/lib/slipway/space"
#: What df(1) of coreutils 9 prints with these columns; btrfs counts no inodes.
LISTED = """\
1M-blocks Avail  Inodes   IFree Mounted on
     3456  2900  229376  201000 /
    16000    15 1048576 1000000 /var/lib/postgresql
   500000  9000       -       - /srv
      900   400   60000     100 /home/of all
        0     0       0       0 /odd
"""


def test_full_disks_are_named(tmp_path: Path) -> None:
    (tmp_path / "listed").write_text(LISTED)
    (tmp_path / "df").write_text(f"#!/bin/sh\ncat {tmp_path}/listed\n")
    (tmp_path / "df").chmod(0o755)
    done = subprocess.run(
        [PROGRAM],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout == (
        "The disk is full: /var/lib/postgresql has 15 of 16000 MiB left. "
        "What takes it: du -xh /var/lib/postgresql | sort -h | tail -n 20\n"
        "The disk is full: /srv has 9000 of 500000 MiB left. What takes it: du -xh /srv | sort "
        "-h | tail -n 20\n"
        "The disk is full: /home/of all has room for 100 more files. "
        "What takes it: du -x --inodes /home/of all | sort -n | tail -n 20\n"
    )
    assert done.stderr == ""


def test_the_columns_are_those_of_this_df(tmp_path: Path) -> None:
    """This host's own is asked in the program's words, and gives the columns that it reads."""
    (tmp_path / "df").write_text(f'#!/bin/sh\n{shutil.which("df")} "$@" >{tmp_path}/said 2>&1\n')
    (tmp_path / "df").chmod(0o755)
    subprocess.run([PROGRAM], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, timeout=20, check=True)
    assert (tmp_path / "said").read_text().splitlines()[0].split() == LISTED.splitlines()[0].split()
