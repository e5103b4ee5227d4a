#!/usr/bin/env python3
# timeout: 120
"""A client writes over TLS, directly and through the pool; without TLS, or with a wrong password, nobody gets in."""

import os
import shlex
import subprocess

import psycopg

ssh = shlex.split(os.environ["SLIPWAY_SSH"])
password = subprocess.run([*ssh, "cat /var/lib/slipway/parameters/password"], check=True, capture_output=True, text=True).stdout
about = {
    "host": os.environ["SLIPWAY_ADDRESS"],
    "dbname": os.environ["SLIPWAY_PARAMETER_DATABASE"],
    "user": os.environ["SLIPWAY_PARAMETER_USER"],
}
assert len(password) == 24

for port in (5432, 6432):
    with psycopg.connect(**about, port=port, password=password, sslmode="require", connect_timeout=20) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS visits (port integer PRIMARY KEY)")
        connection.execute("INSERT INTO visits VALUES (%s) ON CONFLICT DO NOTHING", (port,))
    for wrong in ({"password": password, "sslmode": "disable"}, {"password": "not-this-one", "sslmode": "require"}):
        try:
            psycopg.connect(**about, port=port, connect_timeout=20, **wrong).close()
        except psycopg.OperationalError as error:
            print(port, wrong["sslmode"], str(error).splitlines()[0])
        else:
            raise SystemExit(f"port {port} let in: {wrong['sslmode']}")

try:
    psycopg.connect(**{**about, "user": "postgres"}, password="postgres", sslmode="require", connect_timeout=20).close()
except psycopg.OperationalError:
    pass
else:
    raise SystemExit("the superuser was let in from outside")
