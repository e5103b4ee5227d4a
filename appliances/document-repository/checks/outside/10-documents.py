#!/usr/bin/env python3
# timeout: 240
"""A document is written by WebDAV, found by a word in it in a browser (Chromium), changed, and
brought back as it was. Strangers see nothing; a reader cannot write, and sees only what the rules
let them.
"""

import base64
import html
import io
import os
import re
import shlex
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile

from slipway_check import PATIENCE

ADDRESS, TOOLS = os.environ["SLIPWAY_ADDRESS"], os.environ["SLIPWAY_TOOLS"]
BASE = f"https://{ADDRESS}"
ssh = shlex.split(os.environ["SLIPWAY_SSH"])


def on_machine(command: str) -> str:
    return subprocess.run(
        [*ssh, command], check=True, capture_output=True, text=True
    ).stdout.strip()


CONTEXT = ssl.create_default_context(cadata=on_machine("cat /etc/documents/tls/server.crt"))
admin = (
    os.environ["SLIPWAY_PARAMETER_USER"],
    on_machine("cat /var/lib/slipway/parameters/password"),
)
reader = ("reader", on_machine("document-user remove reader || true; document-user add reader"))


def ask(
    who: tuple[str, str] | None, method: str, path: str, data: bytes | None = None, **headers: str
) -> tuple[int, bytes]:
    request = urllib.request.Request(
        BASE + urllib.parse.quote(path, safe="/?=&"), data=data, method=method, headers=headers
    )
    if who:
        request.add_header(
            "Authorization", "Basic " + base64.b64encode(":".join(who).encode()).decode()
        )
    try:
        with urllib.request.urlopen(request, context=CONTEXT, timeout=60 * PATIENCE) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def browser(path: str) -> str:
    """A page as a browser shows it: the document after it was loaded."""
    profile = "/tmp/browser"
    subprocess.run(["rm", "-rf", TOOLS + profile], check=True)
    name, password = (urllib.parse.quote(word, safe="") for word in admin)
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--ignore-certificate-errors",
        "--dump-dom",
    ]
    options += [f"--user-data-dir={profile}", "--timeout=30000", "--virtual-time-budget=20000"]
    command = ["chroot", TOOLS, "chromium", *options, f"https://{name}:{password}@{ADDRESS}{path}"]
    return html.unescape(
        subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=120 * PATIENCE
        ).stdout
    )


def pdf(words: str) -> bytes:
    """The smallest PDF with some words."""
    stream = f"BT /F1 24 Tf 72 700 Td ({words}) Tj ET".encode()
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        (
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 "
            b"R/Resources<</Font<</F1 5 0 R>>>>>>"
        ),
        b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    out, places = io.BytesIO(b""), []
    out.write(b"%PDF-1.4\n")
    for number, body in enumerate(objects, 1):
        places.append(out.tell())
        out.write(b"%d 0 obj%s\nendobj\n" % (number, body))
    start = out.tell()
    out.write(
        b"xref\n0 6\n0000000000 65535 f \n"
        + b"".join(b"%010d 00000 n \n" % place for place in places)
    )
    out.write(b"trailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % start)
    return out.getvalue()


def odt(words: str) -> bytes:
    out = io.BytesIO()
    oasis = "urn:oasis:names:tc:opendocument:xmlns"
    namespaces = f'xmlns:office="{oasis}:office:1.0" xmlns:text="{oasis}:text:1.0"'
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.text")
        body = f"<office:body><office:text><text:p>{words}</text:p></office:text></office:body>"
        archive.writestr(
            "content.xml",
            '<?xml version="1.0"?><office:document-content '
            f"{namespaces}>{body}</office:document-content>",
        )
    return out.getvalue()


def found(word: str, name: str) -> None:
    """A word is found in a document, by the page's search in a browser.

    The index may take a moment.
    """
    until = time.monotonic() + 60 * PATIENCE
    while True:
        page = browser(f"/search?q={word}")
        if name in page:
            break
        assert time.monotonic() < until, (
            f"{word} is not found: {re.sub('<[^>]+>', ' ', page)[-400:]}"
        )
        time.sleep(1)


# Strangers
assert ask(None, "GET", "/")[0] == 401
assert ask(("reader", "not-" + reader[1]), "GET", "/documents/")[0] == 401

# Written by WebDAV
folder = "/documents/contracts"
if ask(admin, "PROPFIND", folder + "/", Depth="0")[0] == 404:
    assert ask(admin, "MKCOL", folder)[0] == 201
for name, content in {
    "lease.txt": b"The lease of the lighthouse runs for seven years.",
    "plan.pdf": pdf("A plan of the periscope"),
    "letter.odt": odt("Dear submariner, thank you."),
    "größe.md": "# Größe\n\nEin Zeppelin".encode(),
}.items():
    status, said = ask(admin, "PUT", f"{folder}/{name}", content)
    assert status in (201, 204), f"{name}: {status} {said[:300]!r}"
status, said = ask(admin, "PROPFIND", folder + "/", Depth="1")
assert status == 207 and b"lease.txt" in said, said[:300]

# Found in a browser, in four formats
for word, name in {
    "lighthouse": "lease.txt",
    "periscope": "plan.pdf",
    "submariner": "letter.odt",
    "zeppelin": "größe.md",
}.items():
    found(word, name)
assert "lease.txt" in browser("/folder/contracts")

# Changed, and brought back as it was
assert ask(admin, "PUT", f"{folder}/lease.txt", b"The lease is void.")[0] == 204
history = ask(admin, "GET", "/versions/contracts/lease.txt")[1].decode()
versions = [int(number) for number in re.findall(r"/version/(\d+)/contracts/lease\.txt", history)]
assert len(versions) >= 2, history
old = versions[1]
assert ask(admin, "GET", f"/version/{old}/contracts/lease.txt")[1].startswith(
    b"The lease of the lighthouse"
)
assert (
    ask(admin, "POST", f"/restore/{old}/contracts/lease.txt", b"", Origin="https://elsewhere.test")[
        0
    ]
    == 403
)
status, _ = ask(admin, "POST", f"/restore/{old}/contracts/lease.txt", b"", Origin=BASE)
assert status == 200, status
assert (
    ask(admin, "GET", f"{folder}/lease.txt")[1]
    == b"The lease of the lighthouse runs for seven years."
)
assert ask(admin, "DELETE", f"{folder}/plan.pdf")[0] == 204
until = time.monotonic() + 60 * PATIENCE
while "plan.pdf" in ask(admin, "GET", "/search?q=periscope")[1].decode():
    assert time.monotonic() < until, "a deleted document is still found"
    time.sleep(1)
again = re.search(
    r'action="(/restore/\d+/contracts/plan\.pdf)"',
    ask(admin, "GET", "/versions/contracts")[1].decode(),
)
assert again
assert ask(admin, "POST", again[1], b"", Origin=BASE)[0] == 200
assert ask(admin, "GET", f"{folder}/plan.pdf")[1].startswith(b"%PDF")

# Access control
assert ask(reader, "GET", f"{folder}/lease.txt")[0] == 200
assert ask(reader, "PUT", f"{folder}/lease.txt", b"mine")[0] == 403
assert ask(reader, "POST", f"/restore/{old}/contracts/lease.txt", b"", Origin=BASE)[0] == 403
on_machine(
    "grep -q '^\\[/contracts\\]' /etc/documents/access || printf '[/contracts]\\nreader =\\n' "
    ">>/etc/documents/access"
)
assert ask(reader, "GET", f"{folder}/lease.txt")[0] == 403
assert ask(reader, "GET", "/versions/contracts/lease.txt")[0] == 403
assert "lease.txt" not in ask(reader, "GET", "/search?q=lighthouse")[1].decode()
assert "contracts" not in ask(reader, "GET", "/")[1].decode()
on_machine("sed -i '/^\\[\\/contracts\\]/,$d' /etc/documents/access")
