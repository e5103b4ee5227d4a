"""One spec, two builders: the same packages, files and passing checks; and Packer takes what is
rendered for every platform.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from slipway import pipeline
from slipway.builders.packer import packer_version
from slipway.disk.contents import Item, contents
from slipway.job import Job, Workshop, prepare
from slipway.terminal.progress import Progress
from slipway.workflows.inspection import raw_disk

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(
        packer_version() is None, reason="this distribution has no package of Packer"
    ),
]

SPEC = """\
schema: 1
name: both
version: 1.0.0
summary: 'Built by both builders, ${var.x} "quoted" and all'
category: system
packages: [console-setup, nftables, wireguard-tools]
services: {enable: [both]}
ports: [{port: 22, protocol: tcp, purpose: SSH}]
parameters:
  - {name: greeting, type: string, default: hello, summary: What it says}
users:
  - {name: greeter, summary: 'Says "hello"', home: /srv/greeter, groups: [greetings, audio]}
groups: [listeners]
sysctl: {net.ipv4.ip_forward: 1}
timezone: Europe/Berlin
locale: de_DE.UTF-8
keyboard: de(nodeadkeys)
timers:
  - name: greet-often
    calendar: "*:*:0/5"
    command: '/bin/sh -c "echo hello >>/srv/greeter/greetings"'
    user: greeter
keep: [locales]
tools: [netcat-openbsd]
"""
FILES = {
    "appliance.yaml": SPEC,
    "README.md": "Built by both builders.\n",
    "files/etc/both/of-the-spec.conf.j2": "{{ spec.name }} {{ spec.version }}\n",
    "files/usr/local/bin/greet": """\
#!/bin/sh
. /etc/slipway/parameters.env
echo $PARAM_GREETING
""",
    "files/etc/systemd/system/both.service": (
        "[Service]\nUser=both\nExecStart=sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
    ),
    "setup/10-user.sh": (
        "adduser --quiet --system --group --home /var/lib/both both\n"
        "install -o both -m 750 -d /var/lib/both/data\n"
    ),
    "firstboot/10-both.sh": 'echo "$PARAM_GREETING" >/var/lib/both/greeting\n',
    "checks/20-settings.sh": """\
set -eux
test "$(id -nG greeter)" = "greeter audio greetings"
getent passwd greeter | grep '"hello":/srv/greeter:/usr/sbin/nologin'
test "$(stat -c '%a %U' /srv/greeter)" = "750 greeter"
getent group listeners
test "$(cat /proc/sys/net/ipv4/ip_forward)" = 1
date +%Z | grep CE
test "$(env -i bash -lc '. /etc/default/locale; export LANG; date -d 2026-10-01 +%B')" = Oktober
grep nodeadkeys /etc/default/keyboard
zcat /etc/console-setup/cached_UTF-8_del.kmap.gz | grep -E "^keycode +21 = \\+?(z|U\\+007a)"
systemctl is-active keyboard-setup
test "$(stat -c %U /srv/greeter/greetings)" = greeter
grep hello /srv/greeter/greetings
""",
    "checks/outside/10-tool.sh": 'chroot "$SLIPWAY_TOOLS" nc -z "$SLIPWAY_ADDRESS" 22\n',
    "checks/10-both.sh": (
        "test $(cat /var/lib/both/greeting) = hello\ntest $(greet) = hello\n"
        "systemctl is-active both\n"
    ),
}
#: What differs because the one tree was never started and the other once was; beginnings of paths.
EXPLAINED: Mapping[str, str] = {
    "/etc/console-setup/cached_setup_keyboard.sh": (
        "names the terminals that there were when it was made"
    )
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    root = tmp_path_factory.mktemp("both")
    (root / "templates").symlink_to(ROOT / "templates")
    for name, text in FILES.items():
        path = root / "appliances/both" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "appliances/both/files/usr/local/bin/greet").chmod(0o755)
    return Workshop(root=root, progress=Progress(quiet=True))


def built(shop: Workshop, builder: str) -> tuple[Job, dict[str, Item]]:
    job = prepare(shop, shop.library.load("both"), builder=builder, architecture="amd64")
    release = pipeline.build(shop, job, boot=builder == "packer")
    assert release.manifest.boot_passed is (builder == "packer")
    with raw_disk(shop, pipeline.built_image(shop, job)) as raw:
        return job, contents(raw)


def test_both_builders_make_the_same_appliance(shop: Workshop) -> None:
    _, ours = built(shop, "mmdebstrap")
    _, theirs = built(shop, "packer")
    differing = {}
    for path in ours.keys() | theirs.keys():
        one, other = ours.get(path), theirs.get(path)
        names = ("kind", "mode", "owner", "content")
        if (
            one is None
            or other is None
            or any(getattr(one, name) != getattr(other, name) for name in names)
        ):
            differing[path] = (one, other)
    unexplained = {
        path: found for path, found in differing.items() if not path.startswith(tuple(EXPLAINED))
    }
    assert unexplained == {}
    assert all(any(path.startswith(beginning) for path in differing) for beginning in EXPLAINED), (
        "explained, and the same"
    )
