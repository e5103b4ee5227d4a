"""Mix-ins: shared parts of several appliances, merged into a spec before the appliance's own.

What goes in: an appliance's spec and its mix-ins, in order. What comes out: one spec, one set of
files and scripts, and the position of each item of the merged lists. Invariants: there is one level
(a mix-in includes nothing). Lists are the mix-ins' items, then the spec's own, each once. If only
one value is possible, the later one wins. A conflict is an error: two parameters of one name, or
two scripts of one name. docs/reference/spec.md tells this to authors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from slipway.errors import SpecError, Where, choose
from slipway.spec.checks import Check, read_checks
from slipway.spec.folder import SourceFile, check_entries, check_faults, read_files, read_scripts
from slipway.spec.model import Exposed, MixIn, Port, Services, Spec
from slipway.spec.parameters import value_problem
from slipway.spec.patterns import unit_name
from slipway.spec.rules import check_rules, instance_names
from slipway.spec.text import Document, KeyPath, dotted, read_document
from slipway.spec.validation import validate

__all__ = [
    "Contents",
    "Merged",
    "Source",
    "check_instances",
    "merge",
    "read_contents",
    "read_mixin",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The contents of the folders beside an appliance's spec or a mix-in."""

    files: tuple[SourceFile, ...] = ()
    setup: tuple[Path, ...] = ()
    firstboot: tuple[Path, ...] = ()
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One contribution to an appliance: a mix-in, or its own spec.

    ``model`` is None if the text is wrong.
    """

    name: str
    folder: Path
    shown: Path
    document: Document
    model: MixIn | None
    contents: Contents


@dataclass(slots=True)
class Merged:
    """The result of a merge."""

    spec: Spec
    contents: Contents
    where: dict[KeyPath, Where] = field(default_factory=dict)
    errors: list[SpecError] = field(default_factory=list)


def read_contents(
    folder: Path,
    shown: Path,
    text: str,
    interfaces: Sequence[str] | None,
    instances: Sequence[str],
    errors: list[SpecError],
) -> Contents:
    """Read the folders beside a spec or mix-in.

    Args:
        text: The name of its file.
    """
    known = [text, "README.md", "files/", "setup/", "firstboot/", "checks/"]
    if text == "appliance.yaml":
        known += ["faults/", "lock.*.json", "*.pkrvars.hcl"]
    there = check_entries(folder, shown, known, errors)
    if "faults" in there:
        check_faults(folder / "faults", shown / "faults", errors)
    return Contents(
        files=read_files(folder / "files", shown / "files", errors) if "files" in there else (),
        setup=read_scripts(folder / "setup", shown / "setup", errors) if "setup" in there else (),
        firstboot=read_scripts(folder / "firstboot", shown / "firstboot", errors)
        if "firstboot" in there
        else (),
        checks=read_checks(folder / "checks", shown / "checks", interfaces, instances, errors)
        if "checks" in there
        else (),
    )


def read_mixin(folder: Path, shown: Path) -> Source:
    """Read a mix-in's folder; its errors are in its document."""
    document = read_document(folder / "mixin.yaml", shown / "mixin.yaml")
    model = validate(document, MixIn)
    check_rules(document, mixin=True)
    contents = read_contents(
        folder, shown, "mixin.yaml", None, instance_names(document), document.errors
    )
    return Source(
        name=folder.name,
        folder=folder,
        shown=shown,
        document=document,
        model=model,
        contents=contents,
    )


def merge(own: Source, spec: Spec, mixins: Sequence[Source]) -> Merged:
    """Merge mix-ins, in their order, and an appliance's own source into one."""
    merged = Merged(
        spec,
        own.contents,
        {path: Where(own.document.path, *place) for path, place in own.document.values.items()},
    )
    if not mixins:
        return merged
    for path in [path for path in merged.where if path and path[0] in MixIn.model_fields]:
        del merged.where[path]
    sources = (*mixins, own)
    enable, disable = _merge_services(sources, merged)
    units = {
        "enable": enable,
        "disable": disable,
        "exposed": _merge_exposed(sources),
        "exposure": _merge_exposure(sources),
    }
    merged.spec = spec.model_copy(
        update={
            "packages": _merge_names(sources, merged, "packages"),
            "tools": _merge_names(sources, merged, "tools"),
            "services": spec.services.model_copy(update=units),
            "ports": _merge_ports(sources, merged),
            "parameters": _merge_named(sources, merged, "parameters", "parameter"),
            "instances": _merge_named(sources, merged, "instances", "instance"),
        }
    )
    merged.contents = _merge_contents(sources, merged)
    _check_interfaces(own, mixins, merged)
    return merged


def _note(merged: Merged, source: Source, there: KeyPath, here: KeyPath) -> None:
    """Note the position of an item of a merged list, and of everything in it."""
    for path, place in source.document.values.items():
        if path[: len(there)] == there:
            merged.where[(*here, *path[len(there) :])] = Where(source.document.path, *place)


def _merge_names(sources: Sequence[Source], merged: Merged, key: str) -> tuple[str, ...]:
    names: list[str] = []
    for source in sources:
        for index, name in enumerate(getattr(source.model, key) if source.model else ()):
            if name not in names:
                _note(merged, source, (key, index), (key, len(names)))
                names.append(name)
    return tuple(names)


def _merge_services(
    sources: Sequence[Source], merged: Merged
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the services to enable and to disable; the last source naming one decides."""
    said: dict[str, tuple[str, str, Source, int]] = {}
    for source in sources:
        services = source.model.services if source.model else Services()
        for key, names in (("enable", services.enable), ("disable", services.disable)):
            for index, name in enumerate(names):
                said[unit_name(name)] = (name, key, source, index)
    lists: dict[str, list[str]] = {"enable": [], "disable": []}
    for name, key, source, index in said.values():
        _note(merged, source, ("services", key, index), ("services", key, len(lists[key])))
        lists[key].append(name)
    return tuple(lists["enable"]), tuple(lists["disable"])


def _merge_exposed(sources: Sequence[Source]) -> tuple[Exposed, ...]:
    """Return the services with a higher limit; the last source naming one decides."""
    return tuple(
        {
            unit_name(item.service): item
            for source in sources
            if source.model
            for item in source.model.services.exposed
        }.values()
    )


def _merge_exposure(sources: Sequence[Source]) -> int:
    """Return the highest exposure allowed; the last source with a value decides."""
    said = [
        source.model.services
        for source in sources
        if source.model and "exposure" in source.model.services.model_fields_set
    ]
    return said[-1].exposure if said else Services().exposure


def _merge_ports(sources: Sequence[Source], merged: Merged) -> tuple[Port, ...]:
    return _merge_items(
        sources,
        merged,
        "ports",
        identity=lambda port: (port.port, port.protocol, port.interface),
        what=lambda port: f"port {port.port}/{port.protocol} on interface {port.interface}",
    )


def _merge_named(sources: Sequence[Source], merged: Merged, key: str, what: str) -> tuple[Any, ...]:
    """Merge a list of named items; a name must not be used twice."""
    return _merge_items(
        sources,
        merged,
        key,
        identity=lambda item: item.name,
        what=lambda item: f'{what} "{item.name}"',
    )


def _merge_items(
    sources: Sequence[Source],
    merged: Merged,
    key: str,
    *,
    identity: Callable[[Any], object],
    what: Callable[[Any], str],
) -> tuple[Any, ...]:
    """Merge a list of items with an identity; it must not be used twice.

    Args:
        what: Returns an item's name for errors.
    """
    found: dict[object, tuple[Any, Source]] = {}
    for source in sources:
        for index, item in enumerate(getattr(source.model, key) if source.model else ()):
            if identity(item) in found:
                other = found[identity(item)][1]
                message = f'{what(item)} is also in the mix-in "{other.name}"'
                where = source.document.where((key, index))
                merged.errors.append(SpecError(message, where=where, hint="remove or rename one"))
                continue
            _note(merged, source, (key, index), (key, len(found)))
            found[identity(item)] = (item, source)
    return tuple(item for item, _ in found.values())


def _merge_contents(sources: Sequence[Source], merged: Merged) -> Contents:
    """Merge files, scripts and checks.

    A later file replaces an earlier one. All scripts are kept, in the order of their names, and all
    checks, in the order of the sources.
    """
    files = {file.target: file for source in sources for file in source.contents.files}
    _check_folders(sources, merged, files)
    checks: dict[Any, tuple[Any, Source]] = {}
    for source in sources:
        for check in source.contents.checks:
            _add_file(merged, checks, (check.place, check.name), check, source, check.path)
    return Contents(
        files=tuple(files[target] for target in sorted(files)),
        setup=_merge_scripts(merged, [(source, source.contents.setup) for source in sources]),
        firstboot=_merge_scripts(
            merged, [(source, source.contents.firstboot) for source in sources]
        ),
        checks=tuple(check for check, _ in checks.values()),
    )


def _check_folders(
    sources: Sequence[Source], merged: Merged, files: Mapping[str, SourceFile]
) -> None:
    """Report folders of one source that are files or links of another.

    A link would lead everything below it elsewhere.
    """
    for source in sources:
        for file in source.contents.files:
            above = next(
                (
                    str(folder)
                    for folder in PurePosixPath(file.target).parents
                    if str(folder) in files
                ),
                None,
            )
            if above is not None:
                kind = "a link" if files[above].link is not None else "a file"
                where = Where(source.shown / file.path.relative_to(source.folder))
                merged.errors.append(
                    SpecError(
                        f"{above} is {kind} elsewhere, and a folder here",
                        where=where,
                        hint="remove or rename one",
                    )
                )


def _merge_scripts(
    merged: Merged, scripts: Sequence[tuple[Source, tuple[Path, ...]]]
) -> tuple[Path, ...]:
    found: dict[Any, tuple[Any, Source]] = {}
    for source, paths in scripts:
        for path in paths:
            _add_file(merged, found, path.name, path, source, path)
    return tuple(found[name][0] for name in sorted(found))


def _add_file(
    merged: Merged,
    found: dict[Any, tuple[Any, Source]],
    identity: object,
    item: object,
    source: Source,
    path: Path,
) -> None:
    if identity in found:
        other = found[identity][1]
        where = Where(source.shown / path.relative_to(source.folder))
        merged.errors.append(
            SpecError(
                f'the mix-in "{other.name}" also has a file of this name',
                where=where,
                hint="rename one",
            )
        )
    else:
        found[identity] = (item, source)


def check_instances(merged: Merged) -> None:
    """Report values of further instances that no parameter accepts.

    Mix-ins' parameters count too.
    """
    known = {parameter.name: parameter for parameter in merged.spec.parameters}
    for index, instance in enumerate(merged.spec.instances):
        for name, value in instance.parameters.items():
            path: KeyPath = ("instances", index, "parameters", name)
            if name not in known:
                message, hint = (
                    f'{dotted(path)}: there is no parameter "{name}"',
                    choose(name, known),
                )
            elif problem := value_problem(known[name].type, value, known[name].choices):
                message, hint = f'{dotted(path)}: "{value}" is not {problem}', "change the value"
            else:
                continue
            merged.errors.append(SpecError(message, where=merged.where[path], hint=hint))


def _check_interfaces(own: Source, mixins: Sequence[Source], merged: Merged) -> None:
    """Report mix-ins whose ports or checks refer to interfaces missing from the spec."""
    interfaces = [interface.name for interface in merged.spec.interfaces]
    for mixin in mixins:
        path: KeyPath = ("include", merged.spec.include.index(mixin.name))
        used = {port.interface for port in (mixin.model.ports if mixin.model else ())}
        used |= {check.place for check in mixin.contents.checks if check.place != "guest"}
        for interface in sorted(used - set(interfaces)):
            message = (
                f'include[{path[1]}]: the mix-in "{mixin.name}" needs an interface "{interface}"'
            )
            hint = f"add it, or do without the mix-in; choose from: {', '.join(interfaces)}"
            merged.errors.append(SpecError(message, where=own.document.where(path), hint=hint))
