"""What the hygiene check finds, and what it leaves alone: each rule both ways."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slipway.disk import hygiene
from slipway.disk.hygiene import Finding, inspect, main

#: Put together here, so that no scanner takes this file for a key.
BODY = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n"


def armour(kind: str, body: str = BODY, before: str = "") -> str:
    return f"{before}-----BEGIN {kind}-----\n{body}-----END {kind}-----\n"


def put(tree: Path, path: str, content: str | bytes = "x\n") -> None:
    file = tree / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def rules(tree: Path) -> set[tuple[str, str]]:
    return {(finding.rule, finding.path) for finding in inspect(tree)}


FOUND = [
    ("ssh-host-key", "etc/ssh/ssh_host_ed25519_key", ""),
    ("ssh-host-key", "etc/ssh/ssh_host_rsa_key.pub", "ssh-rsa AAAA"),
    ("machine-id", "etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
    ("machine-id", "var/lib/dbus/machine-id", "0123456789abcdef0123456789abcdef\n"),
    ("authorized-keys", "root/.ssh/authorized_keys", "ssh-ed25519 AAAA x"),
    ("authorized-keys", "srv/git/.ssh/authorized_keys2", "ssh-ed25519 AAAA x"),
    ("authorized-keys", "etc/ssh/authorized_keys.d/root", "ssh-ed25519 AAAA x"),
    ("history", "root/.bash_history", "ls\n"),
    ("history", "home/a/.python_history", "1\n"),
    ("history", "root/.lesshst", ".less\n"),
    ("cloud-init", "var/lib/cloud/instances/i-1/user-data.txt", "#cloud-config\n"),
    ("cloud-init", "etc/systemd/network/10-cloud-init-ens3.network", "[Match]\n"),
    ("cloud-init", "etc/netplan/50-cloud-init.yaml", "network:\n"),
    ("credentials", "root/.aws/credentials", "[default]\n"),
    ("credentials", "home/a/.netrc", "machine x\n"),
    ("credentials", "etc/apt/auth.conf.d/mirror.conf", "machine x\n"),
    ("credentials", "etc/cloud/cloud.cfg.d/99-installer.cfg", "x: 1\n"),
    ("log", "var/log/dpkg.log", "installed\n"),
    ("log", "var/log/journal/0123/system.journal", "LPKSHHRH"),
    ("apt", "var/lib/apt/lists/mirror_InRelease", "x"),
    ("apt", "var/cache/apt/pkgcache.bin", "x"),
    ("apt", "var/cache/apt/archives/a_1_amd64.deb", "!<arch>\n"),
    ("core-dump", "var/lib/systemd/coredump/core.a.zst", "x"),
    ("core-dump", "root/core", b"\x7fELF\x02\x01\x01" + b"\0" * 9 + b"\x04\x00" + b"\0" * 40),
    ("core-dump", "srv/core.123", b"\x7fELF\x02\x02\x01" + b"\0" * 9 + b"\x00\x04" + b"\0" * 40),
    ("temporary", "tmp/build", ""),
    ("temporary", "var/tmp/x", "x"),
    ("temporary", "run/pid", "1"),
    ("random-seed", "var/lib/systemd/random-seed", "x"),
    ("random-seed", "var/lib/systemd/credential.secret", "x"),
    ("lease", "var/lib/dhcp/dhclient.leases", "lease {}\n"),
    ("first-boot", "etc/slipway/parameters.env", 'PARAM_A="b"\n'),
    ("first-boot", "var/lib/slipway/state.json", "{}"),
    ("database-cluster", "var/lib/postgresql/17/main/PG_VERSION", "17\n"),
    ("database-cluster", "var/lib/mysql/ibdata1", "x"),
    ("leftover", "usr/sbin/policy-rc.d", ""),
    ("leftover", "etc/apt/apt.conf.d/99mmdebstrap", "x"),
    ("leftover", "etc/default/grub.dpkg-dist", "x"),
    ("leftover", "etc/hosts.dpkg-new", "x"),
    ("host-configuration", "etc/resolv.conf", "# made by x\nnameserver 192.0.2.1\n"),
    ("password", "etc/shadow", "root:$y$j9T$x:20000:0:99999:7:::\n"),
    ("password", "etc/shadow", "a:!$6$x$y:20000:0:99999:7:::\n"),
    ("password", "etc/shadow", "a::20000:0:99999:7:::\n"),
    ("password", "etc/shadow-", "a:$6$x$y:20000:0:99999:7:::\n"),
    ("password", "etc/passwd", "root::0:0:root:/root:/bin/bash\n"),
    ("password", "etc/gshadow", "sudo:$6$x$y::\n"),
    ("private-key", "etc/ssl/private/server.key", armour("PRIVATE KEY")),
    ("private-key", "srv/id", armour("OPENSSH PRIVATE KEY")),
    ("private-key", "srv/rsa", armour("RSA PRIVATE KEY", f"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n{BODY}")),
    ("private-key", "srv/dos", armour("EC PRIVATE KEY").replace("\n", "\r\n")),
    ("private-key", "srv/pgp.asc", armour("PGP PRIVATE KEY BLOCK", f"Comment: x\n\n{BODY}")),
    ("private-key", "srv/bundle.pem", armour("PRIVATE KEY", before=armour("CERTIFICATE") * 3)),
    ("private-key", "srv/putty.ppk", "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n"),
    ("private-key", "srv/age", "# created: x\nAGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQ\n"),
    ("private-key", "etc/wireguard/wg0.conf", "[Interface]\nPrivateKey = " + "A" * 43 + "=\n"),
    ("private-key", "srv/dev/id", armour("PRIVATE KEY")),
]

LEFT_ALONE = [
    ("etc/machine-id", ""),
    ("var/lib/dbus/machine-id", ""),
    ("etc/ssh/ssh_config", "Host *\n"),
    ("etc/ssh/moduli", "x"),
    ("root/.ssh/authorized_keys", ""),
    ("root/.bashrc", "x"),
    ("root/.bash_history", ""),
    ("usr/share/doc/a/.bash_history.txt", "x"),
    ("etc/cloud/cloud.cfg.d/05_logging.cfg", "x: 1\n"),
    ("etc/systemd/network/20-lan.network", "[Match]\n"),
    ("etc/apt/auth.conf", ""),
    ("var/log/dpkg.log", ""),
    ("var/lib/apt/lists/lock", ""),
    ("var/lib/apt/extended_states", "x"),
    ("usr/src/core", "not a program's memory\n"),
    ("usr/bin/core", b"\x7fELF\x02\x01\x01" + b"\0" * 9 + b"\x03\x00" + b"\0" * 40),
    ("usr/lib/slipway/parameters.json", "[]"),
    ("usr/share/postgresql/17/PG_VERSION", "17\n"),
    ("usr/share/a/b.dpkg-new", "x"),
    ("etc/resolv.conf", "# nameserver 192.0.2.1\noptions edns0\n"),
    ("etc/shadow", "root:*:20000:0:99999:7:::\ndaemon:!:1::::::\nsshd:!*:1::::::\na:!!:1::::::\n"),
    ("etc/gshadow", "sudo:*::\nadm:!::\nusers:::\n"),
    ("etc/passwd", "root:x:0:0:root:/root:/bin/bash\nnobody:*:1:1::/:/x\n"),
    ("srv/public.pem", armour("PUBLIC KEY")),
    ("srv/certificate.pem", armour("CERTIFICATE")),
    ("usr/share/a.py", 'KEY = "-----BEGIN PRIVATE KEY-----"\nMORE = "-----END PRIVATE KEY-----"\n'),
    ("usr/share/doc/a.txt", "Put it so:\n-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----\n"),
    ("etc/wireguard/wg0.conf", "[Interface]\nPrivateKeyFile = /etc/wireguard/key\n#PrivateKey = ...\n"),
    ("proc/1/environ", armour("PRIVATE KEY")),
]


@pytest.mark.parametrize(
    ("rule", "path", "content"), FOUND, ids=[f"{rule} {path} {number}" for number, (rule, path, _) in enumerate(FOUND)]
)
def test_finds(tmp_path: Path, rule: str, path: str, content: str | bytes) -> None:
    put(tmp_path, path, content)
    assert rules(tmp_path) == {(rule, f"/{path}")}


@pytest.mark.parametrize(("path", "content"), LEFT_ALONE, ids=[path for path, _ in LEFT_ALONE])
def test_leaves_alone(tmp_path: Path, path: str, content: str | bytes) -> None:
    put(tmp_path, path, content)
    assert rules(tmp_path) == set()


def test_every_rule_is_tested() -> None:
    names = {rule.name for rule in hygiene._PATH_RULES}
    assert names | {"host-configuration", "password", "private-key"} == {rule for rule, _, _ in FOUND}


def test_links_are_not_followed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    put(tmp_path, "outside/id", armour("PRIVATE KEY"))
    put(tmp_path, "outside/resolv.conf", "nameserver 192.0.2.1\n")
    (tree / "etc").mkdir(parents=True)
    (tree / "srv").symlink_to(tmp_path / "outside")
    (tree / "etc/id").symlink_to(tmp_path / "outside/id")
    (tree / "etc/resolv.conf").symlink_to(tmp_path / "outside/resolv.conf")
    assert rules(tree) == set()


def test_what_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    put(tree, "srv/file")
    tree.chmod(0)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)  # root reads everything
        found = inspect(tree)
    finally:
        if root:
            os.seteuid(0)
        tree.chmod(0o755)
    assert found == [Finding("/", "unreadable", "cannot be listed: Permission denied")]


def test_link_in_a_temporary_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp/x").symlink_to("/etc")
    assert rules(tmp_path) == {("temporary", "/tmp/x")}


def test_key_that_a_package_ships_unchanged_is_public(tmp_path: Path) -> None:
    key = armour("RSA PRIVATE KEY")
    put(tmp_path, "usr/share/a/test.key", key)
    digest = hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()
    put(tmp_path, "var/lib/dpkg/info/a.md5sums", f"{'0' * 32}  usr/share/a/other\n{digest}  usr/share/a/test.key\n")
    assert rules(tmp_path) == set()
    put(tmp_path, "usr/share/a/test.key", key.replace("b3Bl", "c3Bl"))
    assert rules(tmp_path) == {("private-key", "/usr/share/a/test.key")}


def test_shipped_key_elsewhere_is_found(tmp_path: Path) -> None:
    key = armour("RSA PRIVATE KEY")
    put(tmp_path, "etc/ssl/server.key", key)
    put(tmp_path, "var/lib/dpkg/info/a.md5sums", f"{hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()}  usr/share/a/test.key\n")
    assert rules(tmp_path) == {("private-key", "/etc/ssl/server.key")}


def test_name_of_the_building_machine_is_found(tmp_path: Path) -> None:
    put(tmp_path, "etc/hostname", "builder7\n")
    assert inspect(tmp_path, host="other") == []
    assert inspect(tmp_path, host="builder7") == [
        Finding("/etc/hostname", "host-configuration", 'the name of the machine that builds, "builder7"')
    ]


def test_a_secret_of_the_build_is_found_in_every_file_and_in_base64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "etc/a.conf", "key = open sesame 1\n")
    put(tmp_path, "usr/lib/big.so", b"\0" * 300_000 + b"b3BlbiBzZXNhbWUgMQ==")
    put(tmp_path, "etc/empty", "")
    put(tmp_path, "etc/other", "open sesame 2\n")
    found = {("secret", "/etc/a.conf"), ("secret", "/usr/lib/big.so")}
    assert {(finding.rule, finding.path) for finding in inspect(tmp_path, words=["open sesame 1"])} == found
    monkeypatch.setattr(sys, "stdin", io.StringIO('["open sesame 1"]'))
    assert main([str(tmp_path), "--words"]) == 1


def test_exceptions_name_rule_and_path(tmp_path: Path) -> None:
    put(tmp_path, "var/log/a/b", "x")
    put(tmp_path, "var/log/c", "x")
    assert [finding.path for finding in inspect(tmp_path, allow=["log:/var/log/a/*", "apt:/var/log/c"])] == ["/var/log/c"]


def test_details_say_whose_password_in_which_line(tmp_path: Path) -> None:
    put(tmp_path, "etc/shadow", "root:*:1::::::\nadmin::1::::::\n")
    assert inspect(tmp_path) == [Finding("/etc/shadow", "password", "an empty password of 'admin' in line 2")]


def test_program_prints_json_and_needs_no_package_of_ours(tmp_path: Path) -> None:
    put(tmp_path, "var/log/x", "x")
    program = Path(hygiene.__file__)
    ended = subprocess.run([sys.executable, "-I", "-S", str(program), str(tmp_path)], capture_output=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert json.loads(ended.stdout) == [{"path": "/var/log/x", "rule": "log", "detail": "a log of the building"}]


def test_clean_tree_prints_an_empty_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == "[]\n"
