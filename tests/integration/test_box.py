"""A build's box, for real: what runs in a tree tries to get out, as root and as root of a user
namespace.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from slipway.builders import _box
from slipway.builders._broken import broken_tree
from slipway.builders._tree import box_files
from slipway.errors import BuildError
from slipway.host.namespace import MOUNT, Namespace
from slipway.rendering.render import Rendered, RenderedFile

ROOT = Path(__file__).parents[2]
#: Runs in the tree: tries everything, and prints a JSON object of what succeeded, by name.
ATTACK = r"""
import ctypes, errno, json, os, signal, socket, stat, struct, sys
told = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
out = {}

def attempt(name):
    def run(function):
        try:
            answer = function()
        except (OSError, ValueError) as error:
            return
        if answer not in (None, False, "", [], b""):
            out[name] = str(answer)
    return run

def checked(answer):
    if answer < 0:
        raise OSError(ctypes.get_errno(), "")
    return f"answered {answer}"

@attempt("the root of the first process is the host's")
def _():
    roots = ("/proc/1/root", "/proc/self/root", "/proc/1/cwd")
    return [p for p in roots if os.path.exists(p + told["secret"])]

@attempt("a file of the host by its path")
def _():
    return open(told["secret"]).read()

@attempt("a file of the host by an inherited descriptor")
def _():
    opened = [f"/proc/self/fd/{n}" for n in os.listdir("/proc/self/fd")]
    folders = [f for f in opened if os.path.isdir(f)]
    above = [f"{f}/../../../.." for f in folders]
    return [f for f in folders + above if os.path.exists(f + told["secret"])]

@attempt("an environment of the host")
def _():
    marker = told["marker"].encode()
    pids = [p for p in os.listdir("/proc") if p.isdigit()]
    return [p for p in pids if marker in open(f"/proc/{p}/environ", "rb").read()]

@attempt("a process of the host")
def _():
    return [p for p in os.listdir("/proc") if p.isdigit() and int(p) not in (1, os.getpid())]

@attempt("kill")
def _():
    os.kill(told["pid"], signal.SIGKILL)
    return True

@attempt("mount")
def _():
    return checked(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None))

@attempt("bind mount")
def _():
    return checked(libc.mount(b"/usr", b"/tmp", None, 4096, None))

@attempt("open_tree")
def _():
    return checked(libc.syscall(428, -100, b"/", 1))

@attempt("umount")
def _():
    return checked(libc.umount2(b"/proc", 2))

for name, flag in (
    ("user", 0x10000000), ("mount", 0x20000), ("pid", 0x20000000), ("net", 0x40000000),
    ("time", 0x80),
):
    @attempt(f"unshare {name}")
    def _(flag=flag):
        return checked(libc.unshare(flag))

@attempt("clone with a user namespace")
def _():
    number = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
    pid = libc.syscall(number, 0x10000000 | 17, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    return checked(pid)

@attempt("clone3")
def _():
    pid = libc.syscall(435, struct.pack("8Q", 0x10000000, 0, 0, 0, 17, 0, 0, 0), 64)
    if pid == 0:
        os._exit(0)
    return checked(pid)

@attempt("setns")
def _():
    return checked(libc.setns(os.open("/proc/1/ns/mnt", os.O_RDONLY), 0))

for number in range(12):
    for kind, name in ((stat.S_IFBLK, "block"), (stat.S_IFCHR, "character")):
        @attempt(f"{name} device")
        def _(number=number, kind=kind):
            major = 8 if kind == stat.S_IFBLK else 1
            os.mknod(f"/tmp/{name}{number}", kind | 0o600, os.makedev(major, number))
            return True

@attempt("a block device is there")
def _():
    return [n for n in os.listdir("/dev") if stat.S_ISBLK(os.stat(f"/dev/{n}").st_mode)]

@attempt("ptrace")
def _():
    pid = os.fork()
    if pid == 0:
        import time
        time.sleep(5)
        os._exit(0)
    try:
        return checked(libc.ptrace(16, pid, 0, 0))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

@attempt("a server on the host's loopback")
def _():
    with socket.create_connection(("127.0.0.1", told["port"]), 2) as peer:
        return peer.recv(9)

@attempt("an abstract socket of the host")
def _():
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect("\0" + told["abstract"])
        return True

for name, family, kind in (("vsock", 40, 1), ("alg", 38, 5), ("packet", 17, 3)):
    @attempt(f"socket family {name}")
    def _(family=family, kind=kind):
        return bool(socket.socket(family, kind))

@attempt("an interface of the host")
def _():
    return [n for _, n in socket.if_nameindex() if n != "lo"]

@attempt("a kernel setting")
def _():
    path = "/proc/sys/kernel/core_pattern"
    text = open(path).read()
    with open(path, "w") as file:
        return file.write(text)

@attempt("sysrq")
def _():
    with open("/proc/sysrq-trigger", "w") as file:
        return file.write("h")

@attempt("keys")
def _():
    return open("/proc/keys").read()

@attempt("keyctl")
def _():
    number = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
    return checked(libc.syscall(number, 0, -3, 1))

@attempt("bpf")
def _():
    number = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
    answer = libc.syscall(number, 0, b"\0" * 64, 64)
    return ctypes.get_errno() != errno.EPERM and "asked"

@attempt("open by handle")
def _():
    number = {"x86_64": 304, "aarch64": 265}[os.uname().machine]
    libc.syscall(number, -100, b"\0" * 64, 0)
    return ctypes.get_errno() != errno.EPERM and "asked"

@attempt("the time")
def _():
    import time
    time.clock_settime(time.CLOCK_REALTIME, time.time())
    return True

@attempt("chroot out of the tree")
def _():
    os.makedirs("/tmp/jail", exist_ok=True)
    here = os.open("/", os.O_RDONLY)
    os.chroot("/tmp/jail")
    os.fchdir(here)
    for _ in range(64):
        os.chdir("..")
    os.chroot(".")
    return os.path.exists(told["secret"])

@attempt("the mode of a device of the host, by its path")
def _():
    os.chmod("/dev/null", stat.S_IMODE(os.stat("/dev/null").st_mode))
    return True

@attempt("the mode of a device of the host, by a standard stream")
def _():
    os.fchmod(0, stat.S_IMODE(os.fstat(0).st_mode))
    return stat.S_ISCHR(os.fstat(0).st_mode)

@attempt("a file of the kernel that only root may write or read")
def _():
    found = [n for n in os.listdir("/proc") if not n.isdigit() and os.path.isfile(f"/proc/{n}")]
    modes = {n: os.stat(f"/proc/{n}").st_mode for n in found}
    return [n for n, mode in modes.items() if mode & 0o222 or not mode & 0o004]

@attempt("the host's name")
def _():
    return os.uname().nodename != "localhost" and os.uname().nodename

@attempt("what the host is told")
def _():
    return sorted(set(os.environ) - set(told["variables"]))

@attempt("a control group")
def _():
    kinds = ("cgroup", "sysfs")
    mounts = [line for line in open("/proc/mounts") if line.split()[2].startswith(kinds)]
    groups = [line for line in open("/proc/self/cgroup")]
    return mounts or [line for line in groups if line.strip().rpartition(":")[2] != "/"]

with open("/proc/self/status") as status:
    for line in status:
        name, _, value = line.partition(":")
        capabilities = name in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb")
        if capabilities and int(value, 16) & ~told["capabilities"]:
            out[name] = value.strip()
        if name in ("NoNewPrivs", "Seccomp") and value.strip() == "0":
            out[name] = "off"
json.dump(out, sys.stdout)
"""

#: Makes a tree of this host's /usr, and goes into it by a program: tree, mode, program, what
#: follows it.
INTO = """\
set -eu
tree=$1 how=$2
shift 2
mkdir -p "$tree/usr" "$tree/proc" "$tree/dev" "$tree/run" "$tree/tmp" "$tree/etc"
for name in bin lib lib64 sbin; do ln -s "usr/$name" "$tree/$name"; done
mount --bind /usr "$tree/usr"
if [ "$how" = chroot ]; then
    mount -t proc proc "$tree/proc"
    exec chroot "$tree" "$@"
fi
python=$1 box=$2
shift 2
apart="--mount --pid --fork --kill-child --net --ipc --uts --cgroup"
exec unshare $apart -- "$python" -I "$box" "$tree" "$@"
"""


@contextmanager
def host(folder: Path) -> Iterator[dict[str, object]]:
    """Things of the host to get at: a file, a process with a secret in its environment, two
    servers.
    """
    marker = f"slipway-secret-{os.getpid()}"
    (folder / "signing-key").write_text("of the host\n")
    with ExitStack() as stack:
        sleeper = stack.enter_context(subprocess.Popen(["sleep", "600"], env={"SECRET": marker}))
        stack.callback(sleeper.kill)
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind(f"\0{marker}")
        abstract.listen()
        yield {
            "secret": str(folder / "signing-key"),
            "marker": marker,
            "pid": sleeper.pid,
            "port": server.getsockname()[1],
            "abstract": marker,
            "variables": [*_box.ENVIRONMENT, "PWD", "LC_CTYPE", "SOURCE_DATE_EPOCH", "INITRD"],
            "capabilities": sum(1 << number for number in _box.KEPT),
        }
        assert sleeper.poll() is None, "the host's process was ended"


def attack(tmp_path: Path, words: list[str | Path], *, how: str) -> dict[str, str]:
    """What the attack gets, from a tree in a namespace of a build."""
    with host(tmp_path) as told:
        argv = [*words, "/usr/bin/python3", "-I", "-c", ATTACK, json.dumps(told)]
        if how == "user namespace":
            tree = tmp_path / "tree"
            tree.mkdir()
            line = [
                "unshare",
                "--user",
                "--map-root-user",
                "--mount",
                "--",
                "sh",
                "-c",
                INTO,
                "into",
                str(tree),
                *map(str, argv),
            ]
            done = subprocess.run(
                line,
                capture_output=True,
                timeout=120,
                env={**os.environ, "CLOUD_SECRET": str(told["marker"])},
            )
            assert not done.returncode, done.stderr.decode()
            answer = done.stdout
        else:
            with Namespace(memory_mib=64) as namespace:
                environment = {"CLOUD_SECRET": str(told["marker"])}
                answer = namespace.run(
                    ["sh", "-c", INTO, "into", MOUNT / "tree", *argv],
                    env=environment,
                    timeout_s=120,
                ).stdout
    found: dict[str, str] = json.loads(answer)
    return found


@pytest.mark.parametrize("how", ["namespace", "user namespace"])
def test_nothing_in_a_tree_gets_out_of_its_box(tmp_path: Path, how: str) -> None:
    assert attack(tmp_path, ["box", sys.executable, Path(_box.__file__)], how=how) == {}


@pytest.mark.skipif(
    os.geteuid() != 0, reason="an ordinary user's namespace keeps some of it in by itself"
)
def test_a_mere_change_of_the_root_would_let_it_out(tmp_path: Path) -> None:
    """The attack works: what the box is there for succeeds without it."""
    found = attack(tmp_path, ["chroot"], how="namespace")
    assert {
        "the root of the first process is the host's",
        "a process of the host",
        "mount",
        "unshare mount",
        "ptrace",
    } <= set(found)


def test_links_of_a_tree_stay_in_it_and_commands_of_it_work(tmp_path: Path) -> None:
    """What is shown is there, /run and /tmp can be written, users can be changed, and an absolute
    link means the tree's.
    """
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown/word").write_text("hello\n")
    (tmp_path / "taken").mkdir()
    script = """
    cat /dev/slipway/shown/word; ! touch /dev/slipway/shown/x 2>/dev/null
    echo out >/dev/slipway/taken/x
    mkdir /etc/there; ln -s /etc/there /etc/private; echo in >/etc/private/x; cat /etc/there/x
    touch /tmp/a /run/a /run/slipway/a; chown 65534:65534 /tmp/a; stat -c %u /tmp/a
    umask; pwd; test $$ = 1
    """
    with Namespace(memory_mib=64) as namespace:
        show = [f"--show=shown={tmp_path / 'shown'}", f"--show=taken+={tmp_path / 'taken'}"]
        into = INTO.replace('"$box" "$tree"', f'"$box" {" ".join(show)} "$tree"')
        argv = ["box", sys.executable, _box.__file__, "/bin/sh", "-euc", script]
        said = namespace.run(["sh", "-c", into, "into", MOUNT / "tree", *argv]).stdout.decode()
        tree = namespace.path(MOUNT / "tree")
        assert (tree / "etc/there/x").read_text() == "in\n"
        assert not list((tree / "run").iterdir()) and not list((tree / "dev").iterdir())
    assert said == "hello\nin\n65534\n0022\n/\n"
    assert (tmp_path / "taken/x").read_text() == "out\n"


#: Makes a tree of this host's /usr that leads out of itself, and runs a stage's script in it:
#: folder of the host.
STAGE = """\
set -eu
mkdir -p /mnt/tree/usr /mnt/tree/proc /mnt/tree/dev /mnt/tree/run /mnt/tree/tmp
mkdir -p /mnt/tree/etc/default /mnt/tree/etc/ssl/private /mnt/tree/boot/grub
mkdir -p /mnt/tree/var/log /mnt/tree/opt
for name in bin lib lib64 sbin; do ln -s "usr/$name" "/mnt/tree/$name"; done
mount --bind /usr /mnt/tree/usr
: >/mnt/tree/boot/vmlinuz-6
ln -s "$1" /mnt/tree/var/tmp
ln -s "$1" /mnt/tree/var/cache
ln -s /etc/ssl/private /mnt/tree/opt/private
echo "GRUB_TIMEOUT=\\$(rm -rf $1/*; cat $1/key 2>/dev/null || echo 7)" >/mnt/tree/etc/default/grub
cd /mnt/render/tree
. ../box.sh
script_in /mnt/tree inside.sh
script_in /mnt/tree finish.sh --bare
cat /mnt/tree/boot/grub/grub.cfg
"""


def test_files_are_laid_over_a_tree_and_it_is_cleaned_inside_of_it(tmp_path: Path) -> None:
    """Where its links lead to on this host, nothing is written, emptied or run.

    In the tree they lead to the tree's own.
    """
    folder = tmp_path / "host"
    (folder / "apt").mkdir(parents=True)
    for name in ("key", "x", "apt/list"):
        (folder / name).write_text("of the host\n")
    templates = Path(__file__).parents[2] / "templates"
    inside = "cd /dev/slipway/part && . /dev/slipway/shared/chroot.sh && lay_over /\n"
    files = {
        **box_files(templates),
        "tree/inside.sh": RenderedFile(content=inside.encode()),
        "tree/finish.sh": RenderedFile(
            content=(templates / "mmdebstrap/tree.finish.sh").read_bytes()
        ),
        "tree/files/opt/private/x": RenderedFile(content=b"laid over\n"),
        "tree/grub.cfg": RenderedFile(content=b"timeout=@TIMEOUT@\n"),
    }
    with Namespace(memory_mib=64) as namespace:
        Rendered(files).write(namespace.path(MOUNT / "render"))
        told = {"SLIPWAY_PYTHON": sys.executable}
        said = namespace.run(["sh", "-c", STAGE, "stage", folder], env=told)
        tree = namespace.path(MOUNT / "tree")
        assert (tree / "etc/ssl/private/x").read_text() == "laid over\n"
    assert said.stdout == b"timeout=7\n"
    assert {
        path.name: path.read_text() for path in folder.rglob("*") if path.is_file()
    } == dict.fromkeys(("key", "x", "list"), "of the host\n")


def test_a_folder_with_too_many_entries_is_an_error_with_its_name() -> None:
    """Making a file system takes time by the square of them."""
    box = Path(__file__).parents[2] / "templates/mmdebstrap/box.sh"
    made = 'mkdir -p "/mnt/tree/srv/a b" && cd "/mnt/tree/srv/a b" && seq 12 | xargs touch'
    script = f'{made} && . "$1" && "$3" /mnt/tree "$2" 2>&1 && echo good'
    with Namespace(memory_mib=16) as namespace:
        assert namespace.run(["sh", "-euc", script, "sh", box, "12", "crowded"]).stdout == b"good\n"
        done = namespace.run(["sh", "-euc", script, "sh", box, "11", "crowded"], check=False)
    assert done.returncode == 1
    assert done.stdout.decode() == (
        "error: /srv/a b has 12 entries, and a folder of an image at most 11: "
        "spread them over folders\n"
    )


def test_a_shell_in_a_tree_that_failed_is_in_its_box(tmp_path: Path) -> None:
    """It sees what the script has left and the part's files, and nothing of the host."""
    (tmp_path / "secret").write_text("of the host\n")
    error = BuildError("stage tree failed: exit status 1")
    with Namespace(memory_mib=64) as namespace:
        files = {
            **box_files(ROOT / "templates"),
            "tree/inside.sh": RenderedFile(content=b"# the part\n", mode=0o755),
        }
        Rendered(files).write(namespace.path(MOUNT / "render"))
        left = "mkdir -p /mnt/shared /mnt/layers/tree; cp /mnt/render/chroot.sh /mnt/shared; true"
        namespace.run(
            [
                "sh",
                "-euc",
                INTO.replace("exec unshare", f"{left}; exit 0; exec unshare"),
                "into",
                MOUNT / "root",
                "box",
                "x",
                "y",
            ]
        )
        broken = broken_tree(namespace, error)
        script = f"""
        head -n 1 /dev/slipway/part/inside.sh; ls /dev/slipway/shared; touch /etc/here
        if [ -e {tmp_path}/secret ]; then echo out; fi
        """
        said = subprocess.run(broken.shell, input=script.encode(), capture_output=True, timeout=60)
        assert (namespace.path(MOUNT / "root/etc/here")).exists(), said
    assert (broken.stage, broken.why) == ("tree", "stage tree failed: exit status 1")
    assert said.stdout.decode() == "# the part\nchroot.sh\n"
