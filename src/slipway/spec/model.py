"""The shape of an appliance's spec and of a mix-in, as pydantic models.

What goes in: plain data, read from YAML by :mod:`slipway.spec.text`, with lists as tuples. What
comes out: frozen models. Invariants: no unknown key, no conversion between types (strict), no two
equal items in a list of names. Rules for more than one key are in :mod:`slipway.spec.rules`. YAML
keys equal field names, except for ``schema``, a name taken by pydantic.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from slipway.spec.patterns import (
    BASE,
    IMAGE_PATH,
    INSTANCE,
    INTERFACE,
    KEYBOARD,
    KEYRING,
    LINE,
    LOCALE,
    NAME,
    PACKAGE,
    PARAMETER,
    REQUIREMENT,
    SECRET,
    SERVICE,
    SETTING,
    SHA256,
    SYSCTL,
    TIMEZONE,
    URL,
    USER,
    VERSION,
    VOLUME,
    WORD,
)

__all__ = [
    "AptSource",
    "Download",
    "Instance",
    "Interface",
    "MixIn",
    "Names",
    "Package",
    "Parameter",
    "ParameterType",
    "Port",
    "Resources",
    "Root",
    "Services",
    "Spec",
    "SpecModel",
    "Summary",
    "Timer",
    "User",
    "Volume",
    "json_schema",
    "unique",
]

ParameterType = Literal["string", "hostname", "integer", "boolean", "ipv4", "ipv4-cidr", "secret"]


def unique(items: tuple[str, ...]) -> tuple[str, ...]:
    """Return the items if no two are equal.

    Raises:
        PydanticCustomError: Two items are equal; its context names one (``item``, ``index``).
    """
    if len(set(items)) == len(items):
        return items
    for index, item in enumerate(items):
        if item in items[:index]:
            raise PydanticCustomError("slipway_twice", "{item}", {"item": item, "index": index})
    return items


def _as_text(value: Any) -> Any:
    """Return a whole number or a boolean as its text in the file.

    The reader keeps only lossless ones as such.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else value


if TYPE_CHECKING:
    _Format = str
else:
    # A format is a module of slipway.formats; the modules are not loaded for this.
    _Format = Literal[
        tuple(
            sorted(path.stem for path in (Path(__file__).parents[1] / "formats").glob("[a-z]*.py"))
        )
    ]

Package = Annotated[str, Field(pattern=PACKAGE)]
Service = Annotated[str, Field(pattern=SERVICE)]
Summary = Annotated[str, Field(pattern=LINE, max_length=200)]
Value = Annotated[str, BeforeValidator(_as_text, json_schema_input_type=str | int | bool)]
_Setting = Annotated[
    str, BeforeValidator(_as_text, json_schema_input_type=str | int | bool), Field(pattern=SETTING)
]
Names = Annotated[tuple[Package, ...], AfterValidator(unique)]
_Values = Annotated[tuple[Value, ...], AfterValidator(unique)]
Group = Annotated[str, Field(pattern=USER)]
_Groups = Annotated[tuple[Group, ...], AfterValidator(unique)]
_Services = Annotated[tuple[Service, ...], AfterValidator(unique)]


def _on_one_line(schema: dict[str, Any]) -> None:
    """Remove a docstring's line breaks from a description, for editors."""
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split())


class SpecModel(BaseModel):
    """The common base of all models of text files: frozen, strict, no unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        hide_input_in_errors=True,
        defer_build=True,
        json_schema_extra=_on_one_line,
    )


class Exposed(SpecModel):
    """A service with more rights than others."""

    service: Service = Field(description="An enabled service.")
    exposure: int = Field(ge=0, le=100, description="The highest exposure of this service.")
    reason: Summary = Field(description="Its reason for these rights.")


class Services(SpecModel):
    """systemd units to switch on or off in the image."""

    enable: _Services = Field(
        default=(), description="Units to start on boot, after first boot has succeeded."
    )
    disable: _Services = Field(default=(), description="Units of packages, not to be started.")
    exposure: int = Field(
        default=100,
        ge=0,
        le=100,
        description=(
            "The highest exposure of an enabled service, as `systemd-analyze security --threshold` "
            "counts; 100 is any."
        ),
    )
    exposed: tuple[Exposed, ...] = Field(
        default=(), description="Enabled services with a higher limit, each with the reason."
    )


class Interface(SpecModel):
    """A network interface of the appliance. The first one leads outside."""

    name: str = Field(
        pattern=INTERFACE, description="How ports and the folders below checks/ refer to it."
    )
    summary: str = Field(default="", pattern=SETTING, max_length=200, description="Its network.")


class Instance(SpecModel):
    """A further instance of the appliance, for checks of several machines."""

    name: str = Field(pattern=INSTANCE, description='How checks refer to it: "# with: NAME".')
    parameters: dict[str, Value] = Field(
        default={}, description="Its values, if other than the defaults."
    )
    cloud_init: bool = Field(
        default=False,
        description=(
            "It is given its SSH key, for the default user, and its values by cloud-init, "
            "not by credentials."
        ),
    )


class Port(SpecModel):
    """A port of the appliance, or a range of ports to open as needed."""

    port: int = Field(ge=1, le=65535, description="Port number.")
    last: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description=(
            "The last one of a range: none of them has to listen, all of them may, for a while."
        ),
    )
    protocol: Literal["tcp", "udp"] = Field(description="Transport protocol.")
    purpose: Summary = Field(description="Its service, in a few words.")
    interface: str = Field(default="outside", pattern=INTERFACE, description="Its interface.")

    @property
    def numbers(self) -> str:
        """The number, or the first and the last one: 80, 30000-30999."""
        return str(self.port) if self.last is None else f"{self.port}-{self.last}"


class Parameter(SpecModel):
    """A value of each instance, given or generated on first boot."""

    name: str = Field(
        pattern=PARAMETER, description="Its name, also in /etc/slipway/parameters.env."
    )
    type: ParameterType = Field(description="The kind of its values.")
    default: Value | None = Field(
        default=None,
        description="The value if none is given. Without a default, first boot needs a value.",
    )
    generate: int | None = Field(
        default=None,
        ge=8,
        le=256,
        description="For a secret: how many characters first boot generates.",
    )
    choices: _Values = Field(default=(), description="The only values accepted, if any are named.")
    summary: Summary = Field(description="Its meaning, for the person at the console.")


class User(SpecModel):
    """A system user without a password."""

    name: str = Field(pattern=USER, description="Its name, and that of its group.")
    summary: Summary | None = Field(default=None, description="Its purpose.")
    home: str = Field(
        default="/nonexistent",
        pattern=IMAGE_PATH,
        description="Its home, made on boot unless it is /nonexistent.",
    )
    shell: str = Field(
        default="/usr/sbin/nologin", pattern=IMAGE_PATH, description="Its login shell."
    )
    groups: _Groups = Field(default=(), description="Its further groups.")


class Timer(SpecModel):
    """A command at certain times, as a service of its own."""

    name: str = Field(pattern=NAME, description="Name of its timer and of its service.")
    calendar: Summary = Field(
        description=(
            "When it runs, as in systemd.time(7); at the next boot if the machine was off then."
        )
    )
    command: Annotated[str, Field(pattern=LINE, max_length=1000)] = Field(
        description=(
            "The command, as ExecStart= in systemd.service(5): a program's path and its "
            "arguments, no shell."
        )
    )
    user: str = Field(default="root", pattern=USER, description="Its user.")
    summary: Summary | None = Field(default=None, description="Its purpose.")


class Download(SpecModel):
    """A file outside of any package, fetched during the build."""

    url: str = Field(
        pattern=URL, max_length=2000, description="Its address; any place with these bytes will do."
    )
    sha256: str = Field(pattern=SHA256, description="The SHA-256 of its bytes; others are refused.")
    path: str = Field(
        pattern=IMAGE_PATH,
        description="Its path in the image, before the setup scripts run; owned by root.",
    )
    executable: bool = Field(default=False, description="Whether it is a program.")


class AptSource(SpecModel):
    """A repository of packages besides the base's, for the build and for the machine's own apt."""

    name: str = Field(
        pattern=NAME, description="Its name in locks, and of its file in /etc/apt/sources.list.d."
    )
    url: str = Field(
        pattern=URL, max_length=2000, description="Its address: the part before dists/."
    )
    suite: str = Field(pattern=WORD, description="As in sources.list(5).")
    components: Annotated[
        tuple[Annotated[str, Field(pattern=WORD)], ...], AfterValidator(unique)
    ] = Field(default=("main",), min_length=1, description="As in sources.list(5).")
    signed_by: str = Field(
        pattern=KEYRING,
        description=(
            "The only keys to believe for it: a file of the image, in files/, .asc or .gpg."
        ),
    )

    def __str__(self) -> str:
        return " ".join((self.name, self.url, self.suite, *self.components))


class Root(SpecModel):
    """The root file system."""

    mode: Literal["read-write", "read-only"] = Field(
        default="read-write",
        description=(
            "read-write is one ext4. read-only is a squashfs in one of two slots, replaced as a "
            "whole by an update, and a state partition for changes in /etc, /home, /root, /srv "
            "and /var."
        ),
    )
    slot_mib: int | None = Field(
        default=None,
        ge=256,
        le=1048576,
        description=(
            "Of a read-only root: the size of each slot, in MiB; half as much again as it takes."
        ),
    )


class Volume(SpecModel):
    """A separate file system on the disk, made on first boot with the image's files at its path."""

    name: str = Field(pattern=VOLUME, description="Label of its partition and of its file system.")
    path: str = Field(pattern=IMAGE_PATH, description="Its mount point.")
    size_gib: int | None = Field(
        default=None,
        ge=1,
        le=65536,
        description="Its size, in GiB; without one, a share of what is left.",
    )
    summary: Summary | None = Field(default=None, description="Its purpose.")


class Resources(SpecModel):
    """The machine to run on."""

    cpus: int = Field(default=1, ge=1, le=256, description="Virtual processors.")
    memory_mib: int = Field(default=1024, ge=128, le=1048576, description="Memory, in MiB.")
    disk_gib: int = Field(
        default=8,
        ge=1,
        le=65536,
        description="Virtual size of the disk, in GiB; the root grows to it.",
    )


class MixIn(SpecModel):
    """Shared parts of several appliances; docs/reference/spec.md explains the merge."""

    packages: Names = Field(
        default=(), description="Debian packages to install besides the base's."
    )
    tools: Names = Field(
        default=(),
        description=(
            "Debian packages whose programs checks from outside use; they are in no image, but in "
            "a tree of their own."
        ),
    )
    services: Services = Field(
        default=Services.model_construct(), description="systemd units to switch on or off."
    )
    ports: tuple[Port, ...] = Field(default=(), description="Ports of its services.")
    parameters: tuple[Parameter, ...] = Field(
        default=(), description="Values given or generated on first boot, never in the image."
    )
    instances: tuple[Instance, ...] = Field(
        default=(),
        max_length=4,
        description="Further instances for checks from outside, started when a check asks for one.",
    )


class Spec(MixIn):
    """An appliance."""

    schema_: Literal[1] = Field(alias="schema", description="Version of this format.")
    name: str = Field(pattern=NAME, description="Name of the appliance, and of its folder.")
    version: str = Field(
        pattern=VERSION,
        max_length=64,
        description='Version of the appliance, in quotes if it looks like a number: "24.10".',
    )
    summary: Summary = Field(description="The appliance in one line.")
    category: str = Field(pattern=NAME, description="Its group in the catalog.")
    base: str = Field(
        default="debian-13",
        pattern=BASE,
        description="Operating system: a folder in templates/bases/.",
    )
    kernel: Literal["cloud", "generic"] = Field(
        default="cloud",
        description="cloud is small; generic has drivers for real hardware and displays.",
    )
    include: Annotated[tuple[Annotated[str, Field(pattern=NAME)], ...], AfterValidator(unique)] = (
        Field(
            default=(),
            description="Mix-ins to merge in, in this order: folders in templates/mixins/.",
        )
    )
    interfaces: tuple[Interface, ...] = Field(
        default=(Interface.model_construct(name="outside"),),
        min_length=1,
        max_length=8,
        description="Network interfaces, the first one leading outside.",
    )
    resources: Resources = Field(
        default=Resources.model_construct(),
        description="The machine to run on, and to be checked on.",
    )
    root: Root = Field(default=Root.model_construct(), description="The root file system.")
    volumes: tuple[Volume, ...] = Field(
        default=(), max_length=8, description="Further file systems on the disk."
    )
    formats: Annotated[tuple[_Format, ...], AfterValidator(unique)] = Field(
        default=("qcow2", "raw"), min_length=1, description="Image formats to make."
    )
    users: tuple[User, ...] = Field(
        default=(), description="System users, made before the setup scripts run."
    )
    groups: _Groups = Field(default=(), description="System groups, besides those of users.")
    sysctl: dict[Annotated[str, Field(pattern=SYSCTL)], _Setting] = Field(
        default={}, description="Kernel settings, set on every boot."
    )
    sources: tuple[AptSource, ...] = Field(
        default=(), description="Repositories of packages besides the base's."
    )
    pypi: Annotated[
        tuple[Annotated[str, Field(pattern=REQUIREMENT)], ...], AfterValidator(unique)
    ] = Field(
        default=(),
        description="Packages of PyPI with their versions, in a virtual environment, /opt/pypi.",
    )
    downloads: tuple[Download, ...] = Field(
        default=(), description="Files from elsewhere, by their hash."
    )
    secrets: Annotated[
        tuple[Annotated[str, Field(pattern=SECRET)], ...], AfterValidator(unique)
    ] = Field(
        default=(),
        description=(
            "Secrets of a build (SLIPWAY_SECRET_<NAME>): setup scripts find them in /run/secrets, "
            "and no image holds them."
        ),
    )
    timers: tuple[Timer, ...] = Field(
        default=(), description="Commands at certain times, once first boot has succeeded."
    )
    timezone: str | None = Field(
        default=None,
        pattern=TIMEZONE,
        description="Time zone of the machine; UTC unless it is named.",
    )
    locale: str = Field(
        default="C.UTF-8",
        pattern=LOCALE,
        description="Language of the machine; its translations need `keep: [locales]`.",
    )
    keyboard: str | None = Field(
        default=None,
        pattern=KEYBOARD,
        description="Layout of a keyboard at its console; needs the package console-setup.",
    )
    keep: Annotated[tuple[Literal["docs", "man", "locales"], ...], AfterValidator(unique)] = Field(
        default=(), description="Parts of packages to keep; an image leaves them out otherwise."
    )


def json_schema() -> str:
    """Return the JSON Schema (draft 2020-12) of a spec, for editors; it ends with a newline."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Spec.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
