#!/usr/bin/env python3
# timeout: 120
"""A client writes over TLS, directly and through the pool, by IPv4 (verified by the machine's
address) and IPv6; without TLS, or with a wrong password, nobody gets in. From a network that is not
one of the clients' neither port lets in. The pool has room for all its clients.
"""

import os
import shlex
import subprocess
import tempfile

import psycopg
from slipway_check import PATIENCE

ssh = shlex.split(os.environ["SLIPWAY_SSH"])
password = subprocess.run(
    [*ssh, "cat /var/lib/slipway/parameters/password"], check=True, capture_output=True, text=True
).stdout
about = {
    "host": os.environ["SLIPWAY_ADDRESS"],
    "dbname": os.environ["SLIPWAY_PARAMETER_DATABASE"],
    "user": os.environ["SLIPWAY_PARAMETER_USER"],
}
assert len(password) == 24

link = "ip -6 -o address show scope link | sed -n 's/.*inet6 \\(fe80[^/]*\\).*/\\1/p' | head -n 1"
local = subprocess.run([*ssh, link], check=True, capture_output=True, text=True).stdout.strip()
ipv6 = {**about, "host": f"{local}%{os.environ['SLIPWAY_INTERFACE']}"}

authority = tempfile.NamedTemporaryFile("w")  # noqa: SIM115 - until the end
authority.write(
    subprocess.run(
        [*ssh, "cat /var/lib/slipway/certificates/authority.crt"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
)
authority.flush()
verified = {"sslmode": "verify-full", "sslrootcert": authority.name}

for port in (5432, 6432):
    with psycopg.connect(
        **ipv6,
        port=port,
        password=password,
        sslmode="require",
        connect_timeout=round(20 * PATIENCE),
    ) as connection:
        assert connection.execute("SELECT 1").fetchall() == [(1,)]
    with psycopg.connect(
        **about, **verified, port=port, password=password, connect_timeout=round(20 * PATIENCE)
    ) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS visits (port integer PRIMARY KEY)")
        connection.execute("INSERT INTO visits VALUES (%s) ON CONFLICT DO NOTHING", (port,))
    for wrong in (
        {"password": password, "sslmode": "disable"},
        {"password": "not-this-one", "sslmode": "require"},
    ):
        try:
            psycopg.connect(
                **about, port=port, connect_timeout=round(20 * PATIENCE), **wrong
            ).close()
        except psycopg.OperationalError as error:
            print(port, wrong["sslmode"], str(error).splitlines()[0])
        else:
            raise SystemExit(f"port {port} let in: {wrong['sslmode']}")

files = subprocess.run(
    [*ssh, "systemctl show --property LimitNOFILESoft --value pgbouncer"],
    check=True,
    capture_output=True,
    text=True,
)
assert int(files.stdout) >= 2 * 1000, files.stdout  # each client, and what the pool has open itself


def clients(networks: str) -> None:
    reload = (
        f"/usr/lib/database/access '{networks}' && systemctl reload postgresql@17-main pgbouncer"
    )
    subprocess.run([*ssh, reload], check=True)


clients("10.9.9.0/24 2001:db8::/32")
try:
    for port in (5432, 6432):
        for way in (about, ipv6):
            try:
                psycopg.connect(
                    **way,
                    port=port,
                    password=password,
                    sslmode="require",
                    connect_timeout=round(20 * PATIENCE),
                ).close()
            except psycopg.OperationalError as error:
                print(port, way["host"], str(error).splitlines()[0])
            else:
                raise SystemExit(f"port {port} let in a stranger from {way['host']}")
finally:
    clients(os.environ["SLIPWAY_PARAMETER_CLIENTS"])

try:
    psycopg.connect(
        **{**about, "user": "postgres"},
        password="postgres",
        sslmode="require",
        connect_timeout=round(20 * PATIENCE),
    ).close()
except psycopg.OperationalError:
    pass
else:
    raise SystemExit("the superuser was let in from outside")
