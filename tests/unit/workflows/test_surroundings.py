"""The matrix of builds: every pair of surroundings is in it, its rows are real, and a difference is
named.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from slipway.errors import BuildError, HostError
from slipway.host import process
from slipway.workflows import surroundings
from slipway.workflows.surroundings import Row, Surroundings, require_same, rows_of

NAMESPACE = """
import sys
from slipway.host.namespace import Namespace
with Namespace(network=True, memory_mib=16) as namespace:
    sys.stdout.buffer.write(namespace.run(["sh", "-c", "echo $(hostname) $(id -u)"]).stdout)
"""
TWO = (("root", "other"), ("one", "two"))
AROUND = """
import json, os, pwd, socket, sys, time
mask = os.umask(0)
user = pwd.getpwuid(os.getuid()).pw_name
host = socket.gethostname()
print(json.dumps([f"{mask:04o}", user, host, os.environ["TZ"], os.getgroups()]))
"""


def test_every_pair_of_two_surroundings_values_is_in_a_row() -> None:
    rows = rows_of(*TWO)
    assert len(rows) == 6
    for one, other in combinations(Surroundings.__slots__, 2):
        values = [{getattr(row, name) for row in rows} for name in (one, other)]
        pairs = {(getattr(row, one), getattr(row, other)) for row in rows}
        assert len(pairs) == len(values[0]) * len(values[1]), (one, other)
    assert {row.umask for row in rows} == {"0022", "0002", "0077"}


def test_without_root_what_one_user_can_change_is_in_a_row() -> None:
    rows = rows_of(("me",), ("here",))
    assert {(row.user, row.host) for row in rows} == {("me", "here")}
    assert (
        len({(row.umask, row.zone) for row in rows})
        == len({(row.umask, row.work) for row in rows})
        == 6
    )


def row(layers: str = "cold", *, qcow2: str = "a" * 64, **around: str) -> Row:
    return Row(
        surroundings=replace(rows_of(*TWO)[0], **around),
        layers=layers,
        made={"qcow2": qcow2, "raw": "c" * 64},
    )


def test_the_surroundings_that_decide_are_named() -> None:
    same = [
        row(),
        row("cached"),
        row(umask="0077", user="other"),
        row("cached", umask="0077", zone="x"),
    ]
    require_same(same)
    with pytest.raises(BuildError) as caught:
        require_same(
            [
                *same[:2],
                *(replace(each, made={**each.made, "qcow2": "b" * 64}) for each in same[2:]),
            ]
        )
    assert str(caught.value) == (
        "error: qcow2 differs in 2 ways; it depends on: umask\n"
        "  hint: find the files that differ: invoke build NAME --verify-reproducible"
    )
    with pytest.raises(BuildError) as caught:
        require_same(
            [same[0], replace(same[0], made={**same[0].made, "qcow2": "b" * 64}), row("cached")]
        )
    assert (
        caught.value.message == "qcow2 differs in 2 ways; no single one of its surroundings decides"
    )


def test_a_build_that_had_other_surroundings_is_no_row() -> None:
    asked = rows_of(*TWO)[0]
    surroundings._require_around(asked, asked)
    with pytest.raises(BuildError) as caught:
        surroundings._require_around(asked, replace(asked, umask="0007", work="disk"))
    assert caught.value.message == (
        "a build had other surroundings than it was to have: umask 0007, not 0022; "
        "work disk, not memory"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="another user and another host name need root")
@pytest.mark.integration
def test_another_user_and_another_host_name_are_real_and_seen_by_one_build_alone() -> None:
    before = (Path("/etc/passwd").read_bytes(), os.uname().nodename)
    shop: object = None
    with surroundings._room(shop) as room:  # type: ignore[arg-type]
        view = surroundings._View(room)
        for around in rows_of(("root", "slipway-other"), ("one", "two")):
            home = surroundings._home(shop, room, around.user)  # type: ignore[arg-type]
            program = home / "around.py"
            program.write_text(AROUND)
            program.chmod(0o644)
            argv = surroundings._wrapped(["/usr/bin/python3", program], around, view)
            said = json.loads(process.run(argv, env={"TZ": around.zone}, timeout_s=60).stdout)
            assert said[:4] == [around.umask, around.user, around.host, around.zone]
            if around.user == "slipway-other" and not _everybody_can_enter(
                Path(surroundings.__file__).parents[1]
            ):
                continue  # root's checkout is in its home: `reproduce` refuses that, and says why
            # Whoever builds has a private namespace, with a host name of its own.
            maker = surroundings._wrapped([sys.executable, "-P", "-c", NAMESPACE], around, view)
            assert process.run(maker, timeout_s=60).stdout == b"localhost 0\n"
    assert before == (Path("/etc/passwd").read_bytes(), os.uname().nodename)


def _everybody_can_enter(path: Path) -> bool:
    return all(place.stat().st_mode & 0o005 == 0o005 for place in (path, *path.parents))


def test_a_checkout_that_another_user_cannot_enter_is_said_before_anything_is_built(
    tmp_path: Path,
) -> None:
    closed = tmp_path / "closed"
    (closed / "checkout").mkdir(parents=True)
    surroundings_of = [
        folder for folder in (tmp_path, *tmp_path.parents) if folder.stat().st_mode & 0o005 != 0o005
    ]
    closed.chmod(0o750)
    with pytest.raises(HostError) as caught:
        surroundings._require_open(closed / "checkout")
    first = surroundings_of[-1] if surroundings_of else closed
    assert str(caught.value) == (
        f"error: {first} is closed to other users, and one of them is to build what is there\n"
        f"  hint: run: chmod o+rx {first}, or use a checkout, and a Python for its .venv, elsewhere"
    )


def test_subordinate_ids_are_free_ones() -> None:
    assert surroundings._free("") == 100_000
    assert surroundings._free("me:100000:65536\nyou:165536:65536\n") == 231_072
