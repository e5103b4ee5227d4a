"""The ``--json`` documents of tasks about stores and channels; see :mod:`slipway.commands.shapes`.

What goes in: nothing. What comes out: :data:`SHAPES` by task. Every document names its store. With
``--dry-run``, ``would`` lists the changes of a real run, and nothing was changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final

__all__ = [
    "SHAPES",
    "Audited",
    "Cataloged",
    "ChannelState",
    "Channels",
    "Collected",
    "Dropped",
    "Expiry",
    "Exported",
    "Failed",
    "Fetched",
    "Held",
    "Image",
    "Key",
    "Keys",
    "ListedFile",
    "ListedRelease",
    "Move",
    "Night",
    "Object",
    "Promoted",
    "Pruned",
    "Published",
    "PublishedRelease",
    "Recovered",
    "Refreshed",
    "Role",
    "RolledBack",
    "SeedFile",
    "Tombstone",
    "VerifiedFile",
    "Withdrawn",
    "WithdrawnImage",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The fields of every document about a store."""

    store: Annotated[str, "the store's address"]
    would: Annotated[Sequence[str], "with `--dry-run`: what would be done, in words"] = field(
        default=()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A problem passed over by the task."""

    name: Annotated[str, "a release, a channel or a step"]
    message: Annotated[str, "what is wrong"]
    hint: Annotated[str | None, "the next step"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """An appliance's change in a channel."""

    appliance: Annotated[str, "whose release it is"]
    channel: Annotated[str, "the channel"]
    release: Annotated[str | None, "current now; null if the channel has none"]
    before: Annotated[str | None, "current before"]
    changed: Annotated[bool, "false if it was so already"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRelease:
    """A release brought into a store."""

    appliance: Annotated[str, "whose it is"]
    release: Annotated[str, "version and build id"]
    size: Annotated[int, "bytes of all its files"]
    files: Annotated[Mapping[str, str], "SHA-256 by file"]
    created: Annotated[Sequence[str], "the objects that are new"]
    kept: Annotated[Sequence[str], "records of an earlier build of the same images that stay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published(Told):
    """The document of `publish`."""

    FORMAT: ClassVar[str] = "slipway/publish/1"
    channel: Annotated[str, "where the releases are listed"]
    moved: Annotated[Sequence[Move], "by appliance"] = field(default=())
    releases: Annotated[Sequence[PublishedRelease], "those that are in the store"] = field(
        default=()
    )
    refused: Annotated[Sequence[Failed], "releases that cannot be published; the others were"] = (
        field(default=())
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """The document of `nightly`."""

    FORMAT: ClassVar[str] = "slipway/nightly/1"
    store: Annotated[str | None, "the store's address; null with `--no-publish`"] = None
    channel: Annotated[str | None, "where the releases are listed; null with `--no-publish`"] = None
    releases: Annotated[Mapping[str, str], "by appliance, the folder of what was built"]
    report: Annotated[Sequence[str], "what happened, in Markdown"]
    failed: Annotated[Sequence[Failed], "appliances that were not built, and steps that failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cataloged(Told):
    """The document of `catalog`."""

    FORMAT: ClassVar[str] = "slipway/catalog/1"
    written: Annotated[Sequence[str], "the indexes that became different"]
    shown: Annotated[int, "how many releases they show"]
    left_out: Annotated[Sequence[str], "channels that are not trusted here"]
    hidden: Annotated[
        Sequence[str], "current releases that were made in no format that an index shows"
    ]
    warnings: Annotated[Sequence[str], "channels that have expired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoted(Told):
    """The document of `promote`."""

    FORMAT: ClassVar[str] = "slipway/promote/1"
    appliance: Annotated[str, "whose release it is"]
    release: Annotated[str, "version and build id"]
    source: Annotated[str, "the channel that had it"]
    target: Annotated[str, "the channel that gets it"]
    added: Annotated[Mapping[str, str], "packages that are new in the target, with versions"]
    removed: Annotated[Mapping[str, str], "packages that are gone"]
    updated: Annotated[Mapping[str, Sequence[str]], "packages with the version before and now"]
    moved: Annotated[Sequence[Move], "one; none with `--dry-run`"] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack(Told):
    """The document of `rollback`."""

    FORMAT: ClassVar[str] = "slipway/rollback/1"
    appliance: Annotated[str, "whose release it is"]
    channel: Annotated[str, "the channel"]
    release: Annotated[str, "the one to go back to"]
    moved: Annotated[Sequence[Move], "one; none with `--dry-run`"] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn(Told):
    """The document of `withdraw`."""

    FORMAT: ClassVar[str] = "slipway/withdraw/1"
    appliance: Annotated[str, "whose releases they are"]
    reason: Annotated[str, "as it was given"]
    releases: Annotated[Sequence[str], "those that are withdrawn"] = field(default=())
    moved: Annotated[Sequence[Move], "by channel, the most trusted first"] = field(default=())
    unreached: Annotated[Sequence[Failed], "channels that may still have one"] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """The expiry of a channel's metadata."""

    root: Annotated[str, "replaced with `keys rotate --role root`"]
    targets: Annotated[str | None, "the list of appliances; null if nothing was published"]
    appliances: Annotated[Mapping[str, str], "the list of each appliance"]
    snapshot: Annotated[str | None, "renewed by `refresh`"]
    timestamp: Annotated[str | None, "renewed by `refresh`"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelState:
    """A channel and its dates."""

    name: Annotated[str, "the channel"]
    version: Annotated[int | None, "of its snapshot; null if nothing was published"]
    expires: Annotated[Expiry, "when its parts end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed(Told):
    """The document of `refresh`."""

    FORMAT: ClassVar[str] = "slipway/refresh/1"
    channels: Annotated[Sequence[ChannelState], "those that were signed anew"] = field(default=())
    warnings: Annotated[Sequence[str], "what they need soon"] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered(Told):
    """The document of `recover`."""

    FORMAT: ClassVar[str] = "slipway/recover/1"
    channel: Annotated[str, "the channel"]
    known: Annotated[Sequence[str], "what is known of it, in words"]
    version: Annotated[
        int | None, "the one that it goes on from; null if nothing was done, or nothing is left"
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """Releases no longer listed by a channel."""

    channel: Annotated[str, "the channel"]
    appliance: Annotated[str, "whose they are"]
    releases: Annotated[Sequence[str], "the oldest first"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned(Told):
    """The document of `prune`."""

    FORMAT: ClassVar[str] = "slipway/prune/1"
    channels: Annotated[Sequence[str], "those that were looked at"]
    dropped: Annotated[
        Sequence[Dropped], "what they no longer list; with `--dry-run`, what they would not"
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """An object of a store."""

    key: Annotated[str, "its name"]
    size: Annotated[int, "bytes"]
    modified: Annotated[str, "when it was written"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected(Told):
    """The document of `gc`."""

    FORMAT: ClassVar[str] = "slipway/gc/1"
    removed: Annotated[Sequence[Object], "what is gone; with `--dry-run`, what would be"]
    size: Annotated[int, "bytes of all of them"]
    uploads: Annotated[int, "unfinished uploads that were removed"]
    problems: Annotated[
        Sequence[Failed], "channels that cannot be read: what they may refer to is kept"
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFile:
    """A file of a release, as a channel lists it."""

    file: Annotated[str, "its name"]
    size: Annotated[int, "bytes"]
    sha256: Annotated[str, "of the file"]
    key: Annotated[str, "the object in the store"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRelease:
    """A release in a channel."""

    release: Annotated[str, "version and build id"]
    current: Annotated[bool, "what `fetch` takes"]
    created: Annotated[str, "when it was built"]
    added: Annotated[str, "when it came into the channel"]
    files: Annotated[Sequence[ListedFile], "by name"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """The tombstone of a withdrawn release."""

    release: Annotated[str, "version and build id"]
    reason: Annotated[str, "why"]
    time: Annotated[str, "when"]
    replacement: Annotated[str | None, "the release that took its place"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The releases of an appliance in a channel."""

    channel: Annotated[str, "the channel"]
    appliance: Annotated[str, "the appliance"]
    current: Annotated[str | None, "the release that `fetch` takes"]
    releases: Annotated[Sequence[ListedRelease], "in the order in which they came"]
    withdrawn: Annotated[Sequence[Tombstone], "what must not be used"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Channels(Told):
    """The document of `channels`."""

    FORMAT: ClassVar[str] = "slipway/channels/1"
    channels: Annotated[
        Sequence[ChannelState], "those that can be read, the most trusted first"
    ] = field(default=())
    holdings: Annotated[Sequence[Held], "by channel and appliance"] = field(default=())
    warnings: Annotated[Sequence[str], "roots that end soon"] = field(default=())
    problems: Annotated[
        Sequence[Failed], "channels that cannot be read, have expired, or are not trusted here"
    ] = field(default=())
    removed: Annotated[str | None, "with `remove`: the channel that is gone"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image file on this machine."""

    format: Annotated[str, "as `--format` names it"]
    path: Annotated[str, "where it is"]
    size: Annotated[int, "bytes"]
    sha256: Annotated[str, "of the file"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawnImage:
    """A file of a withdrawn release."""

    path: Annotated[str, "where it is"]
    release: Annotated[str, "version and build id"]
    reason: Annotated[str, "why it was withdrawn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedFile:
    """Values for first boot, as a file beside an image."""

    path: Annotated[str, "where it is"]
    id: Annotated[str, "of the release and these values"]
    parameters: Annotated[Sequence[str], "what it sets"]
    secrets: Annotated[Sequence[str], "those of them that are secrets"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched(Told):
    """The document of `fetch`."""

    FORMAT: ClassVar[str] = "slipway/fetch/1"
    channel: Annotated[str, "where it is listed"]
    appliance: Annotated[str, "whose it is"]
    release: Annotated[str, "version and build id"]
    architecture: Annotated[str, "in Debian's words"]
    created: Annotated[str, "when it was built"]
    image: Annotated[Image, "what was downloaded"]
    withdrawn: Annotated[
        Sequence[WithdrawnImage], "files in the same folder that must not be used"
    ] = field(default=())
    seed: Annotated[SeedFile | None, "what was written with `--set` and `--set-file`"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The document of `export`."""

    FORMAT: ClassVar[str] = "slipway/export/1"
    images: Annotated[Sequence[Image], "what was made"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedFile:
    """A verified file on this machine: a file of a release, or a seed for one."""

    path: Annotated[str, "where it is"]
    appliance: Annotated[str, "whose it is"]
    release: Annotated[str, "version and build id"]
    channels: Annotated[Sequence[str], "where the release is listed, the most trusted first"]
    seed: Annotated[SeedFile | None, "the file itself, or the seed beside the image"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited(Told):
    """The document of `verify`."""

    FORMAT: ClassVar[str] = "slipway/verify/1"
    sound: Annotated[Sequence[str], "what was found, a line each"]
    problems: Annotated[Sequence[str], "what is wrong, a line each"]
    files: Annotated[Sequence[VerifiedFile], "the files that were named, if right"] = field(
        default=()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A public key."""

    keyid: Annotated[str, "as TUF names it"]
    fingerprint: Annotated[str, "to read out: the SHA-256 of its public half"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """The keys of a part of a channel."""

    role: Annotated[str, "`root`, `targets`, `snapshot` or `timestamp`"]
    here: Annotated[bool, "a private key of it can sign here"]
    keys: Annotated[Sequence[Key], "its public keys"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The document of `keys`.

    `keys export` prints a bundle as it is, and takes no `--json`.
    """

    FORMAT: ClassVar[str] = "slipway/keys/1"
    channel: Annotated[str, "whose keys they are"]
    folder: Annotated[str | None, "where they are; null if they come from a variable"]
    roles: Annotated[Sequence[Role], "root first"]
    minisign: Annotated[str | None, "the public key for minisign"]
    would: Annotated[Sequence[str], "with `--dry-run`: what would be done, in words"] = field(
        default=()
    )


#: By task, in the order of the page.
SHAPES: Final[Mapping[str, type[Any]]] = {
    "publish": Published,
    "nightly": Night,
    "catalog": Cataloged,
    "promote": Promoted,
    "rollback": RolledBack,
    "withdraw": Withdrawn,
    "refresh": Refreshed,
    "recover": Recovered,
    "prune": Pruned,
    "gc": Collected,
    "channels": Channels,
    "fetch": Fetched,
    "export": Exported,
    "verify": Audited,
    "keys": Keys,
}
