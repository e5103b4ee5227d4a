"""First boot, run as a program on the root of a fake instance."""

from __future__ import annotations

import base64
import shlex
import stat
import subprocess
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.guest.conftest import Guest

pytestmark = pytest.mark.integration

DOMAIN: dict[str, object] = {
    "name": "sip_domain",
    "type": "hostname",
    "default": "sip.local",
    "generate": None,
    "choices": [],
    "summary": "x",
}
NEEDED = {"name": "admin_mail", "type": "string", "summary": "x"}
SECRET = {"name": "admin_password", "type": "secret", "generate": 24, "summary": "x"}
FAILED = (
    "FIRST BOOT FAILED: the services of this appliance are not started. The next boot tries again."
)


def value(guest: Guest, name: str) -> str:
    return guest.read(f"var/lib/slipway/parameters/{name}")


def mode(guest: Guest, path: str) -> int:
    return stat.S_IMODE((guest.root / path).stat().st_mode)


def test_default_is_taken_where_nothing_is_given(guest: Guest) -> None:
    guest.define([DOMAIN])
    ended = guest.boot()
    assert (ended.returncode, ended.stdout) == (0, "first boot: this appliance is set up\n")
    assert value(guest, "sip_domain") == "sip.local"
    assert guest.read("etc/slipway/parameters.env") == 'PARAM_SIP_DOMAIN="sip.local"\n'


def test_credential_wins_over_cloud_init_which_wins_over_ovf_which_wins_over_the_default(
    guest: Guest,
) -> None:
    guest.define([{**DOMAIN, "name": name} for name in ("one", "two", "three", "four")])
    guest.ovf({"slipway.one": "ovf", "slipway.two": "ovf", "three": "ovf"})
    guest.cloud("slipway: {parameters: {one: cloud, two: cloud}}\n")
    guest.credential("slipway.one", b"credential\n")
    assert guest.boot().returncode == 0
    assert [value(guest, name) for name in ("one", "two", "three", "four")] == [
        "credential",
        "cloud",
        "ovf",
        "sip.local",
    ]


WRITTEN = {
    "password": "0123456701",
    "pin": "0775",
    "phone": "+49301234567",
    "site": "12:30:45",
    "version": "1.10",
    "day": "2026-11-28",
    "answer": "no",
    "tls": "no",
    "size": "12",
}


def values_as_written(guest: Guest) -> None:
    types = {"tls": "boolean", "size": "integer"}
    guest.define([{"name": name, "type": types.get(name, "string")} for name in WRITTEN])


def test_cloud_init_scalars_arrive_as_they_were_written(guest: Guest) -> None:
    values_as_written(guest)
    lines = [f"    {name}: {text}\n" for name, text in WRITTEN.items()]
    guest.user_data(
        "#cloud-config\npackage_update: false\n",
        "#cloud-config\nslipway:\n  parameters:\n" + "".join(lines),
    )
    ended = guest.boot()
    assert ended.returncode == 0, ended.stderr
    assert {name: value(guest, name) for name in WRITTEN} == WRITTEN | {"tls": "false"}


def test_the_file_that_user_data_writes_holds_values_as_they_were_written_and_goes_afterwards(
    guest: Guest,
) -> None:
    values_as_written(guest)
    guest.given_file("".join(f"{name}: {text}\n" for name, text in WRITTEN.items()))
    guest.script("10-first.sh", 'test -e "$MARK/ready"\n')
    assert guest.boot().returncode == 1
    (guest.root / "ready").touch()
    ended = guest.boot()
    assert ended.returncode == 0, ended.stderr
    assert {name: value(guest, name) for name in WRITTEN} == WRITTEN | {"tls": "false"}
    assert not (guest.root / "etc/slipway/parameters.yaml").exists()


@pytest.mark.parametrize("kept", ["nothing", "a template", "two texts"])
def test_a_number_whose_text_is_lost_stops_first_boot(guest: Guest, kept: str) -> None:
    guest.define([{"name": "pin", "type": "secret"}, {"name": "site", "type": "string"}])
    guest.user_data("#cloud-config\nslipway: {parameters: {pin: 07654321, site: a}}\n")
    whole = guest.root / "var/lib/cloud/instance/user-data.txt.i"
    if kept == "nothing":
        whole.unlink()
    elif kept == "a template":
        whole.write_text(whole.read_text().replace("text/cloud-config", "text/jinja2"))
    else:
        guest.user_data(
            *(
                f"#cloud-config\nslipway: {{parameters: {{pin: {pin}, site: a}}}}\n"
                for pin in ("07654321", "1234")
            )
        )
    reason = (
        "pin: cloud-init took its value for a number, a time or yes and no; "
        "quote it in the user data"
    )
    assert guest.boot().stderr == f"{FAILED}\n  {reason}\n"


NOT_READ = (
    'cloud-init has not read the user data: it has to be UTF-8, and its first line "#cloud-config"'
)
OURS = "slipway: {parameters: {pin: abc, site: a}}\n"
A_FILE = "write_files: [{path: /etc/slipway/parameters.yaml, content: 'pin: abc'}]\n"


def kept_as(kind: str, *texts: str | bytes) -> bytes:
    """User data as cloud-init keeps it: parts of a kind."""
    message = MIMEMultipart()
    for text in texts:
        part = MIMENonMultipart("text", kind)
        part.set_payload(text if isinstance(text, bytes) else text.encode(), "utf-8")
        message.attach(part)
    return message.as_bytes()


@pytest.mark.parametrize(
    ("merged", "kept", "reason"),
    [
        ("", kept_as("x-not-multipart", OURS), NOT_READ),
        ("", kept_as("x-not-multipart", OURS.encode("utf-16")), NOT_READ),
        ("", kept_as("x-not-multipart", base64.b64encode(OURS.encode())), NOT_READ),
        ("", kept_as("cloudconfig", OURS), NOT_READ),
        (
            "",
            kept_as("cloud-config", "slipway: {parameters:\n  {pin: geheim, a: b: c}}"),
            "cloud-init's user data cannot be read: line 2: expected ',' or '}', but got ':'",
        ),
        (
            "",
            kept_as("cloud-config", "slipway: {parameters: {pin: 2026-13-45}}"),
            "cloud-init's user data cannot be read: it is not UTF-8, or a value is no such date "
            "or number as it looks like; quote values",
        ),
        (
            "",
            kept_as("cloud-config", f"- {OURS}"),
            "cloud-init's user data cannot be read: it is no mapping",
        ),
        (
            "slipway: {parameters: {site: a}}\n",
            kept_as(
                "cloud-config", "slipway: {parameters: {pin: abc}}", OURS.replace("pin: abc,", "")
            ),
            "pin: cloud-init has not kept its value; give all values in one part of the user data, "
            "in UTF-8",
        ),
        (
            "slipway: {parameters: {pin: '2'}}\n",
            kept_as("cloud-config", "slipway: {parameters: {pin: '1', pin: '2'}}"),
            "pin is twice in cloud-init's user data",
        ),
        (
            OURS,
            kept_as("cloud-config", OURS + OURS),
            '"slipway" is twice in cloud-init\'s user data',
        ),
        (
            "write_files: [{path: /a, content: b}]\n",
            kept_as("cloud-config", A_FILE, "write_files: [{path: /a, content: b}]\n"),
            "/etc/slipway/parameters.yaml: another part of the user data has write_files, and "
            "cloud-init kept that one; write all files in one part",
        ),
        (
            A_FILE.replace("content", "defer: true, content"),
            kept_as("cloud-config", A_FILE.replace("content", "defer: true, content")),
            '/etc/slipway/parameters.yaml: "defer" writes it too late; leave that out of the user '
            "data",
        ),
    ],
)
def test_values_that_cloud_init_has_lost_stop_first_boot(
    guest: Guest, merged: str, kept: bytes, reason: str
) -> None:
    """Each as cloud-init 25.1 keeps and merges it; it warns of some in its log, and goes on."""
    guest.define([{**DOMAIN, "name": name} for name in ("pin", "site")])
    guest.cloud(merged)
    (guest.root / "var/lib/cloud/instance/user-data.txt.i").write_bytes(kept)
    assert guest.boot().stderr == f"{FAILED}\n  {reason}\n"


@pytest.mark.parametrize(
    ("merged", "kept"),
    [
        ("", kept_as("x-not-multipart", "a note for somebody else\n")),
        ("", kept_as("cloud-config", "hostname: [\n")),
        ("", kept_as("x-shellscript", "#!/bin/sh\necho slipway: hello\n")),
        (
            "x: &d {pin: '1'}\nslipway: {parameters: {<<: *d}}\n",
            kept_as("cloud-config", "x: &d {pin: '1'}\nslipway: {parameters: {<<: *d}}\n"),
        ),
        (A_FILE, kept_as("cloud-config", A_FILE)),
    ],
)
def test_user_data_for_others_is_left_to_cloud_init(guest: Guest, merged: str, kept: bytes) -> None:
    guest.define([{**DOMAIN, "name": "pin"}])
    guest.cloud(merged)
    (guest.root / "var/lib/cloud/instance/user-data.txt.i").write_bytes(kept)
    assert guest.boot().returncode == 0


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        (
            "parameters.yml",
            "pin: a\n",
            '/etc/slipway/parameters.yml is not read: did you mean "/etc/slipway/parameters.yaml"?',
        ),
        (
            "parameters.yaml",
            "pin: ~\n",
            "pin: /etc/slipway/parameters.yaml must have a text there; quote it",
        ),
        ("parameters.yaml", "pin: a\npin: b\n", "pin is twice in /etc/slipway/parameters.yaml"),
        (
            "parameters.yaml",
            "pin: a\n---\npin: b\n",
            "/etc/slipway/parameters.yaml cannot be read: line 2: but found another document",
        ),
        (
            "parameters.yaml",
            "pin: CI_MISSING_JINJA_VAR/v1.zone\n",
            'pin: this instance has no "v1.zone" for the template',
        ),
    ],
)
def test_a_file_of_values_that_is_not_what_it_seems_stops_first_boot(
    guest: Guest, name: str, text: str, reason: str
) -> None:
    guest.define([{**DOMAIN, "name": "pin"}])
    guest.given_file("")
    (guest.root / "etc/slipway/parameters.yaml").rename(guest.root / "etc/slipway" / name)
    (guest.root / "etc/slipway" / name).write_text(text)
    assert guest.boot().stderr == f"{FAILED}\n  {reason}\n"


def test_what_a_source_overrules_is_said_on_the_console(guest: Guest) -> None:
    guest.define([{**DOMAIN, "name": name} for name in ("one", "two")])
    guest.credential("slipway.one", b"credential")
    guest.cloud("slipway: {parameters: {one: cloud, two: same}}\n")
    guest.ovf({"slipway.two": "same"})
    line = (
        "first boot: one: what cloud-init gives is not used, a system credential "
        "gives another value\n"
    )
    assert guest.boot().stdout == f"{line}first boot: this appliance is set up\n"


def test_cloud_config_without_a_slipway_key_gives_nothing(guest: Guest) -> None:
    guest.define([DOMAIN])
    guest.cloud("#cloud-config\npackage_update: false\n")
    assert guest.boot().returncode == 0


def test_generated_secret_is_shown_on_this_boot_only_and_never_in_the_output(guest: Guest) -> None:
    guest.define([SECRET])
    ended = guest.boot()
    secret = value(guest, "admin_password")
    assert len(secret) == 24
    assert secret.isalnum()
    assert f"admin_password: {secret} (made now and shown until somebody logs in" in guest.issue
    assert secret not in ended.stdout + ended.stderr
    assert secret not in guest.read("var/lib/slipway/state.json")
    guest.boot()
    assert secret not in guest.issue
    assert value(guest, "admin_password") == secret


def test_a_generated_secret_goes_from_the_prompts_when_somebody_has_logged_in(guest: Guest) -> None:
    guest.define([SECRET])
    guest.boot()
    assert guest.called == ["systemctl start --no-block slipway-shown.path"]
    secret = value(guest, "admin_password")
    guest.session("c1", "manager")
    assert guest.boot("--shown").returncode == 0
    assert secret in guest.issue
    guest.session("1", "user")
    assert guest.boot("--shown").returncode == 0
    assert secret not in guest.issue
    assert "Nobody can log in" in guest.issue
    assert guest.called[1:] == ["agetty --reload", "systemctl stop slipway-shown.path"]


def test_given_secret_is_not_shown(guest: Guest) -> None:
    guest.define([SECRET])
    guest.credential("slipway.admin_password", b"correct horse")
    assert guest.boot().returncode == 0
    assert value(guest, "admin_password") == "correct horse"
    assert "correct horse" not in guest.issue


def test_secrets_are_readable_by_root_alone(guest: Guest) -> None:
    guest.define([SECRET])
    guest.boot()
    assert mode(guest, "etc/slipway/parameters.env") == 0o600
    assert mode(guest, "var/lib/slipway/parameters/admin_password") == 0o600
    assert mode(guest, "var/lib/slipway/parameters") == 0o700
    assert mode(guest, "run/issue.d/50-slipway.issue") == 0o600
    assert mode(guest, "etc/ssh/ssh_host_ed25519_key") == 0o600


def test_everything_wrong_is_named_at_once_and_nothing_is_written(guest: Guest) -> None:
    guest.define(
        [
            NEEDED,
            DOMAIN,
            {**DOMAIN, "name": "mode", "type": "string", "default": "a", "choices": ["a", "b"]},
            SECRET,
        ]
    )
    guest.credential("slipway.sip_domian", b"x.example")
    guest.credential("slipway.mode", b"c")
    guest.cloud(
        "slipway: {parameters: {sip_domain: -bad-, admin_password: short\0}}".replace("\0", "")
    )
    guest.credential("slipway.admin_password", b"bell\a")
    ended = guest.boot()
    assert ended.returncode == 1
    expected = [
        FAILED,
        (
            '  no parameter is named "sip_domian" (given by a system credential): '
            'did you mean "sip_domain"?'
        ),
        (
            '  sip_domain must be a host name, such as "mail.example.org": "-bad-" (given by '
            "cloud-init) is not"
        ),
        '  mode must be one of a, b: "c" (given by a system credential) is not',
        (
            "  admin_password must be text without control characters: its value (given by a "
            "system credential) is not"
        ),
        "  admin_mail is not given: it has no default (string); "
        'give it as credential "slipway.admin_mail", by cloud-init or as an OVF property',
    ]
    assert ended.stderr.splitlines() == expected
    assert guest.issue.splitlines() == [*expected, ""]
    assert guest.asked == []
    assert not (guest.root / "etc/slipway").exists()
    assert not (guest.root / "var/lib/slipway").exists()
    assert not list((guest.root / "etc/ssh").iterdir())


def test_somebody_at_a_console_is_asked_for_what_has_no_default(guest: Guest) -> None:
    guest.define(
        [
            {**NEEDED, "summary": "Where reports go"},
            DOMAIN,
            {**DOMAIN, "name": "realm", "default": None, "summary": "The realm"},
        ]
    )
    guest.answers("", "root@example.org", "-bad-", "realm.example")
    ended = guest.boot()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [value(guest, name) for name in ("admin_mail", "sip_domain", "realm")] == [
        "root@example.org",
        "sip.local",
        "realm.example",
    ]
    assert guest.asked == [
        (
            "--timeout=300 --echo=yes --emoji=no --id=slipway:admin_mail Where reports "
            "go (admin_mail):"
        ),
        (
            "--timeout=300 --echo=yes --emoji=no --id=slipway:admin_mail It must be given. "
            "Where reports go (admin_mail):"
        ),
        "--timeout=300 --echo=yes --emoji=no --id=slipway:realm The realm (realm):",
        (
            "--timeout=300 --echo=yes --emoji=no --id=slipway:realm It must be a host name, "
            'such as "mail.example.org". The realm (realm):'
        ),
    ]
    guest.boot()
    assert len(guest.asked) == 4


def test_a_secret_that_is_typed_is_not_shown(guest: Guest) -> None:
    guest.define([{**SECRET, "generate": None}])
    guest.answers("correct horse")
    ended = guest.boot()
    assert ended.returncode == 0
    assert "--echo=no" in guest.asked[0]
    assert value(guest, "admin_password") == "correct horse"
    assert "correct horse" not in ended.stdout + ended.stderr + guest.issue


def test_nobody_at_a_console_is_asked_once(guest: Guest) -> None:
    guest.define([NEEDED, {**NEEDED, "name": "other"}])
    ended = guest.boot()
    assert ended.returncode == 1
    assert [line.split(":")[0] for line in ended.stderr.splitlines()] == [
        "FIRST BOOT FAILED",
        "  admin_mail is not given",
        "  other is not given",
    ]
    assert len(guest.asked) == 1


def test_next_boot_tries_again(guest: Guest) -> None:
    guest.define([NEEDED])
    assert guest.boot().returncode == 1
    guest.credential("slipway.admin_mail", b"root@example.org")
    assert guest.boot().returncode == 0
    assert value(guest, "admin_mail") == "root@example.org"


def test_script_gets_parameters_and_interfaces_and_adds_to_the_banner(guest: Guest) -> None:
    guest.define([DOMAIN])
    (guest.root / "usr/lib/slipway/interfaces").write_text("outside\ninside\n")
    guest.card("ens9", 2)
    guest.card("ens10", 3)
    (guest.root / "sys/class/net/lo").mkdir()
    guest.script(
        "10-a.sh",
        'echo "$PARAM_SIP_DOMAIN $INTERFACE_OUTSIDE $INTERFACE_INSIDE" >"$MARK/seen"\n'
        'echo "back\\\\slash" >>"$SLIPWAY_BANNER"\n',
    )
    assert guest.boot().returncode == 0
    assert guest.read("seen") == "sip.local ens9 ens10\n"
    assert guest.issue.splitlines()[:3] == [
        r"  ens9: \4{ens9} \6{ens9}",
        r"  ens10: \4{ens10} \6{ens10}",
        r"  back\\slash",
    ]


def test_too_few_network_cards_are_refused(guest: Guest) -> None:
    (guest.root / "usr/lib/slipway/interfaces").write_text("outside\ninside\n")
    guest.card("ens9", 2)
    ended = guest.boot()
    assert ended.stderr == (
        f"{FAILED}\n  this appliance needs 2 network cards (outside, inside); this machine has 1\n"
    )
    assert ended.returncode == 1


def test_failed_script_stops_the_rest_and_keeps_generated_secrets_for_the_next_try(
    guest: Guest,
) -> None:
    guest.define([SECRET])
    guest.script("10-first.sh", 'printf 1 >>"$MARK/first"\n')
    guest.script("20-second.sh", 'echo "no database" >&2\ntest -e "$MARK/ready"\n')
    guest.script("30-third.sh", 'printf 3 >>"$MARK/third"\n')
    ended = guest.boot()
    assert ended.returncode == 1
    assert ended.stdout == "first boot: 10-first.sh\nfirst boot: 20-second.sh\n"
    assert (
        ended.stderr
        == f"no database\n{FAILED}\n  20-second.sh failed with status 1\n  no database\n"
    )
    secret = value(guest, "admin_password")
    assert secret not in guest.issue
    (guest.root / "ready").touch()
    assert guest.boot().returncode == 0
    assert (guest.read("first"), guest.read("third"), value(guest, "admin_password")) == (
        "11",
        "3",
        secret,
    )
    assert secret in guest.issue


def test_unset_variable_in_a_script_is_a_failure(guest: Guest) -> None:
    guest.script("10-a.sh", 'echo "$PARAM_MISSPELT"\n')
    assert guest.boot().returncode == 1


def test_second_boot_does_nothing(guest: Guest) -> None:
    guest.define([DOMAIN])
    guest.script("10-a.sh", 'printf x >>"$MARK/runs"\n')
    guest.boot()
    key = guest.read("etc/ssh/ssh_host_ed25519_key")
    guest.credential("slipway.sip_domain", b"other.example")
    assert guest.boot().returncode == 0
    assert (
        guest.read("runs"),
        guest.read("etc/ssh/ssh_host_ed25519_key"),
        value(guest, "sip_domain"),
    ) == ("x", key, "sip.local")


def test_clone_with_another_machine_id_gets_keys_and_secrets_of_its_own(guest: Guest) -> None:
    guest.define([SECRET])
    guest.boot()
    before = guest.read("etc/ssh/ssh_host_ed25519_key.pub"), value(guest, "admin_password")
    guest.instance("b" * 32)
    assert guest.boot().returncode == 0
    after = guest.read("etc/ssh/ssh_host_ed25519_key.pub"), value(guest, "admin_password")
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_host_keys_that_cloud_init_made_are_kept(guest: Guest) -> None:
    key = guest.root / "etc/ssh/ssh_host_ed25519_key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=60
    )
    made = key.read_text()
    assert guest.boot().returncode == 0
    assert key.read_text() == made


@pytest.mark.parametrize(
    "left", ["", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAA", "\0" * 400]
)
def test_a_host_key_that_a_power_cut_left_is_made_again(guest: Guest, left: str) -> None:
    key = guest.root / "etc/ssh/ssh_host_ed25519_key"
    key.write_text(left)
    assert guest.boot().returncode == 0
    subprocess.run(
        ["ssh-keygen", "-y", "-P", "", "-f", str(key)],
        check=True,
        timeout=60,
        stdout=subprocess.DEVNULL,
    )


def test_a_machine_without_any_host_key_gets_new_ones_and_keeps_what_somebody_removed_away(
    guest: Guest,
) -> None:
    guest.boot()
    folder = guest.root / "etc/ssh"
    (folder / "ssh_host_ecdsa_key").unlink()
    assert guest.boot().returncode == 0
    assert not (folder / "ssh_host_ecdsa_key").exists()
    (folder / "ssh_host_ed25519_key").unlink()
    assert guest.boot().returncode == 0
    assert guest.read("etc/ssh/ssh_host_ed25519_key").startswith(
        "-----BEGIN OPENSSH PRIVATE KEY-----"
    )


def test_prompt_says_who_can_log_in(guest: Guest) -> None:
    guest.boot()
    assert (
        "  Nobody can log in: give an SSH key by cloud-init, or by the system credential "
        "ssh.authorized_keys.root.\n"
    ) in guest.issue
    (guest.root / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/bash\ndebian:x:1000:1000::/home/debian:/bin/sh\n"
        "d:x:1::/:/usr/sbin/nologin\n"
    )
    (guest.root / "etc/shadow").write_text("root:*:1::::::\ndebian:!:1::::::\n")
    (guest.root / "home/debian/.ssh").mkdir(parents=True)
    (guest.root / "home/debian/.ssh/authorized_keys").write_text("ssh-ed25519 AAAA x\n")
    guest.boot()
    assert "  Log in as: debian\n" in guest.issue


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "a b",
        'quo"te',
        "$(touch /tmp/x) `id` ${HOME}",
        "back\\slash\\",
        "it's",
        "#no comment",
        "é ünï",
        "!a!",
    ],
)
def test_environment_file_is_read_back_by_a_shell(guest: Guest, text: str) -> None:
    guest.define([NEEDED])
    guest.credential("slipway.admin_mail", text.encode())
    assert guest.boot().returncode == 0
    command = (
        f". {shlex.quote(str(guest.root / 'etc/slipway/parameters.env'))}; "
        'printf %s "$PARAM_ADMIN_MAIL"'
    )
    assert (
        subprocess.run(["sh", "-euc", command], capture_output=True, check=True, timeout=60).stdout
        == text.encode()
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- [", "cloud-init's user data cannot be read: line 1: expected the node"),
        (
            "slipway: {parameters: [a]}",
            'cloud-init: "slipway: {parameters: {...}}" must map names to texts',
        ),
        (
            "slipway: {parameters: {sip_domain: [a]}}",
            "sip_domain: cloud-init's user data must have a text there; quote it",
        ),
        (
            "slipway: {parameter: {sip_domain: a}}",
            'cloud-init: "slipway" of the user data has no "parameter": did you mean "parameters"?',
        ),
        (
            "slipway: {parameters: {sip_domain: null}}",
            "sip_domain: cloud-init's user data must have a text there; quote it",
        ),
        ("slipway: hello", 'cloud-init: "slipway: {parameters: {...}}" must map names to texts'),
        (
            "Slipway: {parameters: {sip_domain: a}}",
            'cloud-init: the user data has "Slipway": did you mean "slipway: {parameters: {...}}"?',
        ),
        (
            'slipway: {parameters: {sip_domain: "CI_MISSING_JINJA_VAR/zone"}}',
            'sip_domain: this instance has no "zone" for the template',
        ),
    ],
)
def test_user_data_of_the_wrong_shape_is_refused(guest: Guest, text: str, reason: str) -> None:
    guest.define([DOMAIN])
    guest.cloud(text)
    ended = guest.boot()
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[1].startswith(f"  {reason}")


def test_credential_that_is_not_text_is_refused(guest: Guest) -> None:
    guest.define([DOMAIN])
    guest.credential("slipway.sip_domain", b"\xff\xfe")
    assert (
        guest.boot().stderr
        == f'{FAILED}\n  the credential "slipway.sip_domain" is not UTF-8 text\n'
    )


def test_broken_image_fails_closed(guest: Guest) -> None:
    guest.define([DOMAIN])
    (guest.root / "usr/lib/slipway/parameters.json").write_text("{")
    ended = guest.boot()
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"{FAILED}\n  JSONDecodeError: ")


def test_clone_of_an_instance_whose_first_boot_failed_gets_secrets_of_its_own(guest: Guest) -> None:
    guest.define([SECRET])
    guest.script("10-first.sh", 'test -e "$MARK/ready"\n')
    assert guest.boot().returncode == 1
    before = value(guest, "admin_password")
    (guest.root / "ready").touch()
    guest.instance("b" * 32)
    assert guest.boot().returncode == 0
    assert value(guest, "admin_password") != before


def test_nothing_that_a_prompt_shows_moves_the_cursor(guest: Guest) -> None:
    guest.define([DOMAIN])
    guest.script("10-a.sh", "printf 'clear \\033[2J it\\n' >>\"$SLIPWAY_BANNER\"\n")
    assert guest.boot().returncode == 0
    assert guest.issue.splitlines()[0] == "  clear ?[2J it"
    guest.instance("b" * 32)
    guest.credential("slipway.sip_domain\x1b[2J", b"x")
    assert guest.boot().returncode == 1
    assert "\x1b" not in guest.issue


@pytest.mark.parametrize(
    ("written", "read"), [("True", "true"), ("False", "false"), ("true", "true")]
)
def test_booleans_of_vsphere_have_capital_letters(guest: Guest, written: str, read: str) -> None:
    guest.define(
        [
            {"name": "open", "type": "boolean", "summary": "x"},
            {"name": "motto", "type": "string", "summary": "x"},
        ]
    )
    guest.ovf({"slipway.open": written, "motto": written})
    assert guest.boot().returncode == 0
    assert (value(guest, "open"), value(guest, "motto")) == (read, written)


@pytest.mark.parametrize("answered", [None, "none\n"])
def test_a_cloud_that_has_not_answered_is_asked_again_on_the_next_boot(
    guest: Guest, answered: str | None
) -> None:
    guest.define([DOMAIN])
    run = guest.root / "run/cloud-init"
    run.mkdir()
    (run / "enabled").touch()
    if answered is not None:
        (run / "cloud-id").write_text(answered)
    ended = guest.boot()
    reason = (
        "  this machine is in a cloud, and cloud-init got no metadata from it (see: "
        "cloud-init status --long)"
    )
    assert (ended.returncode, ended.stderr) == (1, f"{FAILED}\n{reason}\n")
    (run / "cloud-id").write_text("openstack\n")
    guest.cloud("slipway: {parameters: {sip_domain: example.org}}\n")
    assert guest.boot().returncode == 0
    assert value(guest, "sip_domain") == "example.org"


def test_the_prompts_never_stop_what_is_set_up(guest: Guest) -> None:
    guest.card("eth0", 2)
    gone = guest.root / "sys/class/net/eth1/device"  # unplugged between two looks: no number
    gone.mkdir(parents=True)
    (guest.root / "etc/passwd").write_bytes(
        b"erika:x:1000:1000:Erika M\xfcller:/home/erika:/bin/sh\n"
    )
    (guest.root / "etc/shadow").write_text("erika:$y$x:1::::::\n")
    assert guest.boot().returncode == 0
    assert r"eth0: \4{eth0}" in guest.issue and "Log in as: erika" in guest.issue
    (guest.root / "run/issue.d/50-slipway.issue").unlink()
    (guest.root / "run/issue.d").rmdir()
    (guest.root / "run/issue.d").touch()
    again = guest.boot("--root", str(guest.root))
    assert (again.returncode, again.stdout) == (0, "first boot: this appliance is set up\n")
    assert again.stderr.startswith("first boot: the prompts lack something: ")


def test_first_boot_waits_until_network_cards_have_their_names() -> None:
    """Else a name of the kernel's, such as eth1, stands in files, and soon is nobody's."""
    files = Path(__file__).parents[3] / "templates/guest/files"
    unit = files / "usr/lib/systemd/system/slipway-firstboot.service"
    starts = [line for line in unit.read_text().splitlines() if line.startswith("ExecStart")]
    assert starts == [
        "ExecStartPre=-/usr/bin/udevadm settle --timeout=60",
        "ExecStart=/usr/bin/python3 -E -s -B /usr/lib/slipway/firstboot.py",
    ]
