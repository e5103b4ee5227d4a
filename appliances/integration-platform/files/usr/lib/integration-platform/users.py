"""The parameters of first boot -> the users of Tomcat and of the broker, each in a file that only
its service can read.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import secrets
import shutil
import sys
from pathlib import Path
from xml.sax.saxutils import quoteattr

#: As server.xml's CredentialHandler has it (Tomcat's SecretKeyCredentialHandler).
ITERATIONS, KEY_BYTES = 100_000, 32


def stored(password: str) -> str:
    """A password as Tomcat keeps it: salt, iterations and key."""
    salt = secrets.token_bytes(16)
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS, KEY_BYTES)
    return f"{salt.hex()}${ITERATIONS}${key.hex()}"


def write(path: Path, text: str, owner: str) -> None:
    """A file that only an owner's group can read besides root, whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(
        os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(text)
        shutil.chown(new, "root", owner)
        new.chmod(0o640)
    new.replace(path)


def networks(text: str) -> str:
    """Return networks as Tomcat's RemoteCIDRValve takes them."""
    try:
        found = [str(ipaddress.ip_network(word, strict=False)) for word in text.split()]
    except ValueError as error:
        sys.exit(
            f"manager_networks must be networks such as 192.0.2.0/24, with spaces between: {error}"
        )
    if not found:
        sys.exit("manager_networks must name a network: without one nobody could deploy anything")
    return ",".join(found)


managers = networks(os.environ["PARAM_MANAGER_NETWORKS"])
if sys.argv[1:] == ["--check"]:
    sys.exit()
user, password, inner = (
    os.environ["PARAM_USER"],
    os.environ["PARAM_PASSWORD"],
    secrets.token_hex(16),
)
write(
    Path("/etc/tomcat11/tomcat-users.xml"),
    '<?xml version="1.0" encoding="utf-8"?>\n<tomcat-users xmlns="http://tomcat.apache.org/xml">\n'
    # A browser sends its password along with what a foreign page asks for; only the page's own
    # forms are guarded against that.
    f'  <user username={quoteattr(user)} password="{stored(password)}" roles="manager-gui"/>\n'
    f'  <user username="deploy" password="{stored(os.environ["PARAM_DEPLOY_PASSWORD"])}" '
    'roles="manager-script"/>\n</tomcat-users>\n',
    "tomcat",
)
# The manager, and the page of queues
for name, folder, more in (
    (
        "manager",
        "/usr/share/tomcat11-admin/manager",
        ' antiResourceLocking="false" privileged="true"',
    ),
    ("queues", "/usr/share/queues", ""),
):
    write(
        Path(f"/etc/tomcat11/Catalina/localhost/{name}.xml"),
        '<?xml version="1.0" encoding="utf-8"?>\n'
        f'<Context docBase="{folder}"{more}>\n'
        '  <Valve className="org.apache.catalina.valves.RemoteCIDRValve" '
        f'allow="127.0.0.0/8,::1/128,{managers}"/>\n</Context>\n',
        "tomcat",
    )
context = Path("/usr/lib/integration-platform/context.xml").read_text(encoding="utf-8")
write(Path("/etc/tomcat11/context.xml"), context.replace("@password@", inner), "tomcat")


def escaped(value: str) -> str:
    """Return a value of a Java properties file: every UTF-16 unit but letters and digits as \\uXXXX
    (java.util.Properties, load).
    """
    units = memoryview(value.encode("utf-16-le")).cast("H")
    return "".join(
        chr(unit) if unit < 128 and chr(unit).isalnum() else f"\\u{unit:04x}" for unit in units
    )


def properties(name: str, values: dict[str, str]) -> None:
    """Write a properties file that the broker can read."""
    write(
        Path("/etc/activemq") / name,
        "".join(f"{escaped(key)}={escaped(value)}\n" for key, value in values.items()),
        "activemq",
    )


properties("users.properties", {user: password, "application": inner})
properties("groups.properties", {"users": f"{user},application"})
properties("store.properties", {"store": secrets.token_hex(16)})
