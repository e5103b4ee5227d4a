"""The library: every appliance, base and mix-in below one root.

What goes in: a directory with ``appliances/`` and ``templates/``. What comes out:
:class:`Appliance` objects, or every error of an appliance at once: of its spec, folders, templates,
base and mix-ins. Invariants: a loaded appliance can be locked and rendered; errors show paths
relative to the current directory if possible; bases and mix-ins are read once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.errors import SpecError, SpecErrors, UsageError, Where, suggestion
from slipway.spec.base import Base, read_base
from slipway.spec.checks import Check
from slipway.spec.folder import SourceFile, read_content, read_files
from slipway.spec.mixins import Merged, Source, check_instances, merge, read_contents, read_mixin
from slipway.spec.model import Spec
from slipway.spec.patterns import DEVICES, NAME, PATTERNS
from slipway.spec.rules import check_rules, instance_names, interface_names
from slipway.spec.text import KeyPath, read_document
from slipway.spec.validation import validate

if TYPE_CHECKING:
    from slipway.rendering.plain import Context

__all__ = ["Appliance", "Library", "guest_files", "template_context"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Appliance:
    """One complete appliance: its mix-ins are merged in, its base is loaded.

    ``files`` are sorted by their path in the image, ``setup`` and ``firstboot`` scripts by name.
    ``where`` has the position of each value of the merged spec, by key path: ``("packages", 2)``,
    ``("ports", 0, "port")``, ``("version",)``.
    """

    name: str
    folder: Path
    spec: Spec
    base: Base
    files: tuple[SourceFile, ...] = ()
    setup: tuple[Path, ...] = ()
    firstboot: tuple[Path, ...] = ()
    checks: tuple[Check, ...] = ()
    where: Mapping[KeyPath, Where]


class Library:
    """Appliances, bases and mix-ins by name.

    Args:
        root: The directory with ``appliances/`` and ``templates/``.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would follow links, absolute() keep ".."
        current = Path.cwd()
        self._shown_root = (
            self.root.relative_to(current) if self.root.is_relative_to(current) else self.root
        )
        self._bases: dict[str, Base | SpecErrors] = {}
        self._mixins: dict[str, Source] = {}

    def names(self) -> tuple[str, ...]:
        """Return the names of all appliances, sorted."""
        return _folders(self.root / "appliances")

    def bases(self) -> tuple[str, ...]:
        """Return the names of all bases, sorted."""
        return _folders(self.root / "templates/bases")

    def mixins(self) -> tuple[str, ...]:
        """Return the names of all mix-ins, sorted."""
        return _folders(self.root / "templates/mixins")

    def load(self, name: str) -> Appliance:
        """Read an appliance and everything that belongs to it.

        Raises:
            UsageError: There is no appliance of this name.
            SpecErrors: The appliance is wrong; all errors at once.
        """
        own, errors = self._read(name)
        spec = own.model if isinstance(own.model, Spec) else None
        base = self._find_base(own, errors)
        mixins = self._find_mixins(own, errors)
        if spec is None or base is None or errors:
            raise SpecErrors(_once(errors))
        merged = merge(own, spec, mixins)
        check_instances(merged)
        _check_keyrings(own, merged)
        errors += merged.errors
        errors += self._check_templates(merged, base)
        if errors:
            raise SpecErrors(_once(errors))
        contents = merged.contents
        return Appliance(
            name=name,
            folder=own.folder,
            spec=merged.spec,
            base=base,
            files=contents.files,
            setup=contents.setup,
            firstboot=contents.firstboot,
            checks=contents.checks,
            where=merged.where,
        )

    def load_all(self, names: Iterable[str] = ()) -> tuple[Appliance, ...]:
        """Read several appliances (default: all).

        Raises:
            UsageError: There is no appliance of a name.
            SpecErrors: Some appliances are wrong; all errors of all of them at once.
        """
        appliances: list[Appliance] = []
        errors: list[SpecError] = []
        for name in tuple(names) or self.names():
            try:
                appliances.append(self.load(name))
            except SpecErrors as error:
                errors += error.errors
        if errors:
            raise SpecErrors(_once(errors))
        return tuple(appliances)

    def base(self, name: str) -> Base:
        """Read a base.

        Raises:
            UsageError: There is no base of this name.
            SpecErrors: The base is wrong; all errors at once.
        """
        if name not in self._bases:
            folder = self.root / "templates/bases" / name
            if name not in self.bases():
                raise UsageError(f'there is no base "{name}"', hint=_nearest(name, self.bases()))
            base, document = read_base(folder, self._shown(folder))
            self._bases[name] = base if base is not None else SpecErrors(document.errors)
        found = self._bases[name]
        if isinstance(found, SpecErrors):
            raise found
        return found

    def new(self, name: str, like: str | None = None) -> Path:
        """Make a new appliance's folder; it validates, builds and passes at once.

        Args:
            like: An appliance to copy, instead of the smallest possible one.

        Raises:
            UsageError: The name is invalid or taken, or there is no appliance ``like``.
        """
        from slipway.spec.scaffold import copy_appliance, new_appliance

        if not re.fullmatch(NAME, name):
            noun, hint = PATTERNS[NAME]
            raise UsageError(f'"{name}" is not {noun}', hint=hint)
        if name in DEVICES:
            raise UsageError(
                f'"{name}" cannot be a folder on Windows, where it is a device',
                hint=f"such as {name}-1",
            )
        folder = self.root / "appliances" / name
        if like is None:
            new_appliance(folder)
        else:
            copy_appliance(self.load(like), folder)
        return folder

    def _shown(self, path: Path) -> Path:
        """Return a path below the root as shown in errors."""
        return self._shown_root / path.relative_to(self.root)

    def _read(self, name: str) -> tuple[Source, list[SpecError]]:
        """Read an appliance's own folder; return it with its errors."""
        folder = self.root / "appliances" / name
        if "/" in name or name.startswith(".") or not folder.is_dir():
            hint = _nearest(name, self.names()) if self.names() else '"invoke new NAME" makes one'
            raise UsageError(f'there is no appliance "{name}"', hint=hint)
        shown = self._shown(folder)
        document = read_document(folder / "appliance.yaml", shown / "appliance.yaml")
        spec = validate(document, Spec)
        check_rules(document)
        given = document.data.get("name")
        if isinstance(given, str) and given != name:
            document.error(
                ("name",),
                f'name: "{given}" differs from the folder\'s name, "{name}"',
                "rename one of the two",
            )
        elif name in DEVICES:
            document.error(
                ("name",),
                f'name: "{name}" cannot be a folder on Windows, where it is a device',
                "rename it, such as " + name + "-1",
            )
        contents = read_contents(
            folder,
            shown,
            "appliance.yaml",
            interface_names(document),
            instance_names(document),
            document.errors,
        )
        source = Source(
            name=name, folder=folder, shown=shown, document=document, model=spec, contents=contents
        )
        return source, document.errors

    def _find_base(self, own: Source, errors: list[SpecError]) -> Base | None:
        """Return the spec's base; None, with an error, if it is missing or wrong."""
        document = own.document
        name = document.data.get("base", Spec.model_fields["base"].default)
        if not isinstance(name, str) or document.known_bad(("base",)):
            return None
        try:
            return self.base(name)
        except SpecErrors as error:
            errors += error.errors
        except UsageError as error:
            document.error(("base",), f"base: {error.message}", error.hint)
        return None

    def _find_mixins(self, own: Source, errors: list[SpecError]) -> list[Source]:
        """Return the existing mix-ins of the spec; add their errors, and one for each missing."""
        document = own.document
        include = document.data.get("include", ())
        found = []
        for index, name in enumerate(include if isinstance(include, tuple) else ()):
            if not isinstance(name, str) or document.known_bad(("include", index)):
                continue
            if name not in self._mixins:
                if name not in self.mixins():
                    message = f'include[{index}]: there is no mix-in "{name}"'
                    document.error(("include", index), message, _nearest(name, self.mixins()))
                    continue
                folder = self.root / "templates/mixins" / name
                self._mixins[name] = read_mixin(folder, self._shown(folder))
            mixin = self._mixins[name]
            errors += mixin.document.errors
            found.append(mixin)
        return found

    def _check_templates(self, merged: Merged, base: Base) -> list[SpecError]:
        """Return the errors of the templates, the base's among them, rendered for this spec."""
        templates = [file for file in (*base.files, *merged.contents.files) if file.template]
        if not templates:
            return []
        from slipway.rendering.boxed import APPLIANCE_CPU_S, box

        context, errors, used = template_context(merged.spec, base), list[SpecError](), 0.0
        for file in templates:
            shown = self._shown(file.path)
            if used > APPLIANCE_CPU_S:
                message = (
                    f"the templates before this one have taken all of the {APPLIANCE_CPU_S:g} s "
                    "that an appliance's may take"
                )
                return [
                    *errors,
                    SpecError(
                        message,
                        where=Where(shown),
                        hint="make fewer files of them, or make them in a setup script",
                    ),
                ]
            found, seconds = box().check(
                read_content(file.path, shown, depth=file.depth), context, shown=shown
            )
            errors, used = [*errors, *found], used + seconds
        return errors


def _check_keyrings(own: Source, merged: Merged) -> None:
    """Report keys of further package sources that are missing from the image's files."""
    files = {
        file.target for file in merged.contents.files if file.link is None and not file.template
    }
    for index, source in enumerate(merged.spec.sources):
        if source.signed_by not in files:
            message = f"sources[{index}].signed_by: there is no files{source.signed_by}"
            where = own.document.where(("sources", index, "signed_by"))
            merged.errors.append(
                SpecError(message, where=where, hint="put the keys that sign the source there")
            )


def template_context(spec: Spec, base: Base) -> Context:
    """Return the plain values for templates in ``files/``."""
    from slipway.rendering.plain import Context, plain

    about = {name: value for name, value in plain(base).items() if name != "files"}
    return Context.of({"spec": spec, "parameters": spec.parameters, "base": about})


def guest_files(folder: Path) -> tuple[SourceFile, ...]:
    """Return the files of a folder standing for the image's root, outside of any appliance.

    Raises:
        SpecErrors: The folder has entries impossible in an image.
    """
    errors: list[SpecError] = []
    files = read_files(folder, folder, errors)
    if errors:
        raise SpecErrors(errors)
    return files


def _folders(directory: Path) -> tuple[str, ...]:
    """Return the names of the folders in a directory, sorted, without hidden ones."""
    try:
        with os.scandir(directory) as entries:
            return tuple(
                sorted(
                    entry.name
                    for entry in entries
                    if not entry.name.startswith(".") and entry.is_dir()
                )
            )
    except FileNotFoundError:
        return ()


def _nearest(name: str, known: tuple[str, ...]) -> str:
    return suggestion(name, known) or (
        f"choose from: {', '.join(known)}" if known else "none exists yet"
    )


def _once(errors: Iterable[SpecError]) -> list[SpecError]:
    """Return the errors without duplicates."""
    return list({str(error): error for error in errors}.values())
