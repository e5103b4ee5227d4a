#!/usr/bin/env python3
# timeout: 300
"""Nothing is forgotten: after a thousand saves, versions and deleted documents and folders are on
the page and come back, through renames too. Bad documents keep no other from being found. A backup,
put back, is the repository as it was.
"""

import base64
import os
import re
import shlex
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

from slipway_check import PATIENCE

ADDRESS = os.environ["SLIPWAY_ADDRESS"]
BASE = f"https://{ADDRESS}"
ssh = shlex.split(os.environ["SLIPWAY_SSH"])

#: Saves a document 1,001 times, in Subversion's dump format (version 2).
SAVES = """
import sys
out = sys.stdout.buffer
out.write(b"SVN-fs-dump-format-version: 2\\n\\n")
for number in range(1, 1002):
    text = b"save %d" % number
    out.write(b"Revision-number: %d\\nProp-content-length: 10\\n" % number)
    out.write(b"Content-length: 10\\n\\nPROPS-END\\n\\n")
    action = b"add" if number == 1 else b"change"
    out.write(b"Node-path: noise.txt\\nNode-kind: file\\nNode-action: %s\\n" % action)
    lengths = b"Prop-content-length: 10\\nText-content-length: %d\\n" % len(text)
    lengths += b"Content-length: %d" % (len(text) + 10)
    out.write(lengths + b"\\n\\nPROPS-END\\n" + text + b"\\n\\n")
"""


def on_machine(command: str) -> str:
    ran = subprocess.run([*ssh, command], capture_output=True, text=True)
    assert ran.returncode == 0, f"{command}: {ran.returncode}\n{ran.stdout}{ran.stderr}"
    return ran.stdout.strip()


CONTEXT = ssl.create_default_context(cadata=on_machine("cat /etc/documents/tls/server.crt"))
PASSWORD = on_machine("cat /var/lib/slipway/parameters/password")
BASIC = base64.b64encode(f"{os.environ['SLIPWAY_PARAMETER_USER']}:{PASSWORD}".encode()).decode()


def ask(method: str, path: str, data: bytes | None = None, **headers: str) -> tuple[int, str]:
    url = BASE + urllib.parse.quote(path, safe="/?=&")
    request = urllib.request.Request(
        url, data=data, method=method, headers={**headers, "Authorization": f"Basic {BASIC}"}
    )
    try:
        with urllib.request.urlopen(request, context=CONTEXT, timeout=120 * PATIENCE) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def put(path: str, text: str) -> None:
    status, said = ask("PUT", f"/documents{path}", text.encode())
    assert status in (201, 204), f"{path}: {status} {said[:300]}"


def history(path: str) -> str:
    """All pages of a path's versions."""
    pages, there = "", f"/versions{path}"
    while there:
        status, page = ask("GET", there)
        assert status == 200, f"{there}: {status} {page[-300:]}"
        pages += page
        older = re.search(r'href="(/versions[^"]*\?before=\d+)"', page)
        there = older[1] if older else ""
    return pages


def restore(path: str, page: str) -> None:
    """Press the first button that brings a path back."""
    button = re.search(rf'action="(/restore/\d+{re.escape(path)})"', page)
    assert button, f"no button for {path}: {re.sub('<[^>]+>', ' ', page)[-500:]}"
    status, said = ask("POST", button[1], b"", Origin=BASE)
    assert status == 200, f"{button[1]}: {status} {said[-300:]}"


def found(word: str, name: str) -> None:
    until = time.monotonic() + 120 * PATIENCE
    while name not in ask("GET", f"/search?q={word}")[1]:
        assert time.monotonic() < until, (
            f"{word} is not found in {name}: {on_machine('journalctl -u documents-index -n 20')}"
        )
        time.sleep(1)


#: Another folder for each try: nothing of an earlier one is forgotten.
KEPT = f"/kept-{time.time_ns()}"
ask("DELETE", "/documents/noise.txt")
assert ask("MKCOL", f"/documents{KEPT}")[0] == 201
put(f"{KEPT}/old.txt", "the first words")
put(f"{KEPT}/old.txt", "the second words")
put(f"{KEPT}/gone.txt", "a document that is deleted")
assert ask("DELETE", f"/documents{KEPT}/gone.txt")[0] == 204
assert ask("MKCOL", f"/documents{KEPT}/box")[0] == 201
put(f"{KEPT}/box/one.txt", "in a folder")
put(f"{KEPT}/box/two.txt", "in a folder too")
assert ask("DELETE", f"/documents{KEPT}/box")[0] == 204
put(f"{KEPT}/draft.txt", "as it began")
put(f"{KEPT}/draft.txt", "as it went on")
assert (
    ask("MOVE", f"/documents{KEPT}/draft.txt", Destination=f"{BASE}/documents{KEPT}/final.txt")[0]
    == 201
)
put(f"{KEPT}/final.txt", "as it ended")

# A thousand saves later
load = "runuser -u www-data -- svnadmin load -q --ignore-uuid /var/lib/documents/repository"
on_machine(f"python3 -c {shlex.quote(SAVES)} | {load}")
assert len(re.findall(rf"/restore/\d+{KEPT}/old\.txt", history(f"{KEPT}/old.txt"))) == 2
restore(f"{KEPT}/gone.txt", history(KEPT))
assert ask("GET", f"/documents{KEPT}/gone.txt")[1] == "a document that is deleted"
restore(f"{KEPT}/box", history(f"{KEPT}/box"))
assert ask("GET", f"/documents{KEPT}/box/two.txt")[1] == "in a folder too"
renamed = history(f"{KEPT}/final.txt")
assert len(re.findall(rf"/restore/\d+{KEPT}/(?:draft|final)\.txt", renamed)) == 4, re.sub(
    "<[^>]+>", " ", renamed
)

# Bad documents: one that no program reads, one that kills what reads it, one that is too large
on_machine(
    "mv /usr/bin/odt2txt /usr/bin/odt2txt.kept; printf '#!/bin/sh\\nkill -9 $$\\n' "
    ">/usr/bin/odt2txt; chmod 755 /usr/bin/odt2txt"
)
try:
    put(f"{KEPT}/broken.pdf", "this is no PDF")
    put(f"{KEPT}/killer.odt", "whatever reads this dies")
    put(f"{KEPT}/large.txt", "enormous " * (8 << 20))
    put(f"{KEPT}/after.txt", "the walrus comes last")
    found("walrus", "after.txt")
finally:
    on_machine("mv /usr/bin/odt2txt.kept /usr/bin/odt2txt")
found("killer", "killer.odt")  # by its name

# A folder of four hundred
on_machine(f"""
    repository=file:///var/lib/documents/repository{KEPT}/many
    set -- mkdir $repository
    for number in $(seq 0 399); do set -- "$@" put /etc/hostname $repository/$number.txt; done
    runuser -u www-data -- svnmucc -u admin -m many "$@" >/dev/null""")
begun = time.monotonic()
status, page = ask("GET", f"/folder{KEPT}/many")
took = time.monotonic() - begun
assert status == 200 and "399.txt" in page and took < 30, f"{status} after {took:.1f} s"

# A backup is put back
on_machine("rm -rf /root/backup; document-backup /root/backup; document-backup /root/backup")
put(f"{KEPT}/later.txt", "after the backup")
ask("DELETE", f"/documents{KEPT}/old.txt")
on_machine("document-restore /root/backup")
assert ask("GET", f"/documents{KEPT}/old.txt")[1] == "the second words"
assert ask("GET", f"/documents{KEPT}/later.txt")[0] == 404
put(f"{KEPT}/again.txt", "the narwhal is written after the restore")
found("narwhal", "again.txt")
found("walrus", "after.txt")
