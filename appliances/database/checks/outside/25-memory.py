#!/usr/bin/env python3
# timeout: 300
"""A query that wants more memory than the machine has loses its own connection.

The database answers again by itself.
"""

import os
import shlex
import subprocess
import time

import psycopg
from slipway_check import PATIENCE

ssh = shlex.split(os.environ["SLIPWAY_SSH"])


def root(command: str) -> str:
    return subprocess.run([*ssh, command], check=True, capture_output=True, text=True).stdout


password = root("cat /var/lib/slipway/parameters/password")
about = {
    "dbname": os.environ["SLIPWAY_PARAMETER_DATABASE"],
    "user": os.environ["SLIPWAY_PARAMETER_USER"],
    "password": password,
}
host = os.environ["SLIPWAY_ADDRESS"]


def ask(port: int) -> None:
    with psycopg.connect(
        host=host, port=port, **about, sslmode="require", connect_timeout=round(20 * PATIENCE)
    ) as connection:
        assert connection.execute("SELECT 1").fetchall() == [(1,)]


def answers(seconds: float) -> None:
    """Wait until both ports answer."""
    end = time.monotonic() + seconds
    while True:
        try:
            ask(5432)
            ask(6432)
            return
        except psycopg.OperationalError as error:
            print(str(error).splitlines()[0])
            if time.monotonic() > end:
                raise
            time.sleep(1)


greedy = (
    "SELECT array_length(array_agg(repeat('x', 1000) || i), 1) FROM generate_series(1, 3000000) i"
)
try:
    with psycopg.connect(
        host=host, port=5432, **about, sslmode="require", connect_timeout=round(20 * PATIENCE)
    ) as connection:
        print("the greedy query:", connection.execute(greedy).fetchall())
except psycopg.OperationalError as error:
    print("the greedy query:", str(error).splitlines()[0])
answers(120)

# What ends the servers themselves
for unit in ("postgresql@17-main", "pgbouncer"):
    root(f"systemctl kill --kill-whom=main --signal=KILL {unit}")
    answers(120)
