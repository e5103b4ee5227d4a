"""Phones that may register: add, remove, list. Kamailio's database holds what SIP's digest (RFC 8760, MD5) is made from."""

from __future__ import annotations

import argparse
import hashlib
import re
import secrets
import sqlite3
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


def add(database: sqlite3.Connection, name: str, password: str | None) -> None:
    """Add a phone; its password is printed if it was made here."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,62}", name):
        raise SystemExit("phone: a name has letters, digits and . _ + -")
    if password is not None and len(password) < 12:
        raise SystemExit("phone: a password has at least 12 characters")
    realm, secret = domain(), password or secrets.token_urlsafe(18)
    digest = hashlib.md5(f"{name}:{realm}:{secret}".encode(), usedforsecurity=False).hexdigest()
    try:
        with database:
            database.execute("INSERT INTO subscriber (username, domain, ha1) VALUES (?, ?, ?)", (name, realm, digest))
    except sqlite3.IntegrityError:
        raise SystemExit(f'phone: there is a phone "{name}" already') from None
    if password is None:
        print(secret)


def remove(database: sqlite3.Connection, name: str) -> None:
    """Remove a phone and where it was registered (which Kamailio forgets when it starts again)."""
    with database:
        if not database.execute("DELETE FROM subscriber WHERE username = ?", (name,)).rowcount:
            raise SystemExit(f'phone: there is no phone "{name}"')
        database.execute("DELETE FROM location WHERE username = ?", (name,))


def main() -> None:
    """See phone(8) above."""
    parser = argparse.ArgumentParser(prog="phone")
    commands = parser.add_subparsers(dest="command", required=True)
    adding = commands.add_parser("add", help="let a phone register; prints its password, unless one is given")
    adding.add_argument("name")
    adding.add_argument("password", nargs="?")
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
