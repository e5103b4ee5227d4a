"""Keys of channels: make, protect, replace, show and export them.

Takes arguments; prints lines, or JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slipway.commandline.answer import Answer
from slipway.commandline.invocation import option, task
from slipway.commands.output import say, would
from slipway.commands.records import keys_record

if TYPE_CHECKING:
    from slipway.channels.keys import KeyRing

__all__ = ["TASKS", "TITLE"]

TITLE: Final = "Keys of channels"

_ACTIONS: Final = ("init", "protect", "rotate", "show", "export")
#: The actions affected by an option.
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
    """Say where new keys are, and how to keep them safe."""
    lines = [f"made in {ring.folder}: keep a copy where nobody else gets at it"]
    for folder in ring.places:
        lines.append(f"a root key is in {folder}: move it to a place of its own, offline")
    if ring.places:
        lines.append(
            f"to use those again: invoke keys rotate {ring.channel} --role ROLE --root-key "
            "FOLDER, once for each"
        )
    if not protected:
        lines.append(
            "targets and root have no passphrase; to give them one: "
            f"invoke keys protect {ring.channel}"
        )
    return lines


def _require_fitting(action: str, given: Iterable[str]) -> None:
    """Refuse options without an effect on the action.

    Raises:
        UsageError: Such an option is given, or the action does not exist.
    """
    from slipway.errors import UsageError, choose

    if action not in _ACTIONS:
        raise UsageError(
            f'keys has no action "{action}"',
            hint=choose(action, _ACTIONS),
        )
    for name in given:
        if action not in _GOES_WITH[name]:
            hint = f"it goes with: {', '.join(f'keys {each}' for each in _GOES_WITH[name])}"
            raise UsageError(
                f"--{name.replace('_', '-')} does not go with: keys {action}", hint=hint
            )


def newest_root(folder: Path) -> Path:
    """Return the newest root metadata in a channel's folder, the start of its readers' trust."""
    return max(folder.glob("*.root.json"), key=lambda path: int(path.name.partition(".")[0]))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The keys to work on, and how."""

    role: str = option("", "the role that gets new keys: root, targets, snapshot or timestamp")
    root_keys: int = option(1, "how many keys the root has; several get a folder each")
    threshold: int = option(1, "how many of them must sign")
    keys: str = option(
        "", "the folder of channels' keys (default: SLIPWAY_KEYS, or ~/.config/slipway/keys)"
    )
    online: bool = option(False, "export only what signs every night: snapshot and timestamp")
    offline_targets: bool = option(False, "export only the targets key")
    no_passphrase: bool = option(False, "put new targets and root keys under no passphrase")
    dry_run: bool = option(False, "with rotate: say what would be done, and change nothing")

    def given(self) -> dict[str, bool]:
        """Return each option's name, with True if it differs from its default."""
        return {each.name: getattr(self, each.name) != each.default for each in fields(self)}


@task(
    help={
        "action": "init, protect, rotate, show or export",
        "channel": "nightly, candidate, stable, ...",
        "root_key": "the folder of a root key that was moved away; can be given again",
        "signer": (
            "ROLE=URI,PUBLIC.pem: a key that is elsewhere, by securesystemslib's URI; "
            "can be given again"
        ),
    },
    name="keys",
)
def keys_(
    action: str = "show",
    channel: str = "nightly",
    *,
    signer: list[str],
    root_key: list[str],
    wanted: _Wanted,
    answer: Answer,
) -> None:
    """Make, protect, replace, show or export the keys of a channel.

    init makes them, protect puts them under a passphrase, rotate replaces those of a role. show
    prints the public ones, export the private ones for CI's secrets. Passphrases come from the
    terminal or SLIPWAY_PASSPHRASE_FILE.
    """
    from slipway.channels import keys as rings
    from slipway.errors import UsageError

    directory = Path(wanted.keys).expanduser().absolute() if wanted.keys else rings.keys_directory()
    places = tuple(Path(folder).expanduser().absolute() for folder in root_key)
    given = {"signer": signer, "root_key": root_key, **wanted.given()}
    _require_fitting(action, [name for name in _GOES_WITH if given.get(name)])
    if answer.json and action == "export":
        raise UsageError(
            "keys export takes no --json",
            hint="the bundle that it prints is one line of JSON already",
        )
    ring: KeyRing | None = None
    if action == "init":
        ring = _make(channel, directory, signer, wanted)
    elif action == "protect":
        _protect(channel, directory, places, answer)
    elif action == "rotate":
        ring = _rotate(channel, directory, places, wanted, answer)
    elif action == "export":
        _export(channel, directory, wanted)
    else:
        ring = rings.load_ring(channel, directory, places=places)
    if ring:
        answer.tell(keys_record(ring))
        _show(ring)


def _make(channel: str, directory: Path, signer: Sequence[str], wanted: _Wanted) -> KeyRing:
    """Make the keys of a channel."""
    from slipway.channels import keys as rings

    known = rings.parse_signers(signer)
    passphrase = None if wanted.no_passphrase else rings.new_passphrase()
    ring = rings.init(
        channel,
        directory,
        root_keys=wanted.root_keys,
        threshold=wanted.threshold,
        signers=known,
        passphrase=passphrase,
    )
    say("\n".join(made_lines(ring, protected=passphrase is not None)))
    return ring


def _protect(channel: str, directory: Path, places: tuple[Path, ...], answer: Answer) -> None:
    """Put keys under a passphrase."""
    from slipway.channels import keys as rings
    from slipway.errors import UsageError

    rings.load_ring(channel, directory, places=places)  # before the question
    passphrase = rings.new_passphrase()
    if passphrase is None:
        raise UsageError(
            "no terminal to ask on",
            hint=f"write the passphrase into a file, named by {rings.PASSPHRASE_FILE}",
        )
    done = rings.protect(channel, directory, passphrase, places=places)
    answer.tell(keys_record(rings.load_ring(channel, directory, places=places)))
    lines = [f"{directory / name} is under a passphrase" for name in done]
    print("\n".join(lines) or "nothing changed")


def _rotate(
    channel: str, directory: Path, places: tuple[Path, ...], wanted: _Wanted, answer: Answer
) -> KeyRing | None:
    """Replace the keys of a role; return None after a dry run."""
    from slipway.channels import keys as rings
    from slipway.errors import UsageError

    role = wanted.role
    if not role:
        raise UsageError("rotate needs --role", hint=f"one of: {', '.join(rings.ROLES)}")
    if wanted.dry_run:
        # Without asking for a passphrase.
        ring = rings.load_ring(channel, directory, places=places)
        rings.require_rotatable(ring, role)
        deed = (
            f"replace the {role} key of {channel} in {directory / channel}; the next refresh "
            "tells the store"
        )
        answer.tell(keys_record(ring, would=[deed]))
        would([deed])
        return None
    asks = role in rings.OFFLINE and not wanted.no_passphrase
    passphrase = rings.new_passphrase() if asks else None
    ring = rings.rotate(channel, directory, role, places=places, passphrase=passphrase)
    say(
        f"the {role} key of {channel} is a new one; "
        f"to tell the store: invoke refresh --channel {channel}"
    )
    return ring


def _export(channel: str, directory: Path, wanted: _Wanted) -> None:
    """Print keys for CI's secrets."""
    from slipway.channels import keys as rings
    from slipway.channels.memory import seen_by
    from slipway.errors import UsageError

    if wanted.online and wanted.offline_targets:
        raise UsageError(
            "--online or --offline-targets, not both", hint="without either, both are in the line"
        )
    roles: tuple[str, ...] = ("targets", *rings.ONLINE)
    if wanted.online:
        roles = rings.ONLINE
    elif wanted.offline_targets:
        roles = ("targets",)
    ring = rings.load_ring(channel, directory)
    print(rings.export(ring, roles, seen=seen_by(ring)))


def _show(ring: KeyRing) -> None:
    """Show the public keys of a channel."""
    from slipway.channels import keys as rings
    from slipway.channels.minisign import public_key

    for name in rings.ROLES:
        for key in ring.public(name):
            print(f"{name:<10} {rings.fingerprint(key)}")
    if ring.folder:
        known = f"trust/{ring.channel}.root.json"
        print(f"trust      {newest_root(ring.folder)}: readers have it as {known}")
    minisign = public_key(ring.public("targets")[0], ring.channel)
    if minisign:
        print(f"minisign   {minisign.splitlines()[1]}")


TASKS: Final = (keys_,)
