"""Phones that may register: add, remove, list.

Kamailio's database holds what SIP's digest (RFC 8760, MD5) is made from.
"""

from __future__ import annotations

import argparse
import getpass
import hashlib
import re
import secrets
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

DATABASE, INSTANCE = Path("/var/lib/kamailio/kamailio.db"), Path("/etc/kamailio/instance.cfg")


def domain() -> str:
    """The domain that this machine serves."""
    found = re.search(r'^#!substdef "!SIP_DOMAIN!(.+)!g"$', INSTANCE.read_text(), re.MULTILINE)
    if not found:
        raise SystemExit(f"phone: {INSTANCE} names no domain")
    return found[1]


def given() -> str:
    """Read a password, typed unseen or one line of standard input: what a command's words are, all
    users of the machine see.
    """
    secret = (
        getpass.getpass("password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    )
    if len(secret) < 12:
        raise SystemExit("phone: a password has at least 12 characters")
    if not secret.isprintable():
        raise SystemExit("phone: a password has no control characters")
    return secret


def add(database: sqlite3.Connection, name: str, password: str | None) -> None:
    """Add a phone; its password is printed if it was made here."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,62}", name):
        raise SystemExit("phone: a name has letters, digits and . _ + -")
    if database.execute("SELECT 1 FROM subscriber WHERE username = ?", (name,)).fetchone():
        raise SystemExit(f'phone: there is a phone "{name}" already')
    if password not in (None, "-"):
        raise SystemExit(f"phone: a password is read from standard input: phone add {name} -")
    realm, secret = domain(), given() if password else secrets.token_urlsafe(18)
    digest = hashlib.md5(f"{name}:{realm}:{secret}".encode(), usedforsecurity=False).hexdigest()
    try:
        with database:
            database.execute(
                "INSERT INTO subscriber (username, domain, ha1) VALUES (?, ?, ?)",
                (name, realm, digest),
            )
    except sqlite3.IntegrityError:
        raise SystemExit(f'phone: there is a phone "{name}" already') from None
    if password is None:
        print(secret)


def remove(database: sqlite3.Connection, name: str) -> None:
    """Remove a phone, and end its registration, which Kamailio has in memory."""
    with database:
        if not database.execute("DELETE FROM subscriber WHERE username = ?", (name,)).rowcount:
            raise SystemExit(f'phone: there is no phone "{name}"')
        database.execute("DELETE FROM location WHERE username = ?", (name,))
    command = ["kamcmd", "-s", "unix:/run/kamailio/kamailio_ctl", "ul.rm", "location", name]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    said = (ran.stderr + ran.stdout).strip()
    # Nobody is registered by that name (404), or Kamailio does not run: it reads the database when
    # it starts.
    if ran.returncode and "404" not in said and "connect_unix_sock" not in said:
        raise SystemExit(f'phone: "{name}" is removed, but stays registered: {said}')


def main() -> None:
    """See phone(8) above."""
    parser = argparse.ArgumentParser(prog="phone")
    commands = parser.add_subparsers(dest="command", required=True)
    adding = commands.add_parser(
        "add", help="let a phone register, with a new password, which is printed"
    )
    adding.add_argument("name")
    adding.add_argument(
        "password", nargs="?", metavar="-", help="read the password from standard input instead"
    )
    commands.add_parser("remove", help="let it register no more").add_argument("name")
    commands.add_parser("list", help="all phones")
    words = parser.parse_args()
    with closing(sqlite3.connect(f"file:{DATABASE}?mode=rw", uri=True, timeout=20)) as database:
        if words.command == "add":
            add(database, words.name, words.password)
        elif words.command == "remove":
            remove(database, words.name)
        else:
            for (name,) in database.execute("SELECT username FROM subscriber ORDER BY username"):
                sys.stdout.write(f"{name}\n")


main()
