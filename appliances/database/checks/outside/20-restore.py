#!/usr/bin/env python3
# timeout: 180
"""After a backup, the database is put back to a moment between two writes: the first is there, the second is not."""

import os
import shlex
import subprocess
import time

import psycopg


def root(command: str) -> str:
    done = subprocess.run([*shlex.split(os.environ["SLIPWAY_SSH"]), command], capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def connect() -> psycopg.Connection:
    password = root("cat /var/lib/slipway/parameters/password")
    about = {"dbname": os.environ["SLIPWAY_PARAMETER_DATABASE"], "user": os.environ["SLIPWAY_PARAMETER_USER"]}
    return psycopg.connect(
        host=os.environ["SLIPWAY_ADDRESS"], **about, password=password, sslmode="require", connect_timeout=20, autocommit=True
    )


root("systemctl start database-backup.service")
with connect() as connection:
    connection.execute("DROP TABLE IF EXISTS moments")
    connection.execute("CREATE TABLE moments (name text)")
    connection.execute("INSERT INTO moments VALUES ('before')")
    time.sleep(1)
    moment = connection.execute("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')").fetchone()[0] + "+00"
    time.sleep(1)
    connection.execute("INSERT INTO moments VALUES ('after')")
root("runuser -u postgres -- psql -AtXqc 'SELECT pg_switch_wal()' postgres")
print(root(f"database-restore '{moment}'"))
with connect() as connection:
    assert connection.execute("SELECT name FROM moments").fetchall() == [("before",)]
    connection.execute("INSERT INTO moments VALUES ('after the restore')")
