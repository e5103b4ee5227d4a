#!/usr/bin/env python3
# timeout: 240
# with: cloud
"""Whoever has the SSH key that cloud-init was given logs in, as the default user, and may become
root; nobody does without a key. That machine's disk has grown, it updates itself, and it is another
one than its sibling: it has host keys of its own.
"""

import json
import os
import shlex
import subprocess
import time

from slipway_check import PATIENCE

cloud, sibling = (
    shlex.split(os.environ[name]) for name in ("SLIPWAY_INSTANCE_CLOUD_SSH", "SLIPWAY_SSH")
)


def on(machine: list[str], command: str) -> str:
    ran = subprocess.run(
        [*machine, command], capture_output=True, text=True, timeout=120 * PATIENCE
    )
    assert ran.returncode == 0, f"{command}: {ran.stdout}{ran.stderr}"
    return ran.stdout.strip()


until = time.monotonic() + 600
while True:  # it has just been switched on
    try:
        user = on(cloud, "id --user --name")
        break
    except (AssertionError, subprocess.TimeoutExpired) as error:
        # The key is there before the server is: its first refusal is its last word.
        if time.monotonic() > until or "Permission denied" in str(error):
            raise
        time.sleep(3)
assert user == cloud[-1].partition("@")[0] != "root", user
assert on(cloud, "sudo --non-interactive id --user") == "0"

keyless = [word for word in cloud if word not in ("-i", cloud[cloud.index("-i") + 1])]
refused = subprocess.run([*keyless, "true"], capture_output=True, text=True, timeout=120 * PATIENCE)
assert refused.returncode == 255 and "Permission denied (publickey)" in refused.stderr, refused

file_system = json.loads(on(cloud, "findmnt --json --bytes --output SOURCE,SIZE /"))["filesystems"][
    0
]
disk = int(
    on(
        cloud,
        "lsblk --nodeps --noheadings --bytes --output SIZE /dev/$(lsblk --noheadings --output "
        f"PKNAME {file_system['source']})",
    )
)
assert file_system["size"] > disk * 0.85, f"{file_system['size']} of {disk} bytes"

assert 'APT::Periodic::Unattended-Upgrade "1";' in on(cloud, "apt-config dump").splitlines()
for identity in ("/etc/ssh/ssh_host_ed25519_key.pub", "/etc/machine-id"):
    assert len({on(machine, f"cat {identity}") for machine in (cloud, sibling)}) == 2, (
        f"two machines have one {identity}"
    )
print(f"{user} logged in; the root has {file_system['size']} of {disk} bytes")
