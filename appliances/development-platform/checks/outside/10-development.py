#!/usr/bin/env python3
# timeout: 400
"""A program is pushed over SSH, cloned over HTTPS and seen in the web view; its clone on the
machine is compiled, built into a container and run there; a cell of a notebook runs. A wrong
password gets nothing.
"""

import base64
import http.cookiejar
import json
import os
import pathlib
import re
import shlex
import ssl
import subprocess
import urllib.error
import urllib.parse
import urllib.request
import uuid

import websocket
from slipway_check import PATIENCE

ADDRESS, TOOLS = os.environ["SLIPWAY_ADDRESS"], pathlib.Path(os.environ["SLIPWAY_TOOLS"])
ssh = shlex.split(os.environ["SLIPWAY_SSH"])
developer = [*ssh[:-1], f"developer@{ADDRESS}"]


def on_machine(command: str, who: list[str] = ssh) -> str:
    ran = subprocess.run([*who, command], capture_output=True, text=True, timeout=400 * PATIENCE)
    assert ran.returncode == 0, f"{command}: {ran.stdout}{ran.stderr}"
    return ran.stdout.strip()


NAME = on_machine("hostname")
PASSWORD, CERTIFICATE = (
    on_machine("cat /var/lib/slipway/parameters/password"),
    on_machine("cat /etc/nginx/tls/server.crt"),
)
CONTEXT = ssl.create_default_context(cadata=CERTIFICATE)
cookies = http.cookiejar.CookieJar()
opener = urllib.request.build_opener(
    urllib.request.HTTPSHandler(context=CONTEXT), urllib.request.HTTPCookieProcessor(cookies)
)


def ask(path: str, data: bytes | None = None, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(f"https://{ADDRESS}{path}", data=data, headers=headers)
    try:
        with opener.open(request, timeout=120 * PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"developer:{password}".encode()).decode()}


def git(*words: str) -> None:
    """Git as somebody elsewhere has it."""
    key = ["ssh", *(word if word != ssh[ssh.index("-i") + 1] else "/tmp/key" for word in ssh[1:-1])]
    settings = {
        "GIT_SSH_COMMAND": shlex.join(key),
        "GIT_SSL_CAINFO": "/tmp/server.crt",
        "GIT_TERMINAL_PROMPT": "0",
        "HOME": "/tmp",
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    }
    for variable in ("AUTHOR", "COMMITTER"):
        settings |= {
            f"GIT_{variable}_NAME": "Somebody",
            f"GIT_{variable}_EMAIL": "somebody@elsewhere.test",
        }
    resolve = ["-c", f"http.curloptResolve={NAME}:443:{ADDRESS}"]
    ran = subprocess.run(
        ["chroot", TOOLS, "git", *resolve, *words],
        env=settings,
        capture_output=True,
        text=True,
        timeout=200 * PATIENCE,
    )
    assert ran.returncode == 0, f"git {words}: {ran.stderr}"


def notebook_cell(code: str) -> str:
    """What a cell prints."""
    status, page = ask("/jupyter/login?next=/jupyter/lab")
    assert status == 200, f"{status}: {page[:300]}"
    token = re.search(r'name="_xsrf" value="([^"]+)"', page)
    assert token, page[:500]

    def log_in(password: str) -> int:
        return ask(
            "/jupyter/login",
            urllib.parse.urlencode({"_xsrf": token[1], "password": password}).encode(),
        )[0]

    assert log_in("not-" + PASSWORD) == 401
    assert ask("/jupyter/api/kernels")[0] == 403
    assert log_in(PASSWORD) == 200
    status, kernel = ask(
        "/jupyter/api/kernels",
        b"{}",
        **{"X-XSRFToken": token[1], "Content-Type": "application/json"},
    )
    assert status == 201, kernel
    cookie = "; ".join(f"{item.name}={item.value}" for item in cookies)
    url = f"wss://{ADDRESS}/jupyter/api/kernels/{json.loads(kernel)['id']}/channels"
    options = {"context": CONTEXT}
    channel = websocket.create_connection(
        url, sslopt=options, cookie=cookie, origin=f"https://{ADDRESS}", timeout=240 * PATIENCE
    )
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": "execute_request",
        "username": "",
        "session": uuid.uuid4().hex,
        "version": "5.3",
    }
    content = {
        "code": code,
        "silent": False,
        "store_history": False,
        "user_expressions": {},
        "allow_stdin": False,
    }
    channel.send(
        json.dumps(
            {
                "header": header,
                "parent_header": {},
                "metadata": {},
                "content": content,
                "channel": "shell",
            }
        )
    )
    printed = ""
    while True:
        message = json.loads(channel.recv())
        if message["parent_header"].get("msg_id") != header["msg_id"]:
            continue
        if message["msg_type"] == "stream":
            printed += message["content"]["text"]
        elif message["msg_type"] == "error":
            raise AssertionError(message["content"])
        elif message["msg_type"] == "execute_reply":
            channel.close()
            return printed


# Nothing without a password
assert ask("/")[0] == 401
assert ask("/git/proof.git/info/refs?service=git-upload-pack", **basic("not-" + PASSWORD))[0] == 401

# Pushed over SSH, cloned and pushed over HTTPS
on_machine(
    "install -m 600 -o developer -g developer /root/.ssh/authorized_keys "
    "~developer/.ssh/authorized_keys; rm -rf /srv/git/proof.git"
)
on_machine("repository new proof", developer)
pathlib.Path(TOOLS, "tmp/key").unlink(missing_ok=True)
pathlib.Path(TOOLS, "tmp/key").write_bytes(pathlib.Path(ssh[ssh.index("-i") + 1]).read_bytes())
pathlib.Path(TOOLS, "tmp/key").chmod(0o600)
pathlib.Path(TOOLS, "tmp/server.crt").write_text(CERTIFICATE)
subprocess.run(["rm", "-rf", TOOLS / "tmp/proof", TOOLS / "tmp/again"], check=True)
git("init", "-q", "--initial-branch=main", "/tmp/proof")
proof = TOOLS / "tmp/proof"
(proof / "hello.c").write_text(
    '#include <stdio.h>\nint main(void) { puts("hello from a container"); return 0; }\n'
)
(proof / "Makefile").write_text("hello: hello.c\n\tgcc -static -Os -o hello hello.c\n")
(proof / "Containerfile").write_text('FROM scratch\nCOPY hello /hello\nCMD ["/hello"]\n')
git("-C", "/tmp/proof", "add", ".")
git("-C", "/tmp/proof", "commit", "-qm", "a program")
git("-C", "/tmp/proof", "push", "-q", f"developer@{ADDRESS}:/srv/git/proof.git", "main")
password = urllib.parse.quote(PASSWORD, safe="")
git("clone", "-q", f"https://developer:{password}@{NAME}/git/proof.git", "/tmp/again")
assert (TOOLS / "tmp/again/hello.c").read_text() == (proof / "hello.c").read_text()
(TOOLS / "tmp/again/README").write_text("pushed over HTTPS\n")
git("-C", "/tmp/again", "add", ".")
git("-C", "/tmp/again", "commit", "-qm", "a word more")
git("-C", "/tmp/again", "push", "-q", "origin", "main")
status, page = ask("/proof/log/", **basic(PASSWORD))
assert status == 200 and "a word more" in page, f"{status}: {page[:500]}"

# Compiled, built into a container and run
said = on_machine(
    "rm -rf proof; git clone -q /srv/git/proof.git && cd proof && make -s && podman build -q -t "
    "proof . && podman run --rm proof",
    developer,
)
assert said.splitlines()[-1] == "hello from a container", said

# A cell of a notebook
assert notebook_cell("print(sum(range(10)))").strip() == "45"
