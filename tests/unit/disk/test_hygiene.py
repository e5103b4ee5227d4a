"""What the hygiene check finds, and what it leaves alone: each rule both ways."""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

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


def archive(name: str, content: str) -> bytes:
    """An archive of cpio with one file, as a kernel reads it."""
    members = b""
    for path, data in ((name, content.encode()), ("TRAILER!!!", b"")):
        numbers = [1, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path) + 1, 0]
        header = (
            b"070701" + b"".join(b"%08X" % number for number in numbers) + path.encode() + b"\0"
        )
        members += header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4)
    return members


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
    (
        "private-key",
        "srv/rsa",
        armour("RSA PRIVATE KEY", f"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n{BODY}"),
    ),
    ("private-key", "srv/dos", armour("EC PRIVATE KEY").replace("\n", "\r\n")),
    ("private-key", "srv/pgp.asc", armour("PGP PRIVATE KEY BLOCK", f"Comment: x\n\n{BODY}")),
    ("private-key", "srv/bundle.pem", armour("PRIVATE KEY", before=armour("CERTIFICATE") * 3)),
    ("private-key", "srv/putty.ppk", "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n"),
    ("private-key", "srv/age", "# created: x\nAGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQ\n"),
    ("private-key", "etc/wireguard/wg0.conf", "[Interface]\nPrivateKey = " + "A" * 43 + "=\n"),
    ("private-key", "srv/dev/id", armour("PRIVATE KEY")),
    (
        "private-key",
        "etc/app.yaml",
        "tls:\n  key: |\n"
        + "".join(f"    {line}\n" for line in armour("PRIVATE KEY").splitlines()),
    ),
    ("private-key", "etc/app.json", json.dumps({"key": armour("RSA PRIVATE KEY")})),
    ("private-key", "etc/quoted.env", 'KEY="' + armour("PRIVATE KEY").replace("\n", "\\n") + '"\n'),
    ("private-key", "srv/any.bin", armour("PRIVATE KEY")),
    ("private-key", "srv/any.so", armour("PRIVATE KEY")),
    ("private-key", "srv/any.gz", gzip.compress(armour("PRIVATE KEY").encode())),
    ("private-key", "srv/large.sql", "x" * 70 * 79 * 100 + "\n" + armour("PRIVATE KEY")),
    (
        "private-key",
        "etc/kubernetes.yaml",
        "tls.key: " + base64.b64encode(armour("PRIVATE KEY").encode()).decode() + "\n",
    ),
    (
        "private-key",
        "etc/jwk.json",
        json.dumps({"kty": "EC", "crv": "P-256", "x": "A" * 43, "d": "B" * 43}),
    ),
    (
        "private-key",
        "etc/openvpn/ta.key",
        "-----BEGIN OpenVPN Static key V1-----\n" + "0123456789abcdef" * 2 + "\n",
    ),
    (
        "private-key",
        "var/lib/bind/Kexample.private",
        "Private-key-format: v1.3\nAlgorithm: 13 (ECDSAP256SHA256)\nPrivateKey: "
        + "A" * 43
        + "=\n",
    ),
    ("private-key", "srv/any.xz", lzma.compress(armour("PRIVATE KEY").encode())),
    ("private-key", "srv/any.bz2", bz2.compress(armour("PRIVATE KEY").encode())),
    ("private-key", "srv/any.zst", zstandard.compress(armour("PRIVATE KEY").encode())),
    (
        "private-key",
        "srv/half.zst",
        zstandard.compress(armour("PRIVATE KEY").encode() + os.urandom(9999))[:9000],
    ),
    ("private-key", "boot/initrd.img-6", archive("etc/ssl/x.key", armour("PRIVATE KEY"))),
    (
        "instance-name",
        "boot/initrd.img-6",
        archive("etc/initiatorname.iscsi", "InitiatorName=iqn.1993-08.org.debian:01:abcdef\n"),
    ),
    (
        "authorized-keys",
        "boot/initrd.img-6",
        archive("root-x/.ssh/authorized_keys", "ssh-ed25519 AAAA x\n"),
    ),
    (
        "service-key",
        "boot/initramfs-6",
        b"".join(
            [
                archive("kernel/x", "x"),
                zstandard.compress(archive("etc/dropbear/dropbear_rsa_host_key", "x")),
            ]
        ),
    ),
    (
        "service-key",
        "boot/initrd",
        gzip.compress(archive("etc/dropbear/dropbear_rsa_host_key", "x")),
    ),
    ("unreadable", "boot/initrd.img-6", archive("etc/hosts", "x")[:-200]),
    ("unreadable", "boot/initrd.img-6", zstandard.compress(archive("etc/hosts", "x"))[:-9]),
    ("unreadable", "boot/initrd.img-6", b"x" * 50),
    (
        "service-key",
        "etc/roundcube/config.inc.php",
        "<?php\n$config['des_key'] = 'UdYvJ4TzjCqXw0SgLkAbHn1m';\n",
    ),
    ("service-key", "etc/app/settings.py", 'SECRET_KEY = "django-insecure-0123456789abcdef"\n'),
    ("database-cluster", "etc/ldap/slapd.d/cn=config.ldif", "olcRootPW:: e1NTSEF9\n"),
    ("service-key", "etc/dropbear/initramfs/dropbear_ed25519_host_key", "x"),
    (
        "private-key",
        "etc/systemd/network/wg.netdev",
        "[WireGuardPeer]\nPresharedKey=" + "A" * 43 + "=\n",
    ),
    ("private-key", "root/.gnupg-old/x", b"(11:private-key(3:rsa(1:n1:a)(1:d1:b)))" + b"x" * 20),
    (
        "private-key",
        "srv/gpg.key",
        b"Created: 20260101T000000\nKey: (private-key (ecc (curve Ed25519)(q #40#)(d #11#)))\n",
    ),
    ("service-key", "etc/bind/rndc.key", 'key "rndc-key" {\n};\n'),
    (
        "service-key",
        "etc/bind/keys.conf",
        'key "update" {\n\talgorithm hmac-sha256;\n\tsecret "' + "A" * 43 + '=";\n};\n',
    ),
    ("service-key", "var/lib/rabbitmq/.erlang.cookie", "ABCDEFGHIJKLMNOPQRST"),
    ("service-key", "etc/krb5.keytab", "x"),
    (
        "service-key",
        "srv/http.data",
        b"\x05\x02" + struct.pack(">iHH", 60, 1, 7) + b"EXAMPLE" + b"\0" * 60,
    ),
    ("service-key", "root/.gnupg/private-keys-v1.d/ABCD.key", "x"),
    ("service-key", "etc/munge/munge.key", "x"),
    ("service-key", "home/a/.pgpass", "host:5432:db:user:word\n"),
    ("instance-name", "etc/nvme/hostnqn", "nqn.2014-08.org.nvmexpress:uuid:1\n"),
    ("instance-name", "etc/nvme/hostid", "1\n"),
    (
        "instance-name",
        "etc/iscsi/initiatorname.iscsi",
        "## comment\nInitiatorName=iqn.1993-08.org.debian:01:abcdef\n",
    ),
    (
        "instance-name",
        "etc/popularity-contest.conf",
        '# generated\nMY_HOSTID="0123456789abcdef0123456789abcdef"\n',
    ),
    (
        "credentials",
        "etc/dbconfig-common/app.conf",
        "# made by dbconfig\ndbc_dbuser='app'\ndbc_dbpass='dkXpz3hQ2'\n",
    ),
    (
        "credentials",
        "etc/app/debian-db.php",
        "<?php /* made by dbconfig-common */\n$dbpass='dkXpz3hQ2';\n",
    ),
    ("credentials", "root/.my.cnf", "[client]\nuser = root\npassword = word-of-somebody-here\n"),
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
    (
        "usr/share/doc/a.txt",
        "Put it so:\n-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----\n",
    ),
    (
        "etc/wireguard/wg0.conf",
        "[Interface]\nPrivateKeyFile = /etc/wireguard/key\n#PrivateKey = ...\n",
    ),
    ("boot/initrd.img-6", archive("etc/machine-id", "x") + bytes(512)),
    ("boot/initrd.img-7", zstandard.compress(archive("tmp/x", "x"))),
    (
        "etc/app.php",
        (
            "<?php $config['des_key'] = getenv('KEY'); // SECRET_KEY = '{{ made on the "
            "first start }}'\n"
        ),
    ),
    ("proc/1/environ", armour("PRIVATE KEY")),
    ("etc/iscsi/initiatorname.iscsi", "## each instance makes its own\nGenerateName=yes\n"),
    (
        "etc/dbconfig-common/config",
        "# the password is asked for\ndbc_remember_admin_pass='false'\ndbc_dbpass=''\n",
    ),
    ("root/.my.cnf", "[client]\nuser = root\npassword =\ndefault-character-set = utf8\n"),
    (
        "etc/bind/named.conf.options",
        "// secret handshakes are not supported here: see keys.conf\noptions { };\n",
    ),
    (
        "etc/jwks.json",
        json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "B" * 43}]}),
    ),
    ("usr/share/bomb.gz", gzip.compress(b"\0" * 9_000_000)),
    ("usr/lib/module.pyc", armour("PRIVATE KEY")),
    ("srv/der", b"\x30\x26\x02\x01\x05" + b"\x04" * 40),
    ("srv/empty-keytab", b"\x05\x02" + b"\0" * 60),
]

#: How a key is kept in a file, as openssl's arguments; KEY is a private key that it made,
#: CERTIFICATE one for it.
CONTAINERS = {
    "pkcs8": ["pkey", "-in", "KEY", "-outform", "DER"],
    "pkcs8-encrypted": [
        "pkcs8",
        "-topk8",
        "-in",
        "KEY",
        "-outform",
        "DER",
        "-passout",
        "pass:word",
    ],
    "pkcs12": ["pkcs12", "-export", "-inkey", "KEY", "-in", "CERTIFICATE", "-passout", "pass:word"],
    "pkcs12-legacy": [
        "pkcs12",
        "-export",
        "-keypbe",
        "NONE",
        "-inkey",
        "KEY",
        "-in",
        "CERTIFICATE",
        "-passout",
        "pass:",
    ],
    "traditional": ["KIND", "-in", "KEY", "-outform", "DER"],
}


@pytest.mark.parametrize(
    ("rule", "path", "content"),
    FOUND,
    ids=[f"{rule} {path} {number}" for number, (rule, path, _) in enumerate(FOUND)],
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
    assert names | {"host-configuration", "password", "private-key", "unreadable"} == {
        rule for rule, _, _ in FOUND
    }


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize(
    ("kind", "options"), [("rsa", ["rsa"]), ("ec", ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"])]
)
def test_finds_a_key_in_every_container(
    tmp_path: Path, container: str, kind: str, options: list[str]
) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    names = {"KEY": str(key), "CERTIFICATE": str(certificate), "KIND": kind}

    def openssl(*words: str) -> None:
        subprocess.run(
            ["openssl", *(names.get(word, word) for word in words)],
            check=True,
            capture_output=True,
            timeout=60,
        )

    openssl("genpkey", "-algorithm", *options, "-out", "KEY")
    openssl("req", "-x509", "-key", "KEY", "-subj", "/CN=x", "-out", "CERTIFICATE")
    (tmp_path / "tree").mkdir()
    openssl(*CONTAINERS[container], "-out", str(tmp_path / "tree/any.name"))
    assert rules(tmp_path / "tree") == {("private-key", "/any.name")}
    for kept in (("x509", "-in", "CERTIFICATE"), ("pkey", "-in", "KEY", "-pubout")):
        openssl(*kept, "-outform", "DER", "-out", str(tmp_path / "tree/any.name"))
        assert rules(tmp_path / "tree") == set(), "what is public"
    openssl(
        "pkcs12",
        "-export",
        "-nokeys",
        "-in",
        "CERTIFICATE",
        "-passout",
        "pass:word",
        "-out",
        str(tmp_path / "tree/any.name"),
    )
    assert rules(tmp_path / "tree") == set(), "a store of trusted certificates"


def java_store(*tags: int) -> bytes:
    entries = b""
    for tag in tags:
        entries += (
            struct.pack(">IH", tag, 5)
            + b"alias"
            + bytes(8)
            + (b"\0\5X.509" if tag == 2 else b"")
            + struct.pack(">I", 30)
            + bytes(30)
        )
    return b"\xfe\xed\xfe\xed" + struct.pack(">II", 2, len(tags)) + entries + bytes(20)


def test_java_store_is_found_if_it_has_more_than_certificates(tmp_path: Path) -> None:
    put(tmp_path, "etc/cacerts", java_store(2, 2, 2))
    put(tmp_path, "etc/mine", java_store(2, 1))
    assert rules(tmp_path) == {("private-key", "/etc/mine")}


def test_configuration_that_a_package_ships_unchanged_is_public(tmp_path: Path) -> None:
    content = f'key "example" {{ secret "{"A" * 43}="; }};\n'
    put(tmp_path, "etc/app.conf", content)
    digest = hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()
    put(tmp_path, "var/lib/dpkg/status", f"Package: app\nConffiles:\n /etc/app.conf {digest}\n\n")
    assert rules(tmp_path) == set()
    put(tmp_path, "etc/app.conf", content.replace("AAAA", "BBBB"))
    assert rules(tmp_path) == {("service-key", "/etc/app.conf")}


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
    put(
        tmp_path,
        "var/lib/dpkg/info/a.md5sums",
        f"{'0' * 32}  usr/share/a/other\n{digest}  usr/share/a/test.key\n",
    )
    assert rules(tmp_path) == set()
    put(tmp_path, "usr/share/a/test.key", key.replace("b3Bl", "c3Bl"))
    assert rules(tmp_path) == {("private-key", "/usr/share/a/test.key")}


def test_shipped_key_elsewhere_is_found(tmp_path: Path) -> None:
    key = armour("RSA PRIVATE KEY")
    put(tmp_path, "etc/ssl/server.key", key)
    put(
        tmp_path,
        "var/lib/dpkg/info/a.md5sums",
        f"{hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()}  usr/share/a/test.key\n",
    )
    assert rules(tmp_path) == {("private-key", "/etc/ssl/server.key")}


def test_name_of_the_building_machine_is_found(tmp_path: Path) -> None:
    put(tmp_path, "etc/hostname", "builder7\n")
    assert inspect(tmp_path, host="other") == []
    assert inspect(tmp_path, host="builder7") == [
        Finding(
            "/etc/hostname", "host-configuration", 'the name of the machine that builds, "builder7"'
        )
    ]


def test_a_secret_of_the_build_is_found_in_every_file_and_in_base64(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "etc/a.conf", "key = open sesame 1\n")
    put(tmp_path, "usr/lib/big.so", b"\0" * 300_000 + b"b3BlbiBzZXNhbWUgMQ==")
    put(tmp_path, "etc/empty", "")
    put(tmp_path, "etc/other", "open sesame 2\n")
    found = {("secret", "/etc/a.conf"), ("secret", "/usr/lib/big.so")}
    assert {
        (finding.rule, finding.path) for finding in inspect(tmp_path, words=["open sesame 1"])
    } == found
    monkeypatch.setattr(sys, "stdin", io.StringIO('["open sesame 1"]'))
    assert main([str(tmp_path), "--words"]) == 1


def test_exceptions_name_rule_and_path(tmp_path: Path) -> None:
    put(tmp_path, "var/log/a/b", "x")
    put(tmp_path, "var/log/c", "x")
    assert [
        finding.path for finding in inspect(tmp_path, allow=["log:/var/log/a/*", "apt:/var/log/c"])
    ] == ["/var/log/c"]


def test_details_say_whose_password_in_which_line(tmp_path: Path) -> None:
    put(tmp_path, "etc/shadow", "root:*:1::::::\nadmin::1::::::\n")
    assert inspect(tmp_path) == [
        Finding("/etc/shadow", "password", "an empty password of 'admin' in line 2")
    ]


def test_program_prints_json_and_needs_no_package_of_ours(tmp_path: Path) -> None:
    put(tmp_path, "var/log/x", "x")
    program = Path(hygiene.__file__)
    ended = subprocess.run(
        [sys.executable, "-I", "-S", str(program), str(tmp_path)],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert json.loads(ended.stdout) == [
        {"path": "/var/log/x", "rule": "log", "detail": "a log of the building"}
    ]


def test_clean_tree_prints_an_empty_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == "[]\n"


def test_a_key_behind_a_hole_of_a_tebibyte_is_found_and_the_hole_stays_one(tmp_path: Path) -> None:
    sparse = tmp_path / "srv/lastlog"
    put(tmp_path, "srv/lastlog", "start")
    with sparse.open("r+b") as file:
        file.truncate(1 << 40)
        file.seek(1 << 40)
        file.write(armour("PRIVATE KEY").encode())
    put(tmp_path, "srv/empty")
    os.truncate(tmp_path / "srv/empty", 1 << 40)
    before = [file.stat().st_blocks for file in (sparse, tmp_path / "srv/empty")]

    assert inspect(tmp_path, words=["a-secret-of-nobody"]) == [
        Finding("/srv/lastlog", "private-key", "a private key")
    ]
    assert [file.stat().st_blocks for file in (sparse, tmp_path / "srv/empty")] == before


@pytest.mark.parametrize("before", [*range(-200, 201, 8), -4200, -4096, 4096])
def test_a_key_and_a_secret_across_the_pieces_of_a_large_file_are_found(
    tmp_path: Path, before: int
) -> None:
    start = b"x" * ((1 << 20) - before - 1) + b"\n"
    put(tmp_path, "srv/large", start + armour("PRIVATE KEY").encode() + b"x" * (1 << 20))
    put(tmp_path, "srv/other", start + b"a-secret-of-a-build" + b"x" * (1 << 20))
    assert [
        (finding.rule, finding.path) for finding in inspect(tmp_path, words=["a-secret-of-a-build"])
    ] == [("private-key", "/srv/large"), ("secret", "/srv/other")]
