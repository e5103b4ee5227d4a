#!/usr/bin/env python3
# timeout: 120
# before: reset
"""What was committed before the power was cut is there, and the pool answers again."""

import os
import shlex
import subprocess

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
for port in (5432, 6432):
    with psycopg.connect(
        **about,
        port=port,
        password=password,
        sslmode="require",
        connect_timeout=round(20 * PATIENCE),
    ) as connection:
        assert connection.execute("SELECT port FROM visits ORDER BY port").fetchall() == [
            (5432,),
            (6432,),
        ]
        assert ("after the restore",) in connection.execute("SELECT name FROM moments").fetchall()
