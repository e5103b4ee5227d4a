#!/usr/bin/env python3
# timeout: 180
"""An office's month does not fill the disk. What a save, a request and a broken upload leave beside
the journal, which has a limit, is measured, and counted for 6,000 saves and ten requests a second.
Uploads that were broken off go after two days.
"""

import base64
import os
import pathlib
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request

SAVES, MONTH_SAVES = 20, 6000
REQUESTS, MONTH_REQUESTS = 100, 10 * 86400 * 31
CONTEXT = ssl.create_default_context(cafile="/etc/documents/tls/server.crt")
CONTEXT.check_hostname = False
PARAMETERS = pathlib.Path("/var/lib/slipway/parameters")
LOGIN = ":".join((PARAMETERS / name).read_text().strip() for name in ("user", "password"))
BEGUN = [
    pathlib.Path("/var/lib/documents/repository/db") / name
    for name in ("transactions", "txn-protorevs")
]


def ask(method: str, path: str, data: bytes | None = None, login: str = LOGIN) -> int:
    headers = {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()}
    request = urllib.request.Request(
        "https://127.0.0.1" + path, data=data, method=method, headers=headers
    )
    try:
        with urllib.request.urlopen(request, context=CONTEXT, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def kept(*folders: str) -> int:
    """What is on the disk below some folders, in bytes."""
    subprocess.run(["sync"], check=True)
    command = [
        "du",
        "--summarize",
        "--total",
        "--block-size=1",
        "--exclude=/var/log/journal",
        *folders,
    ]
    return int(
        subprocess.run(command, check=True, capture_output=True, text=True)
        .stdout.splitlines()[-1]
        .split()[0]
    )


size = shutil.disk_usage("/var/lib/documents").total
document = os.urandom(200_000)
before = kept("/var/lib/documents")
for _ in range(SAVES):
    status = ask("PUT", "/documents/growth.bin", document[:150_000] + os.urandom(50_000))
    assert status in (201, 204), status
save = (kept("/var/lib/documents") - before) // SAVES
assert ask("DELETE", "/documents/growth.bin") == 204

before = kept("/var/log", "/var/lib/apache2", "/var/cache")
for number in range(REQUESTS):
    status = ask("GET", f"/growth-{number}", login="nobody:at-all")
    assert status == 401, status
grown = kept("/var/log", "/var/lib/apache2", "/var/cache") - before
said = [
    "journalctl",
    "--identifier=documents",
    "--since=-10min",
    f"--grep=growth-{REQUESTS - 1} HTTP",
    "--quiet",
]
until = time.monotonic() + 30
while subprocess.run(said, stdout=subprocess.DEVNULL).returncode:
    assert time.monotonic() < until, "the journal does not tell of the requests"
    time.sleep(1)
month = save * MONTH_SAVES + grown * MONTH_REQUESTS // REQUESTS
print(
    f"a save keeps {save} bytes, {REQUESTS} requests {grown}: a month keeps {month >> 20} "
    f"MiB of {size >> 20}"
)
assert month < size / 4

run = ["runuser", "-u", "www-data", "--"]
subprocess.run([*run, "install", "-d", BEGUN[0] / "0-0.txn"], check=True)
for path in (BEGUN[0] / "0-0.txn/props", BEGUN[1] / "0-0.rev", BEGUN[0] / "0-0.txn"):
    subprocess.run([*run, "touch", "--date=3 days ago", path], check=True)
subprocess.run([*run, "install", "-d", BEGUN[0] / "0-1.txn"], check=True)
subprocess.run(["systemctl", "start", "systemd-tmpfiles-clean.service"], check=True)
left = [path.name for folder in BEGUN for path in folder.glob("0-*")]
(BEGUN[0] / "0-1.txn").rmdir()
assert left == ["0-1.txn"], (
    f"an upload that was broken off three days ago stays, or one of today goes: {left}"
)
