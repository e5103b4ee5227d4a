"""What a build must not take from whoever calls: limits, signals and the personality of a process,
in the box of a tree.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from slipway.builders import _box
from slipway.host.namespace import MOUNT, Namespace

#: A tree of this host's programs, and a box with it as the root.
BOXED = """\
set -eu
tree=$1
shift
mkdir -p "$tree/usr" "$tree/etc" "$tree/proc" "$tree/dev" "$tree/run" "$tree/tmp"
for name in bin lib lib64 sbin; do ln -sfn "usr/$name" "$tree/$name"; done
mount --bind /usr "$tree/usr"
exec unshare --mount --pid --fork --kill-child --net --ipc --uts --cgroup -- "$@"
"""
#: All that a script sees of the process that it was started from.
LOOK = """\
umask; ulimit -a; uname -m; hostname; env | sort
grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status
cat /proc/self/personality 2>/dev/null || :
ls /proc/self/fd | wc -l
"""
CALLERS = {
    "few files": ["prlimit", "--nofile=99:"],
    "small stack and core files": ["prlimit", "--stack=1048576:", "--core=unlimited:"],
    "short locks and queues": [
        "prlimit",
        "--memlock=65536:",
        "--msgqueue=1000:",
        "--nproc=500:",
        "--sigpending=99:",
    ],
    "nohup": ["env", "--ignore-signal=HUP,INT,QUIT,TERM,PIPE,CHLD"],
    "blocked": ["env", "--block-signal=USR1,TERM"],
    "another personality": ["setarch", "--addr-no-randomize", "linux32"],
}


def seen(tmp_path: Path, caller: list[str], script: str) -> str:
    """What a script in a box says, in a namespace of a build."""
    with Namespace(memory_mib=64) as namespace:
        inside: list[str | Path] = [
            "sh",
            "-euc",
            BOXED,
            "sh",
            MOUNT / "tree",
            sys.executable,
            "-I",
            _box.__file__,
            MOUNT / "tree",
            "/bin/sh",
            "-c",
            script,
        ]
        return namespace.run([*caller, *inside], timeout_s=60).stdout.decode()


@pytest.mark.parametrize("caller", CALLERS)
def test_nothing_of_the_callers_process_is_seen_in_a_box(tmp_path: Path, caller: str) -> None:
    assert seen(tmp_path, CALLERS[caller], LOOK) == seen(tmp_path, [], LOOK)


def test_a_pipe_that_nobody_reads_ends_its_writer_in_a_box(tmp_path: Path) -> None:
    """Python ignores SIGPIPE, and what it becomes would do so, too: scripts would say "Broken pipe"
    and go on.
    """
    assert (
        seen(tmp_path, [], "{ yes; echo $? >&3; } 2>&1 3>/tmp/y | head -n 1; cat /tmp/y")
        == "y\n141\n"
    )
