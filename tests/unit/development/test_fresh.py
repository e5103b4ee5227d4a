"""Fresh machines: which there are, and what they are told of the way to mirrors and indexes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slipway.development import fresh
from slipway.development.fresh import Machine, apt_options, local_paths, machines, pip_configuration
from slipway.errors import HostError, UsageError
from slipway.job import Workshop

ROOT = Path(__file__).parents[3]
PIP = """\
:env:.cert='/etc/ours.crt'
:env:.find-links='/srv/more https://wheels.example/'
global.extra-index-url='file:///srv/pypi/simple https://index.example/simple'
global.index-url='file:///simple'
install.constraint='/etc/pip/constraints.txt'
"""


def test_the_newest_base_is_first_and_each_has_both_users() -> None:
    assert [str(machine) for machine in machines(["old-1", "old-2"])] == [
        "old-2-root",
        "old-2-person",
        "old-1-root",
        "old-1-person",
    ]
    assert machines(["old-1", "old-2"], "1-root") == (Machine("old-1", "root"),)


def test_a_keyword_that_fits_no_machine_names_those_that_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        machines(["old-1"], "windows")
    assert str(caught.value) == (
        'error: no fresh machine matches "windows"\n  hint: choose from: old-1-root, old-1-person'
    )


def test_a_user_gets_nothing_of_our_environment_but_the_way_to_servers() -> None:
    """And no system administrator's PATH, as on any Debian."""
    words = Machine("base", "person").argv("./run doctor", {"https_proxy": "http://proxy.example"})
    assert words == [
        *(
            "setpriv",
            "--reuid=person",
            "--regid=person",
            "--init-groups",
            "--",
            "env",
            "-i",
            "CI=true",
            "HOME=/home/person",
        ),
        *(
            "USER=person",
            "LOGNAME=person",
            "PATH=/usr/local/bin:/usr/bin:/bin",
            "https_proxy=http://proxy.example",
        ),
        *("sh", "-c", "cd ~/slipway && ./run doctor"),
    ]
    assert Machine("base", "root").argv("true", {})[:4] == ["env", "-i", "CI=true", "HOME=/root"]


def test_apt_is_told_of_proxies_and_of_a_mirror_whose_clock_differs() -> None:
    dump = (
        'APT::Architecture "amd64";\nAcquire "";\nAcquire::http "";\n'
        'Acquire::http::Proxy "http://a.example";\n'
        'Acquire::Languages "de";\nAcquire::Check-Date "false";\n'
    )
    variables = {"http_proxy": "http://b.example", "https_proxy": "http://c.example"}
    assert apt_options(dump, variables) == (
        'Acquire::http::Proxy "http://a.example";\nAcquire::Check-Date "false";\n'
        'Acquire::https::Proxy "http://c.example";\n'
    )


def test_pip_is_told_what_its_files_say_and_variables_stay_variables() -> None:
    assert pip_configuration(PIP) == (
        "[global]\nextra-index-url = file:///srv/pypi/simple\n    https://index.example/simple\n"
        "index-url = file:///simple\n"
        "\n[install]\nconstraint = /etc/pip/constraints.txt\n"
    )
    assert pip_configuration("") == ""


def test_files_that_pip_and_variables_name_are_found() -> None:
    """An index on disk refers to files beside it; the root folder is never one of them."""
    found = local_paths(
        PIP, {"SSL_CERT_FILE": "/etc/ours.crt", "https_proxy": "http://proxy.example"}
    )
    assert [str(path) for path in found] == [
        "/etc/ours.crt",
        "/srv/more",
        "/srv/pypi",
        "/simple",
        "/etc/pip/constraints.txt",
    ]


def test_an_ordinary_user_is_told_to_use_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HostError) as caught:
        fresh.fresh(Workshop(root=ROOT))
    assert str(caught.value) == (
        "error: fresh machines are made by root: their users need sudo and newuidmap\n"
        "  hint: sudo ./run test --fresh"
    )
