"""The parameters of first boot -> the users of Tomcat and of the broker, each in a file that only its service can read."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
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
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        shutil.chown(new, "root", owner)
        new.chmod(0o640)
    new.replace(path)


user, password, inner = os.environ["PARAM_USER"], os.environ["PARAM_PASSWORD"], secrets.token_hex(16)
write(
    Path("/etc/tomcat11/tomcat-users.xml"),
    '<?xml version="1.0" encoding="utf-8"?>\n<tomcat-users xmlns="http://tomcat.apache.org/xml">\n'
    f'  <user username={quoteattr(user)} password="{stored(password)}" roles="manager-gui,manager-script"/>\n</tomcat-users>\n',
    "tomcat",
)
context = Path("/usr/lib/integration-platform/context.xml").read_text(encoding="utf-8")
write(Path("/etc/tomcat11/context.xml"), context.replace("@password@", inner), "tomcat")


def escaped(value: str) -> str:
    """Return a value of a Java properties file: every UTF-16 unit but letters and digits as \\uXXXX (java.util.Properties, load)."""
    units = memoryview(value.encode("utf-16-le")).cast("H")
    return "".join(chr(unit) if unit < 128 and chr(unit).isalnum() else f"\\u{unit:04x}" for unit in units)


def properties(name: str, values: dict[str, str]) -> None:
    """Write a properties file that the broker can read."""
    write(Path("/etc/activemq") / name, "".join(f"{escaped(key)}={escaped(value)}\n" for key, value in values.items()), "activemq")


properties("users.properties", {user: password, "application": inner})
properties("groups.properties", {"users": f"{user},application"})
properties("store.properties", {"store": secrets.token_hex(16)})
