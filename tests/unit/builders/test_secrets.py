"""What a command that is given secrets says has none of them."""

from __future__ import annotations

import base64
import json
import subprocess
import sys

from slipway.builders import _secrets

KEY = "-----BEGIN SOMETHING-----\nfirst line of it\nabc\n-----END SOMETHING-----\n"
SCRIPT = """\
while read -r name value; do
    echo "$name"
    printf %s "$value" | base64 -d
    echo "in base64: $value"
done
echo 'it is first line of it' >&2
echo abc
exit 7
"""


def test_a_command_reads_them_and_what_it_says_has_stars_instead() -> None:
    program = [sys.executable, "-I", _secrets.__file__, "sh", "-c", SCRIPT]
    given = json.dumps({"TOKEN": "correct horse", "KEY": KEY}).encode()
    answer = subprocess.run(program, input=given, capture_output=True, timeout=20)
    said = answer.stdout.decode()
    assert answer.returncode == 7 and not answer.stderr
    assert said.splitlines()[:2] == ["TOKEN", "***in base64: ***"]
    assert "it is ***" in said
    assert (
        "correct horse" not in said
        and "first line" not in said
        and base64.b64encode(KEY.encode()).decode() not in said
    )


def test_a_signal_is_a_status() -> None:
    program = [sys.executable, "-I", _secrets.__file__, "sh", "-c", "kill -TERM $$"]
    assert (
        subprocess.run(program, input=b'{"TOKEN": "correct horse"}', timeout=20).returncode
        == 128 + 15
    )
