"""First boot: what makes one appliance of an image that is the same for all.

What goes in: the definitions in /usr/lib/slipway/parameters.json, and values from, in this order,
system credentials ``slipway.<name>`` (SMBIOS or fw_cfg; https://systemd.io/CREDENTIALS), the file
/etc/slipway/parameters.yaml, cloud-init's user data (``slipway: {parameters: {name: value}}``), the
OVF environment (``slipway.<name>`` or ``<name>``; DMTF DSP0243, section 9.5) and the definitions'
defaults; for what has no default, whoever is at a console is asked. What comes out:
/etc/slipway/parameters.env for services (EnvironmentFile=), /var/lib/slipway/parameters/<name> for
programs and shells, SSH host keys, and whatever /usr/lib/slipway/firstboot.d/*.sh make.

Invariants: nothing is written before every value has been found and is valid. Services that require
slipway-firstboot.service start only after this has ended well; a failure is shown on the consoles,
and the next boot tries again. It does its work once for each machine-id: a clone with a new
machine-id is a new instance, with new host keys and secrets. Secrets go to the console's prompt,
once, and to files of root; never to the journal.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import identities
from atomic import write
from parameters import (
    Failure,
    Value,
    ask,
    credentials,
    definitions,
    env_line,
    overruled,
    ovf,
    resolve,
    run,
)
from userdata import FILE, cloud_init, given_file

__all__ = [
    "banner",
    "host_keys",
    "interfaces",
    "logins",
    "main",
    "network_cards",
    "set_up",
    "shown",
]

HOST_KEYS = ("ed25519", "ecdsa")


def write_parameters(root: Path, values: Mapping[str, Value]) -> None:
    """The parameters as one environment file, and as a file each."""
    directory = root / "var/lib/slipway/parameters"
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    for name, value in values.items():
        write(directory / name, value.text)
    for file in directory.iterdir():
        if file.name not in values:
            file.unlink()
    write(
        root / "etc/slipway/parameters.env",
        "".join(env_line(variable(name), value.text) for name, value in values.items()),
    )


def variable(name: str) -> str:
    """The environment variable of a parameter: PARAM_ and its name in capitals."""
    return f"PARAM_{name.upper()}"


def host_keys(root: Path, *, renew: bool) -> None:
    """SSH host keys: those that are missing or torn, or all of them for a clone of another
    instance.
    """
    directory = root / "etc/ssh"
    for kind in HOST_KEYS if directory.is_dir() else ():
        key = directory / f"ssh_host_{kind}_key"
        if renew:
            key.unlink(missing_ok=True)
        if not whole_key(key):
            key.unlink(missing_ok=True)
            run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", str(key)])
            key.with_name(f"{key.name}.pub").chmod(0o644)


def whole_key(key: Path) -> bool:
    """Return whether a file holds a private key to its end.

    What a power cut leaves is empty or torn.
    """
    try:
        lines = key.read_bytes().split()
    except OSError:
        return False
    return bool(lines) and lines[-1].endswith(b"KEY-----")


def interfaces(root: Path) -> dict[str, str]:
    """INTERFACE_<NAME> -> this machine's device, for the interfaces of the spec, in the order of
    the hardware.

    Raises:
        Failure: There are fewer network cards than the appliance needs (one is never needed: it may
            come later).
    """
    file = root / "usr/lib/slipway/interfaces"
    names = file.read_text().split() if file.exists() else []
    cards = network_cards(root)
    if len(names) > 1 and len(cards) < len(names):
        raise Failure(
            f"this appliance needs {len(names)} network cards ({', '.join(names)}); "
            f"this machine has {len(cards)}"
        )
    return {
        f"INTERFACE_{name.upper().replace('-', '_')}": card
        for name, card in zip(names, cards, strict=False)
    }


def network_cards(root: Path) -> list[str]:
    """Devices of real network cards, in the order in which the kernel found them, which is that of
    their slots.
    """
    found = []
    for path in (root / "sys/class/net").glob("*"):
        with contextlib.suppress(OSError, ValueError):  # renamed or unplugged just now
            if (path / "device").exists():
                found.append((int((path / "ifindex").read_text()), path.name))
    return [name for _, name in sorted(found)]


def scripts(root: Path, environment: Mapping[str, str]) -> None:
    """Run the appliance's own first-boot scripts, in the order of their names, up to the first that
    fails.

    Their environment has PARAM_<NAME>, INTERFACE_<NAME>, and in SLIPWAY_BANNER the file whose lines
    the prompts show.
    """
    for script in sorted((root / "usr/lib/slipway/firstboot.d").glob("*.sh")):
        print(f"first boot: {script.name}", flush=True)
        run(["/bin/sh", "-eu", str(script)], env=environment)


def issue(root: Path, lines: Sequence[str], *, mode: int = 0o600) -> None:
    """What agetty shows above the prompt, on every console, until the next boot."""
    write(
        root / "run/issue.d/50-slipway.issue", "".join(f"{line}\n" for line in lines) + "\n", mode
    )


def banner(root: Path, fresh: Mapping[str, str]) -> Iterator[str]:
    """Addresses, the appliance's own lines, new secrets, and how to log in. agetty(8) fills in the
    escapes.
    """
    for card in network_cards(root):
        yield rf"  {card}: \4{{{card}}} \6{{{card}}}"
    own = root / "var/lib/slipway/banner"
    if own.exists():
        yield from (f"  {printable_line(line)}" for line in own.read_text().splitlines())
    for name, text in fresh.items():
        yield (
            f"  {name}: {printable_line(text)} (made now and shown until somebody logs in; "
            "see /var/lib/slipway/parameters)"
        )
    users = logins(root)
    if users:
        yield f"  Log in as: {', '.join(users)}"
    else:
        yield (
            "  Nobody can log in: give an SSH key by cloud-init, or by the system credential "
            "ssh.authorized_keys.root."
        )


def shown(root: Path) -> None:
    """Take new secrets off the prompts, if a user has a session by now: whoever comes after need
    not see them.
    """
    sessions = (root / "run/systemd/sessions").glob("*")
    # Other classes are for managers of users who never logged in (sd_session_get_class(3)).
    if any(
        line.startswith("CLASS=user")
        for file in sessions
        if file.is_file()
        for line in lines_of(file)
    ):
        issue(root, list(banner(root, {})))
        run(["agetty", "--reload"])
        run(["systemctl", "stop", "slipway-shown.path"])


def printable_line(text: str) -> str:
    """A line that agetty shows as it is."""
    return "".join(character if character.isprintable() else "?" for character in text).replace(
        "\\", "\\\\"
    )


def logins(root: Path) -> list[str]:
    """Users who have a password or an SSH key."""
    users = []
    hashes = dict(
        line.split(":")[:2] for line in lines_of(root / "etc/shadow") if line.count(":") > 1
    )
    for line in lines_of(root / "etc/passwd"):
        fields = line.split(":")
        if len(fields) != 7 or fields[6].endswith(("nologin", "false", "sync")):
            continue
        keys = root / fields[5].lstrip("/") / ".ssh/authorized_keys"
        if hashes.get(fields[0], "*")[:1] not in ("*", "!") or (
            keys.is_file() and keys.stat().st_size
        ):
            users.append(fields[0])
    return users


def lines_of(path: Path) -> list[str]:
    """A file's lines; none if it does not exist."""
    return path.read_text(errors="replace").splitlines() if path.exists() else []


def read_state(root: Path) -> dict[str, Any]:
    """What an earlier boot left: {instance, done, generated}."""
    with contextlib.suppress(OSError, ValueError):
        state = json.loads((root / "var/lib/slipway/state.json").read_text())
        if isinstance(state, dict):
            return state
    return {}


def set_up(root: Path) -> dict[str, str]:
    """Do what this instance still lacks.

    Returns: Secrets that were generated on this boot, by name.
    """
    instance = (root / "etc/machine-id").read_text().strip()
    before = read_state(root)
    if before.get("instance") == instance and before.get("done"):
        # Somebody may have removed one kind, but without any nobody can log in.
        if not any(whole_key(key) for key in (root / "etc/ssh").glob("ssh_host_*_key")):
            host_keys(root, renew=False)
        return {}
    same = before.get("instance") == instance
    parameters = definitions(json.loads((root / "usr/lib/slipway/parameters.json").read_text()))
    sources = (
        ("a system credential", credentials(root)),
        (f"/{FILE}", given_file(root, parameters)),
        ("cloud-init", cloud_init(root, parameters)),
        ("an OVF property", ovf(root, parameters)),
    )
    values = resolve(parameters, sources, before.get("generated", {}) if same else {}, ask)
    devices = interfaces(root)
    for line in overruled(parameters, sources):
        print(f"first boot: {line}", flush=True)

    # A secret that was generated once stays what it is when a later step fails and the next boot
    # goes on.
    generated = {name: value.text for name, value in values.items() if value.source == "generated"}
    state = {"instance": instance, "done": False, "generated": generated}
    write(root / "var/lib/slipway/state.json", json.dumps(state))
    (root / "var/lib/slipway/banner").unlink(missing_ok=True)
    write_parameters(root, values)
    host_keys(root, renew=bool(before) and not same)
    given = {variable(name): value.text for name, value in values.items()}
    scripts(
        root,
        os.environ | given | devices | {"SLIPWAY_BANNER": str(root / "var/lib/slipway/banner")},
    )
    os.sync()
    write(
        root / "var/lib/slipway/state.json",
        json.dumps({"instance": instance, "done": True, "generated": {}}),
    )
    (root / FILE).unlink(missing_ok=True)  # not for a clone
    return generated


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 0 if this appliance is set up, now or before, and 1 if not."""
    options = argparse.ArgumentParser(description="Set this appliance up, once for each instance.")
    options.add_argument(
        "--root",
        type=Path,
        default=Path("/"),
        metavar="DIR",
        help="where the file system is (for tests)",
    )
    options.add_argument(
        "--shown", action="store_true", help="somebody may have logged in: show new secrets no more"
    )
    given = options.parse_args(argv)
    root: Path = given.root
    if given.shown:
        shown(root)
        return 0
    try:
        identities.make(root)  # what slipway-identities.service could not
        fresh = set_up(root)
    except Failure as failure:
        reasons = failure.reasons
    except Exception as error:
        # whatever it is, the appliance must not run, and the console must say why
        reasons = (f"{type(error).__name__}: {error}",)
    else:
        try:
            issue(root, list(banner(root, fresh)))
            if fresh:
                run(["systemctl", "start", "--no-block", "slipway-shown.path"])
        except Exception as error:  # this appliance is set up all the same
            print(
                f"first boot: the prompts lack something: {type(error).__name__}: {error}",
                file=sys.stderr,
                flush=True,
            )
        print("first boot: this appliance is set up", flush=True)
        return 0
    headline = (
        "FIRST BOOT FAILED: the services of this appliance are not started. "
        "The next boot tries again."
    )
    lines = [headline, *(f"  {line}" for line in reasons)]
    issue(root, [printable_line(line) for line in lines])
    print(*lines, sep="\n", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
