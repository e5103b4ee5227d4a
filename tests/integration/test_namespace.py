"""The private namespace, for real: it works, and nothing of it outlives its maker."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slipway.builders._layers import overlay_option
from slipway.errors import BuildError, HostError
from slipway.host import namespace as namespace_module
from slipway.host.namespace import INIT, MOUNT, Namespace, available_memory_mib, require_in_sight

MAKER = """
import sys, time
from slipway.host.namespace import Namespace, MOUNT
from slipway.host import process
with Namespace(network=True) as namespace:
    namespace.run(["mkdir", "-p", "/mnt/tree/proc"])
    namespace.run(["mount", "-t", "proc", "proc", "/mnt/tree/proc"])
    with process.spawn([*namespace.enter, "sleep", "1000"]) as sleeper:
        print(namespace.pid, sleeper.pid, flush=True)
        time.sleep(1000)
"""


def running(pid: int) -> bool:
    """Whether a process runs (one that only waits to be reaped does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def mounts() -> list[str]:
    """What is mounted, as this process sees it."""
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def test_a_private_root_sees_its_own_files_processes_and_network(tmp_path: Path) -> None:
    before = mounts()
    with Namespace(network=True) as namespace:
        namespace.run(
            [
                "sh",
                "-c",
                (
                    "id -u >/mnt/id; ls /sys/class/net >/dev/null; ip -o link | wc -l >/mnt/links; "
                    "echo $$ >/mnt/pid"
                ),
            ]
        )
        assert namespace.path(MOUNT / "id").read_text() == "0\n"
        assert namespace.path(MOUNT / "links").read_text() == "1\n"
        assert int(namespace.path(MOUNT / "pid").read_text()) < 50
        assert mounts() == before
        with pytest.raises(BuildError, match=r"a thing failed: exit status 3"):
            namespace.run(["sh", "-c", "exit 3"], what="a thing")
    assert not running(namespace.pid)
    assert mounts() == before


def system(root: Path, groups: str, files: dict[str, str]) -> int:
    """The memory that is available on a system with these files, in MiB; the host has 4 GiB
    free.
    """
    for name, text in {
        "proc/meminfo": "MemTotal: 9999999 kB\nMemAvailable:    4194304 kB\n",
        "proc/self/cgroup": groups,
        **files,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return available_memory_mib(root)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("seen", ["by the host", "by the container"])
def test_the_limit_of_a_control_group_counts(tmp_path: Path, version: int, seen: str) -> None:
    """A group's limit is that of all groups in it.

    What it holds of files that it can drop is left to it.
    """
    below, limit, used = (
        ("", "max", "current") if version == 2 else ("memory/", "limit_in_bytes", "usage_in_bytes")
    )
    groups = "0::/job/step\n" if version == 2 else "9:cpu:/other\n5:memory:/job/step\n0::/\n"
    group = f"sys/fs/cgroup/{below}" + ("job/" if seen == "by the host" else "")
    files = {
        f"{group}memory.{limit}": str(2048 << 20) + "\n",
        f"{group}memory.{used}": str(1024 << 20) + "\n",
        f"{group}memory.stat": f"anon 5\ninactive_file {256 << 20}\n",
    }
    if seen == "by the host":
        files |= {
            f"{group}step/memory.{limit}": "max\n",
            f"{group}step/memory.{used}": "7\n",
            f"{group}step/memory.stat": "",
        }
    assert system(tmp_path, groups, files) == 1280


def test_what_all_groups_in_one_can_drop_is_left_to_it(tmp_path: Path) -> None:
    """Version 1 has two counts, of which only the second is of the groups in it, as the limit
    is.
    """
    stat = f"cache 9\ninactive_file 0\ntotal_cache 9\ntotal_inactive_file {512 << 20}\n"
    group = "sys/fs/cgroup/memory/memory"
    files = {
        f"{group}.limit_in_bytes": str(2048 << 20),
        f"{group}.usage_in_bytes": str(1024 << 20),
        f"{group}.stat": stat,
    }
    assert system(tmp_path, "5:memory:/job/step\n", files) == 1536


@pytest.mark.parametrize(("high", "most"), [("1024", "2048"), ("2048", "1024"), ("1024", "max")])
def test_a_group_is_slowed_down_before_its_limit(tmp_path: Path, high: str, most: str) -> None:
    """What is beyond memory.high is reclaimed at once, and whoever asks for it waits (cgroup
    v2).
    """
    mib = {"high": high, "max": most, "current": "256"}
    files = {
        f"sys/fs/cgroup/memory.{name}": text if text == "max" else str(int(text) << 20)
        for name, text in mib.items()
    }
    assert (
        system(tmp_path, "0::/\n", files | {"sys/fs/cgroup/memory.stat": "inactive_file 0\n"})
        == 768
    )


def test_without_limits_what_is_free_is_available(tmp_path: Path) -> None:
    assert system(tmp_path / "none", "0::/\n", {}) == 4096
    assert (
        system(
            tmp_path / "large",
            "0::/\n",
            {"sys/fs/cgroup/memory.max": "max", "sys/fs/cgroup/memory.current": "1"},
        )
        == 4096
    )
    assert 0 < available_memory_mib() < 1 << 24


def test_the_hosts_name_is_not_seen_and_the_umask_is_fixed() -> None:
    with Namespace() as namespace:
        said = namespace.run(["sh", "-c", "cat /proc/sys/kernel/hostname; umask"]).stdout
    assert said == b"localhost\n0022\n"


def test_a_user_without_rights_on_the_host_makes_one() -> None:
    """The host's settings belong to another root than the one of an ordinary user's namespace."""
    nobody = (
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    )
    argv = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "--pid",
        "--uts",
        "--net",
        "--fork",
        "--kill-child",
        "--",
        "sh",
        "-c",
    ]
    argv = [*nobody, *argv, f"{INIT}\nhostname", "init", "size=1m,mode=755", "network"]
    said = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/")
    assert (said.stdout, said.stderr) == ("ready\nlocalhost\n", "")


def test_work_can_go_to_a_directory_instead_of_memory(tmp_path: Path) -> None:
    with Namespace(directory=tmp_path) as namespace:
        namespace.run(["sh", "-c", "echo here >/mnt/file"])
    assert (tmp_path / "file").read_text() == "here\n"


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("network", [False, True])
def test_in_a_sealed_one_the_hosts_files_are_read_only(
    tmp_path: Path, *, network: bool, on_disk: bool
) -> None:
    """Also what is mounted below the root, such as a temporary folder in memory."""
    (tmp_path / "work").mkdir()
    (tmp_path / "mine").write_text("mine")
    with Namespace(
        network=network, memory_mib=16, directory=tmp_path / "work" if on_disk else None
    ) as namespace:
        namespace.run(["sh", "-c", f"echo before >{tmp_path}/before"])
        namespace.seal()
        for command in (
            f"echo x >{tmp_path}/mine",
            f"rm {tmp_path}/mine",
            f"mkdir {tmp_path}/new",
            "echo x >/dev/shm/x",
        ):
            assert namespace.run(["sh", "-c", command], check=False).returncode, command
        namespace.run(
            [
                "sh",
                "-c",
                (
                    "mkdir /mnt/a /mnt/b && mount --bind /mnt/a /mnt/b && echo x >/mnt/b/x && "
                    "echo y >/dev/null"
                ),
            ]
        )
        assert namespace.path("/mnt/a/x").read_text() == "x\n"
    assert (tmp_path / "mine").read_text() == "mine"
    assert (tmp_path / "before").exists() and not (tmp_path / "new").exists()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_whatever_ends_its_maker_ends_all_that_runs_in_it(how: signal.Signals) -> None:
    before = mounts()
    source = Path(__file__).parents[2] / "src"
    # What is run in the background ignores SIGINT, and what CI runs may be.
    argv = ["env", "--default-signal=INT", sys.executable, "-c", MAKER]
    with subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(source)},
    ) as maker:
        assert maker.stdout
        pids = [int(word) for word in maker.stdout.readline().split()]
        assert all(running(pid) for pid in pids)
        maker.send_signal(how)
        maker.wait()
    deadline = time.monotonic() + 10
    while any(running(pid) for pid in pids) and time.monotonic() < deadline:
        os.sched_yield()
    assert not any(running(pid) for pid in pids)
    assert mounts() == before


def test_what_lost_its_parent_is_reaped() -> None:
    """Otherwise it stays, and so does a namespace inside this one, whose end waits for it."""
    with Namespace() as namespace:
        namespace.run(["sh", "-c", "sleep 0.1 & exit 0"])
        deadline = time.monotonic() + 10
        while (left := orphans(namespace.pid)) and time.monotonic() < deadline:
            os.sched_yield()
        assert left == []


def orphans(init: int) -> list[str]:
    """The processes, dead ones too, that a namespace's first process was given: by name, without
    its own.
    """
    names = []
    for child in Path(f"/proc/{init}/task/{init}/children").read_text().split():
        with contextlib.suppress(OSError):
            names.append(Path(f"/proc/{child}/comm").read_text().strip())
    return [name for name in names if name != "cat"]


@pytest.mark.parametrize(
    ("path", "network", "hidden"), [("/mnt/c/a", False, "/mnt"), ("/run/media/a", True, "/run")]
)
def test_what_is_needed_is_not_where_a_namespace_has_its_own_files(
    path: str, network: bool, hidden: str
) -> None:
    with pytest.raises(HostError) as caught:
        require_in_sight(Path("/usr"), Path(path), network=network)
    assert str(caught.value) == (
        f"error: {path} is below {hidden}, where builds and machines have files of their own\n"
        f"  hint: have it elsewhere, or show it elsewhere, too: mount --bind {hidden}/... /srv/..."
    )
    require_in_sight(Path("/run/media/a"), Path("/mntx"))


def test_a_checkout_below_mnt_is_an_error_that_says_so(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can show the checkout at another place")
    program = "from slipway.host.namespace import Namespace\nwith Namespace():\n    pass\n"
    script = f'mount --bind "$1" {MOUNT} && cd {MOUNT} && PYTHONPATH={MOUNT} exec "$2" -c "$3"'
    argv = [
        "unshare",
        "--mount",
        "sh",
        "-euc",
        script,
        "sh",
        str(Path(namespace_module.__file__).parents[2]),
        sys.executable,
        program,
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (
        f"{MOUNT}/slipway/host/namespace.py is below {MOUNT}, where builds and machines have "
        "files of their own"
    ) in done.stderr


def test_work_on_an_overlay_is_an_error_that_says_so(tmp_path: Path) -> None:
    """As in a container whose files are an overlay's, with too little memory: nothing could be laid
    over it.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can make a place that is an overlay's")
    script = """\
mkdir "$1/lower" "$1/upper" "$1/work" "$1/place"
mount -t overlay overlay "$1/place" -o "lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work"
exec "$2" -c '
import sys
from pathlib import Path
from slipway.builders._layers import overlay_option
from slipway.host.namespace import Namespace
with Namespace(directory=Path(sys.argv[1])) as namespace:
    overlay_option(namespace)
' "$1/place"
"""
    argv = ["unshare", "--mount", "sh", "-euc", script, "sh", str(tmp_path), sys.executable]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    expected = (
        f"the file system of {tmp_path}/place takes no overlays; in a container, its own "
        "files are such a one"
    )
    assert done.returncode and expected in done.stderr, done.stderr
    with Namespace(memory_mib=16) as namespace:
        assert "metacopy=off" in overlay_option(namespace)
        assert namespace.run(["ls", MOUNT]).stdout == b""
