#!/usr/bin/env python3
# timeout: 400
"""After a backup, the database is put back to a moment between two writes: the first is there, the
second is not. A later moment of the time before can still be reached after that. A moment that
cannot be reached changes nothing.
"""

import os
import shlex
import subprocess
import time

import psycopg
from slipway_check import PATIENCE

ssh = shlex.split(os.environ["SLIPWAY_SSH"])


def root(command: str) -> str:
    done = subprocess.run([*ssh, command], capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def connect() -> psycopg.Connection:
    password = root("cat /var/lib/slipway/parameters/password")
    about = {
        "dbname": os.environ["SLIPWAY_PARAMETER_DATABASE"],
        "user": os.environ["SLIPWAY_PARAMETER_USER"],
    }
    return psycopg.connect(
        host=os.environ["SLIPWAY_ADDRESS"],
        **about,
        password=password,
        sslmode="require",
        connect_timeout=round(20 * PATIENCE),
        autocommit=True,
    )


def moment(connection: psycopg.Connection) -> str:
    time.sleep(1)
    found = connection.execute(
        "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"
    ).fetchone()[0]
    time.sleep(1)
    return f"{found}+00"


def write(connection: psycopg.Connection, name: str) -> None:
    connection.execute("INSERT INTO moments VALUES (%s)", (name,))


def names() -> list[str]:
    with connect() as connection:
        return [name for (name,) in connection.execute("SELECT name FROM moments ORDER BY name")]


root("systemctl start database-backup.service")
with connect() as connection:
    connection.execute("DROP TABLE IF EXISTS moments")
    connection.execute("CREATE TABLE moments (name text)")
    write(connection, "1 first")
    early = moment(connection)
    write(connection, "2 second")
    late = moment(connection)
    write(connection, "3 accident")
    for wrong in (
        "1 second ago",
        "2020-01-01 00:00:00+00",
        "2099-01-01 00:00:00+00",
        early.removesuffix("+00"),
        "x'; DROP TABLE moments; --",
    ):
        done = subprocess.run(
            [*ssh, f"database-restore {shlex.quote(wrong)}"], capture_output=True, text=True
        )
        print(wrong, done.returncode, done.stderr.strip())
        assert done.returncode == 1, done
    # The same connection: nothing was stopped.
    assert len(connection.execute("SELECT name FROM moments").fetchall()) == 3
print(root(f"database-restore '{early}'"))
assert names() == ["1 first"]
with connect() as connection:
    write(connection, "4 after the first restore")
print(root(f"database-restore '{late}'"))
assert names() == ["1 first", "2 second"]
with connect() as connection:
    write(connection, "after the restore")
root(
    "systemctl start database-backup.service && rm -r /var/lib/postgresql/17/main.before-restore-*"
)

# A restore whose log has a hole: what was there goes on.
with connect() as connection:
    write(connection, "5 later")
    wanted = moment(connection)
root("runuser -u postgres -- psql -AtXqc 'SELECT pg_switch_wal()' postgres && sleep 10")
hole = root(
    "ls -d /var/lib/database/wal/*.zst | grep -E '/[0-9A-F]{24}.zst$' | sort | tail -n 1"
).strip()
root(f"mv {hole} /var/tmp/")
done = subprocess.run([*ssh, f"database-restore '{wanted}'"], capture_output=True, text=True)
print(done.stdout, done.stderr)
root(f"mv -n /var/tmp/{hole.rpartition('/')[2]} {hole}")
assert done.returncode == 1, done
assert "nothing was changed" in done.stderr, done
assert "5 later" in names()
