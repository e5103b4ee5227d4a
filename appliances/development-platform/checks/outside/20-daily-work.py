#!/usr/bin/env python3
# timeout: 600
"""What a developer does every day works: containers find each other by name, pods start, limits
hold; node and npm run; a notebook installs a package, and one that takes all memory ends alone.
Browsers are sent to HTTPS.
"""

import http.client
import os
import shlex
import subprocess
import textwrap

from slipway_check import PATIENCE

ADDRESS = os.environ["SLIPWAY_ADDRESS"]
ssh = shlex.split(os.environ["SLIPWAY_SSH"])
developer = [*ssh[:-1], f"developer@{ADDRESS}"]

#: Fills the memory that its argument names, in MiB.
GREEDY = (
    "import sys; held = [bytearray(b'x' * 2**20) for _ in range(int(sys.argv[1]))]; "
    "print(len(held))"
)


def run(command: str, who: list[str] = developer) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*who, textwrap.dedent(command)], capture_output=True, text=True, timeout=500 * PATIENCE
    )


def said(command: str, who: list[str] = developer) -> str:
    """What a command prints; it may not warn."""
    ran = run(command, who)
    assert ran.returncode == 0 and not ran.stderr.strip(), (
        f"{command}: {ran.returncode}\n{ran.stdout}{ran.stderr}"
    )
    return ran.stdout.strip()


def close(command: str) -> None:
    """Remove what an earlier try left."""
    run(command)


run("install -d -m 700 -o developer -g developer ~developer/.ssh", ssh)
run(
    "install -m 600 -o developer -g developer /root/.ssh/authorized_keys "
    "~developer/.ssh/authorized_keys",
    ssh,
)

# An image of a few programs of the machine
close(
    "podman pod rm -fa; podman rm -fa -t 0; podman network rm -f back; podman image rm -f "
    "box; rm -rf box work"
)
said("""\
    set -e
    mkdir -p box/tmp
    for program in getent sleep true python3; do
        path=$(readlink -f "/usr/bin/$program")
        for file in "$path" $(ldd "$path" | grep -o '/[^ ]*'); do
            mkdir -p "box$(dirname "$file")"
            cp -L "$file" "box$file"
        done
    done
    ln -s usr/bin box/bin
    # Python warns without the folder of its modules in C, also if it imports none.
    mkdir -p box/usr/lib/python3.13/lib-dynload box/etc
    cp -r /usr/lib/python3.13/encodings /usr/lib/python3.13/*.py box/usr/lib/python3.13/ 2>/dev/null
    printf 'hosts: files dns\\n' >box/etc/nsswitch.conf
    printf 'FROM scratch\\nCOPY . /\\nENV PATH=/usr/bin\\n' >Containerfile
    mv Containerfile box/
    podman build -q -t box box""")

# Containers on a network of their own find each other by name
said("podman network create back && podman run -d --network back --name server box sleep 300")
found = said("podman run --rm --network back box getent hosts server")
assert found.endswith("server.dns.podman") or "server" in found, found
said("podman rm -f -t 0 server && podman network rm back")

# Pods, and a first process that reaps
said("podman pod create --name pod && podman run -d --pod pod box sleep 300")
assert said("podman pod inspect pod --format '{{.State}}'") == "Running"
said("podman pod rm -f -t 0 pod")
assert said("podman run --rm --init box true") == ""

# A container that prints for a month (40 MB here) does not fill the disk, whatever its log driver.
CHATTY = "for _ in range(1300): print('x' * 30000)"
for driver in ("k8s-file", ""):
    before = int(
        said("du --summarize --block-size=1M ~/.local/share/containers 2>/dev/null | cut -f 1")
    )
    option = f"--log-driver {driver}" if driver else ""
    said(f"podman run --name chatty {option} box python3.13 -S -c {shlex.quote(CHATTY)} >/dev/null")
    grown = (
        int(said("du --summarize --block-size=1M ~/.local/share/containers 2>/dev/null | cut -f 1"))
        - before
    )
    said("podman rm -f -t 0 chatty")
    assert grown < 24, f"{grown} MiB of a container's log, by {driver or 'what is usual'}"

# A limit holds
fits = said(f"podman run --rm --memory 200m box python3.13 -S -c {shlex.quote(GREEDY)} 20")
assert fits == "20", fits
killed = run(
    f"podman run --rm --memory 64m --memory-swap 64m box python3.13 -S -c {shlex.quote(GREEDY)} 300"
)
assert killed.returncode == 137, f"{killed.returncode}: {killed.stdout}{killed.stderr}"

# Languages, and no program that is not there
assert said("node -e 'console.log(6 * 7)'") == "42"
said("mkdir -p work && cd work && npm init -y >/dev/null && npm pkg get name")
assert said("tsc --version").startswith("Version ")
assert said("find /usr/bin -xtype l") == ""
assert said("python3 -c 'import numpy, pandas; print(pandas.Series(numpy.arange(4)).sum())'") == "6"
for program in ("curl", "nano", "pip", "rsync", "tmux", "vi", "wget"):
    said(f"command -v {program} >/dev/null")

# Notebooks: what %pip runs installs into an environment of the developer's own
said("""\
    set -e
    rm -rf proof && mkdir proof && cd proof
    python3 - <<'END'
    import zipfile
    info = "proof-1.0.dist-info"
    with zipfile.ZipFile("proof-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("proof.py", "answer = 42\\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: proof\\nVersion: 1.0\\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        )
        wheel.writestr(f"{info}/RECORD", f"proof.py,,\\n{info}/METADATA,,\\n{info}/WHEEL,,\\n")
    END""")
KERNEL = """\
import sys
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(kernel_name="python3")
def show(message):
    if message["header"]["msg_type"] == "stream":
        print(message["content"]["text"], end="")
for code in sys.argv[1:]:
    client.execute_interactive(code, output_hook=show, timeout=200)
manager.shutdown_kernel(now=True)
"""
cells = [
    "%pip install -q --no-index ~/proof/proof-1.0-py3-none-any.whl",
    "import proof; print(proof.answer)",
]
printed = said(f"python3 -c {shlex.quote(KERNEL)} {shlex.join(cells)} 2>/dev/null")
assert printed.splitlines()[-1] == "42", printed

# A process that takes all of JupyterLab's memory ends alone
before = said("systemctl show -p MainPID --value jupyterlab", ssh)
said(f"printf '%s\\n' {shlex.quote(GREEDY)} >/run/greedy.py", ssh)
ran = run(
    """\
    group=/sys/fs/cgroup/system.slice/jupyterlab.service
    most=$(($(cat $group/memory.current) + 67108864))
    systemctl set-property --runtime jupyterlab MemoryMax=$most
    sh -c 'echo $$ >'$group'/cgroup.procs; echo 1000 >/proc/$$/oom_score_adj
        exec python3 /run/greedy.py 300'
    echo "ended: $?"
    systemctl set-property --runtime jupyterlab MemoryMax=80%""",
    ssh,
)
assert "ended: 137" in ran.stdout, f"{ran.returncode}: {ran.stdout}{ran.stderr}"
assert said(
    "sleep 3; systemctl is-active jupyterlab; systemctl show -p MainPID --value jupyterlab", ssh
).split() == ["active", before]

# Browsers are sent to HTTPS
connection = http.client.HTTPConnection(ADDRESS, 80, timeout=60 * PATIENCE)
connection.request("GET", "/proof/", headers={"Host": "dev.example.test"})
answer = connection.getresponse()
assert (answer.status, answer.headers["Location"]) == (301, "https://dev.example.test/proof/"), (
    answer.status
)
