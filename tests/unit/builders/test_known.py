"""What only packages can have is looked for before the tree is made, and missed with the place in
the author's file.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from example_root import make_root
from slipway.builders._known import require_known
from slipway.errors import SpecErrors
from slipway.job import Workshop, prepare

TREE = {
    "usr/lib/systemd/system/nginx.service": "",
    "usr/lib/systemd/system/getty@.service": "",
    "usr/lib/systemd/system/fstrim.timer": "",
    "etc/init.d/old": "",
    "usr/share/zoneinfo/Europe/Berlin": "",
    "usr/bin/perl": "",
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\nweb:x:33:33:web:/var/www:/usr/sbin/nologin\n",
}


def known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str, bare: str = "", /, **files: str
) -> str:
    """Return what is missed of an appliance, in a tree with a few files."""
    text = (
        "schema: 1\nname: thing\nversion: 1.0.0\nsummary: A thing\ncategory: system\n"
        f"packages: [web]\n{more}"
    )
    root = make_root(
        tmp_path, "thing", {"appliance.yaml": text, "README.md": "A thing\n", **files}, monkeypatch
    )
    for name in files:
        if "/bin/" in name:
            (root / "appliances/thing" / name).chmod(0o755)
    tree, over = tmp_path / "tree", tmp_path / "over"
    for name in TREE:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(TREE[name])
    (tree / "bin").symlink_to("usr/bin")
    (tree / "usr/lib/systemd/system/alias.service").symlink_to("/nowhere")
    (tree / "usr/lib/outside").symlink_to("../../../..")
    (tree / "srv").symlink_to(tmp_path)
    over.mkdir()
    for name, content in files.items():
        if name.startswith("files/"):
            place = over / name.removeprefix("files/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(content)
    shop = Workshop(root=root)
    source = prepare(
        shop, shop.library.load("thing"), builder="mmdebstrap", architecture="amd64"
    ).source
    try:
        require_known(replace(source, bare=bare == "bare"), (over, tree))
    except SpecErrors as error:
        return str(error).replace(f"{root}/", "")
    return ""


def test_what_is_there_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = (
        "services: {enable: [nginx, getty@tty1, fstrim.timer, old, own], disable: "
        "[alias.service]}\ntimezone: Europe/Berlin\n"
        "timers: [{name: tidy, calendar: daily, command: /bin/true}]\n"
        "users: [{name: web}, {name: own, home: /srv/own}]\n"
    )
    files = {
        "files/etc/systemd/system/own.service": "[Service]\n",
        "files/usr/bin/a": "#!/bin/perl\n",
        "files/usr/bin/b": "#!/usr/bin/env -S perl -w\n",
        "files/usr/bin/c": "#!/usr/bin/b\n",
    }
    assert known(tmp_path, monkeypatch, more, **files) == ""


def test_both_builders_know_the_same_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packer's has no tree to look into: a script of its own looks in the machine."""
    names = [
        "nginx",
        "getty@tty1",
        "fstrim.timer",
        "old",
        "alias",
        "nginx.service",
        "ngnix",
        "getty@",
        "tty@1",
        "ol",
        "fstrim",
    ]
    more = f"services: {{enable: [{', '.join(names)}]}}\n"
    said = known(tmp_path, monkeypatch, more)
    by_tree = [name for name in names if f'the image has no unit "{name}"' in said]
    script = Path(__file__).parents[3] / "templates/packer/provision/known.sh"
    done = subprocess.run(
        ["sh", script, tmp_path / "tree", *names], capture_output=True, text=True, timeout=20
    )
    assert (
        [line.removeprefix("slipway: no unit ") for line in done.stderr.splitlines()]
        == by_tree
        == ["ngnix", "tty@1", "ol", "fstrim"]
    )
    assert done.returncode == 1
    assert subprocess.run(["sh", script, tmp_path / "tree", *names[:6]], timeout=20).returncode == 0


def test_each_that_is_missing_has_its_place_and_a_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = "services: {enable: [nginx, ngnix], disable: [nothing.socket]}\ntimezone: US/Pacific\n"
    files = {"files/usr/bin/a": "#!/usr/bin/python3\n", "files/usr/bin/b": "#!/usr/bin/env ruby\n"}
    spec, programs = "appliances/thing/appliance.yaml", "appliances/thing/files/usr/bin"
    assert known(tmp_path, monkeypatch, more, **files) == (
        f'{spec}:7:28: error: services.enable[1]: the image has no unit "ngnix"\n'
        '  hint: did you mean "nginx"?\n'
        f'{spec}:7:46: error: services.disable[0]: the image has no unit "nothing.socket"\n'
        "  hint: name a unit of a package in packages, or put one into files/etc/systemd/system/\n"
        f'{spec}:8:11: error: timezone: the image has no time zone "US/Pacific"\n'
        "  hint: add tzdata to packages\n"
        f"{programs}/a:1:1: error: the image has no /usr/bin/python3, which the first line names\n"
        "  hint: add the package that has python3 to packages, or correct the line\n"
        f"{programs}/b:1:1: error: the image has no ruby, which the first line names\n"
        "  hint: add the package that has ruby to packages, or correct the line"
    )


def test_a_timer_replaces_no_unit_of_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("nginx", "fstrim", "slipway-firstboot", "tidy")
    timers = [f"{{name: {name}, calendar: daily, command: /bin/true}}" for name in names]
    said = known(tmp_path, monkeypatch, f"timers: [{', '.join(timers)}]\n")
    spec = "appliances/thing/appliance.yaml:7"
    assert said == (
        f'{spec}:17: error: timers[0].name: this would replace a unit of the image, "nginx.service"'
        "\n  hint: choose another name, such as own-nginx\n"
        f'{spec}:69: error: timers[1].name: this would replace a unit of the image, "fstrim.timer"'
        "\n  hint: choose another name, such as own-fstrim\n"
        f"{spec}:122: error: timers[2].name: this would replace a unit of the image, "
        '"slipway-firstboot.service"\n  hint: choose another name, such as own-slipway-firstboot'
    )


def test_a_user_who_is_there_already_is_not_asked_to_be_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = "users: [{name: web, home: /srv/web, shell: /usr/sbin/nologin}]\n"
    assert known(tmp_path, monkeypatch, users) == (
        "appliances/thing/appliance.yaml:7:27: error: users[0].home: the image has a user "
        '"web" with /var/www\n  hint: remove the line, or choose another name'
    )


def test_a_setup_script_may_make_a_program_but_not_one_of_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "setup/10-a.sh": "true\n",
        "files/usr/bin/a": "#!/usr/bin/python3\n",
        "files/usr/bin/b": "#!/usr/bin/env ruby\n",
        "files/usr/bin/c": "#!/opt/own/bin/python\n",
    }
    said = known(tmp_path, monkeypatch, "", **files)
    assert said.count("error: ") == 1
    assert "usr/bin/a:1:1: error: the image has no /usr/bin/python3" in said


def test_no_link_leads_out_of_the_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outside").write_text("")
    files = {
        "files/usr/bin/a": "#!/usr/lib/outside/outside\n",
        "files/usr/bin/b": "#!/usr/lib/outside/usr/bin/perl\n",
    }
    said = known(tmp_path, monkeypatch, "", **files, **{"files/usr/bin/c": "#!/srv/outside\n"})
    assert said.count("error: ") == 2
    assert "/usr/lib/outside/outside, which" in said
    assert "/srv/outside, which" in said


def test_a_base_alone_has_nothing_of_the_spec_and_misses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packer starts from such a base, and adds packages, files and users inside of it."""
    more = (
        "services: {enable: [own, of-a-package]}\ntimezone: US/Pacific\n"
        "users: [{name: web, home: /srv/web}]\n"
        "timers: [{name: fstrim, calendar: daily, command: /bin/true}]\n"
    )
    said = known(tmp_path, monkeypatch, more)
    assert said.count("error: ") == 5
    assert known(tmp_path / "bare", monkeypatch, more, "bare") == ""
