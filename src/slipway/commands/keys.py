"""Keys of channels: make, protect, replace, show and export them.

What goes in: arguments. What comes out: lines, or JSON.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slipway.answer import Answer
from slipway.commands.output import say, would
from slipway.commands.records import keys_record
from slipway.invocation import task

if TYPE_CHECKING:
    from slipway.channels.keys import KeyRing

__all__ = ["TASKS", "TITLE"]

TITLE: Final = "Keys of channels"

_ACTIONS: Final = ("init", "protect", "rotate", "show", "export")
#: The actions that an option has an effect on.
_GOES_WITH: Final = {
    "role": ("rotate",),
    "root_keys": ("init",),
    "threshold": ("init",),
    "signer": ("init",),
    "root_key": ("protect", "rotate", "show"),
    "online": ("export",),
    "offline_targets": ("export",),
    "no_passphrase": ("init", "rotate"),
    "dry_run": ("rotate",),
}


def made_lines(ring: KeyRing, *, protected: bool) -> list[str]:
    """Say where new keys are, and what to do with them."""
    lines = [f"made in {ring.folder}: keep a copy where nobody else gets at it"]
    for folder in ring.places:
        lines.append(f"a root key is in {folder}: move it to a place of its own, offline")
    if ring.places:
        lines.append(f"to use those again: invoke keys rotate {ring.channel} --role ROLE --root-key FOLDER, once for each")
    if not protected:
        lines.append(f"targets and root have no passphrase; to give them one: invoke keys protect {ring.channel}")
    return lines


def _require_fitting(action: str, given: Iterable[str]) -> None:
    """Refuse options that an action takes no notice of.

    Raises:
        UsageError: There is one, or no such action.
    """
    from slipway.errors import UsageError, suggestion

    if action not in _ACTIONS:
        raise UsageError(f'keys has no action "{action}"', hint=suggestion(action, _ACTIONS) or f"there is: {', '.join(_ACTIONS)}")
    for name in given:
        if action not in _GOES_WITH[name]:
            hint = f"it goes with: {', '.join(f'keys {each}' for each in _GOES_WITH[name])}"
            raise UsageError(f"--{name.replace('_', '-')} does not go with: keys {action}", hint=hint)


def newest_root(folder: Path) -> Path:
    """Return the newest root metadata of a channel's folder: what its readers start from."""
    return max(folder.glob("*.root.json"), key=lambda path: int(path.name.partition(".")[0]))


@task(
    help={
        "dry_run": "with rotate: say what would be done, and change nothing",
        "keys": "where the keys of channels are; without it SLIPWAY_KEYS, or ~/.config/slipway/keys",
        "action": "init, protect, rotate, show or export",
        "channel": "nightly, candidate, stable, ...",
        "role": "the role that gets new keys: root, targets, snapshot or timestamp",
        "root_keys": "how many keys the root has; several get a folder each",
        "root_key": "the folder of a root key that was moved away; can be given again",
        "online": "export only what signs every night: snapshot and timestamp",
        "offline_targets": "export only the targets key",
        "no_passphrase": "put new targets and root keys under no passphrase",
        "threshold": "how many of them must sign",
        "signer": "ROLE=URI,PUBLIC.pem: a key that is elsewhere, by securesystemslib's URI; can be given again",
    },
    name="keys",
)
def keys_(
    action: str = "show",
    channel: str = "nightly",
    *,
    signer: list[str],
    root_key: list[str],
    role: str = "",
    root_keys: int = 1,
    threshold: int = 1,
    keys: str = "",
    online: bool = False,
    offline_targets: bool = False,
    no_passphrase: bool = False,
    dry_run: bool = False,
    answer: Answer,
) -> None:
    """Make the keys of a channel (init), put them under a passphrase (protect), replace a role's (rotate), show public
    ones, or print them for CI's secrets (export). Passphrases come from the terminal or SLIPWAY_PASSPHRASE_FILE."""
    from slipway.channels import keys as rings
    from slipway.channels.minisign import public_key
    from slipway.errors import UsageError

    directory = Path(keys).expanduser().absolute() if keys else rings.keys_directory()
    places = tuple(Path(folder).expanduser().absolute() for folder in root_key)
    given = {
        "role": role, "root_keys": root_keys != 1, "threshold": threshold != 1, "signer": signer, "root_key": root_key,
        "online": online, "offline_targets": offline_targets, "no_passphrase": no_passphrase, "dry_run": dry_run,
    }  # fmt: skip
    _require_fitting(action, [name for name, value in given.items() if value])
    if answer.json and action == "export":
        raise UsageError("keys export takes no --json", hint="the bundle that it prints is one line of JSON already")
    if action == "init":
        known = rings.parse_signers(signer)
        passphrase = None if no_passphrase else rings.new_passphrase()
        ring = rings.init(channel, directory, root_keys=root_keys, threshold=threshold, signers=known, passphrase=passphrase)
        say("\n".join(made_lines(ring, protected=passphrase is not None)))
    elif action == "protect":
        rings.load_ring(channel, directory, places=places)  # before the question
        passphrase = rings.new_passphrase()
        if passphrase is None:
            raise UsageError("no terminal to ask on", hint=f"write the passphrase into a file, named by {rings.PASSPHRASE_FILE}")
        done = rings.protect(channel, directory, passphrase, places=places)
        answer.tell(keys_record(rings.load_ring(channel, directory, places=places)))
        print("\n".join(f"{directory / name} is under a passphrase" for name in done) or "nothing changed")
        return
    elif action == "rotate":
        if not role:
            raise UsageError("rotate wants --role", hint=f"one of: {', '.join(rings.ROLES)}")
        if dry_run:
            # Without asking for a passphrase.
            keys_here = rings.load_ring(channel, directory, places=places)
            rings.require_rotatable(keys_here, role)
            deeds = [f"replace the {role} key of {channel} in {directory / channel}; the next refresh tells the store"]
            answer.tell(keys_record(keys_here, would=deeds))
            would(deeds)
            return
        passphrase = rings.new_passphrase() if role in rings.OFFLINE and not no_passphrase else None
        ring = rings.rotate(channel, directory, role, places=places, passphrase=passphrase)
        say(f"the {role} key of {channel} is a new one; to tell the store: invoke refresh --channel {channel}")
    elif action == "export":
        if online and offline_targets:
            raise UsageError("--online or --offline-targets, not both", hint="without either, both are in the line")
        roles = rings.ONLINE if online else ("targets",) if offline_targets else ("targets", *rings.ONLINE)
        print(rings.export(rings.load_ring(channel, directory), roles))
        return
    else:
        ring = rings.load_ring(channel, directory, places=places)
    answer.tell(keys_record(ring))
    for name in rings.ROLES:
        for key in ring.public(name):
            print(f"{name:<10} {rings.fingerprint(key)}")
    if ring.folder:
        print(f"trust      {newest_root(ring.folder)}: readers have it as trust/{channel}.root.json")
    minisign = public_key(ring.public("targets")[0], channel)
    if minisign:
        print(f"minisign   {minisign.splitlines()[1]}")


TASKS: Final = (keys_,)
