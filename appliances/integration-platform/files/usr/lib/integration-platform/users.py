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
settings = {"user": user, "password": password, "application_password": inner, "store_password": secrets.token_hex(16)}


def escaped(value: str) -> str:
    """A value of a Java properties file, which is Latin-1."""
    text = "".join(f"\\{character}" if character in "\\#!=: '" else character for character in value)
    return text.encode("ascii", "backslashreplace").decode()


write(Path("/etc/activemq/users.properties"), "".join(f"{name}={escaped(value)}\n" for name, value in settings.items()), "activemq")
