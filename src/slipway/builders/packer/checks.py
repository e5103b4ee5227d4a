"""Find errors in a Packer configuration without Packer: names, files and order.

What goes in: the rendered files, and the names of all files beside them. What comes out: errors, in
the order of the files. An empty list means: Packer knows every name, finds every file, and takes
the steps in an order that works.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from slipway.builders.packer.hcl import (
    Attribute,
    Block,
    Node,
    NotLiteral,
    Reference,
    SyntaxProblem,
    calls,
    literal,
    parse,
    references,
)
from slipway.builders.packer.rendered import Text
from slipway.errors import SpecError, Where, choose, suggestion
from slipway.spec.library import Appliance

__all__ = ["check_configuration", "check_values"]

#: The blocks at the top of a file, with the number of their labels.
_TOP: Final = {"packer": 0, "variable": 1, "locals": 0, "source": 2, "build": 0}
#: Attributes that name files, in any block.
_FILES: Final = {
    "source",
    "source_path",
    "script",
    "scripts",
    "iso_url",
    "iso_checksum",
    "checksum",
    "ssh_private_key_file",
    "cd_files",
}
_ROOT: Final = {"path.root": "."}
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "number": (int, float),
    "bool": (bool,),
    "list": (list,),
    "map": (dict,),
}


class _Placed(Protocol):
    """Anything with a place in a file."""

    @property
    def line(self) -> int: ...

    @property
    def column(self) -> int: ...


#: Reports an error: the file, the place in it, the problem, and the remedy.
_Report = Callable[[Text, _Placed, str, str], None]


def check_configuration(
    texts: Sequence[Text], beside: Collection[str], appliance: Appliance
) -> list[SpecError]:
    """Return all errors of a configuration.

    Args:
        beside: The paths of all files that will be in the same folder.
    """
    errors: list[SpecError] = []
    parsed: list[tuple[Text, Block]] = []

    def report(text: Text, place: _Placed, message: str, hint: str) -> None:
        errors.append(text.error(appliance, place.line, place.column, message, hint))

    for text in texts:
        try:
            parsed.append((text, parse(text.text)))
        except SyntaxProblem as problem:
            report(text, problem, problem.message, "write values with {{ value | hcl }}")
    if errors:
        return errors
    _shapes(parsed, report)
    _names(parsed, report)
    _sources(parsed, report)
    _files(parsed, beside, report)
    for text, root in parsed:
        for build in root.blocks:
            if build.kind == "build":
                _order(text, build, report)
    return errors


def _shapes(parsed: Sequence[tuple[Text, Block]], report: _Report) -> None:
    """Report unknown blocks, wrong numbers of labels, and attributes set twice."""
    for text, root in parsed:
        for block in root.blocks:
            if block.kind not in _TOP:
                hint = choose(block.kind, _TOP)
                report(text, block, f'there is no block "{block.kind}"', hint)
            elif len(block.labels) != _TOP[block.kind]:
                message = f'"{block.kind}" has {len(block.labels)} labels, not {_TOP[block.kind]}'
                report(
                    text, block, message, 'labels are the words in quotes between its name and "{"'
                )
        for block in _blocks(root):
            counted = Counter(attribute.name for attribute in block.attributes)
            for attribute in block.attributes:
                if counted[attribute.name] > 1:
                    counted[attribute.name] = 0
                    report(
                        text,
                        attribute,
                        f'"{attribute.name}" is repeated',
                        "remove one of the two",
                    )


def _blocks(block: Block) -> Iterator[Block]:
    yield block
    for inner in block.blocks:
        yield from _blocks(inner)


def _names(parsed: Sequence[tuple[Text, Block]], report: _Report) -> None:
    """Check variables and locals: each is defined once and used; every used one is defined."""
    defined: dict[tuple[str, str], tuple[Text, _Placed]] = {}
    for text, root in parsed:
        for key, place in _definitions(root):
            if key in defined:
                message = f"{'.'.join(key)} is defined twice, also in {defined[key][0].name}"
                report(text, place, message, "rename one of the two")
            else:
                defined[key] = (text, place)
    used = set()
    for text, block, reference in _uses(parsed):
        key = (reference.root, reference.name)
        if key not in defined:
            known = [name for kind, name in defined if kind == reference.root]
            hint = choose(reference.name, sorted(known))
            report(text, reference, f"{'.'.join(key)} is not defined", hint)
        elif not (block.kind == "variable" and block.labels[:1] == (reference.name,)):
            used.add(key)
    for key, (text, place) in defined.items():
        if key not in used:
            report(text, place, f"{'.'.join(key)} is not used", "remove it")


def _definitions(root: Block) -> Iterator[tuple[tuple[str, str], _Placed]]:
    """Yield a file's definitions by kind and name: variables, then locals."""
    for block in root.blocks:
        if block.kind == "variable" and block.labels:
            yield ("var", block.labels[0]), block
    for block in root.blocks:
        if block.kind == "locals":
            yield from ((("local", item.name), item) for item in block.attributes)


def _uses(parsed: Sequence[tuple[Text, Block]]) -> Iterator[tuple[Text, Block, Reference]]:
    """Yield every use of a variable or a local: the file, the block, and the reference."""
    for text, root in parsed:
        for block in root.blocks:
            for attribute in block.all_attributes():
                for reference in references(attribute.value):
                    if reference.root in ("var", "local"):
                        yield text, block, reference


def _sources(parsed: Sequence[tuple[Text, Block]], report: _Report) -> None:
    """Check sources: each is defined once and built once; every built or selected one is
    defined.
    """
    defined = _defined_sources(parsed, report)
    built: set[str] = set()
    for text, block in _top(parsed, "build"):
        for attribute in [item for item in block.attributes if item.name == "sources"]:
            for name in _texts(attribute.value):
                if name not in defined:
                    report(text, attribute, f'there is no source "{name}"', choose(name, defined))
                elif name in built:
                    report(text, attribute, f"{name} is built twice", "remove one of the two")
                built.add(name)
        _only(text, block, defined, report)
    for name, (text, block) in defined.items():
        if name not in built:
            report(text, block, f"{name} is not built", "name it in the build block's sources")


def _defined_sources(
    parsed: Sequence[tuple[Text, Block]], report: _Report
) -> dict[str, tuple[Text, Block]]:
    """Return the sources by their whole names, each with its file and its block."""
    defined: dict[str, tuple[Text, Block]] = {}
    for text, block in _top(parsed, "source"):
        name = ".".join(("source", *block.labels))
        if len(block.labels) == 2 and name in defined:
            message = f"{name} is defined twice, also in {defined[name][0].name}"
            report(text, block, message, "rename one of the two")
        elif len(block.labels) == 2:
            defined[name] = (text, block)
    return defined


def _top(parsed: Sequence[tuple[Text, Block]], kind: str) -> Iterator[tuple[Text, Block]]:
    """Yield the top-level blocks of a kind."""
    for text, root in parsed:
        for block in root.blocks:
            if block.kind == kind:
                yield text, block


def _only(text: Text, build: Block, defined: Mapping[str, Any], report: _Report) -> None:
    known = [name.removeprefix("source.") for name in defined]
    for block in build.blocks:
        for attribute in block.attributes:
            if attribute.name in ("only", "except"):
                for name in _texts(attribute.value):
                    if name not in known:
                        hint = choose(name, known)
                        report(
                            text, attribute, f'{attribute.name}: there is no source "{name}"', hint
                        )


def _texts(value: Node) -> list[str]:
    """Return the texts of a literal, or of a list of literals."""
    try:
        found = literal(value, _ROOT)
    except NotLiteral:
        return []
    return [
        item for item in (found if isinstance(found, list) else [found]) if isinstance(item, str)
    ]


def _files(parsed: Sequence[tuple[Text, Block]], beside: Collection[str], report: _Report) -> None:
    """Report every named file that does not exist."""
    for text, root in parsed:
        for block in _blocks(root):
            generated = block.find("generated")
            if generated and literal(generated.value) is True:
                continue
            plugins = block.kind in ("required_plugins",)
            for attribute in () if plugins else block.attributes:
                for name in _named_files(attribute):
                    path = posixpath.normpath(name)
                    if path not in beside and not any(
                        other.startswith(f"{path}/") for other in beside
                    ):
                        hint = suggestion(path, beside) or "it has to stand in the same folder"
                        report(
                            text, attribute, f'{attribute.name}: there is no file "{path}"', hint
                        )


def _named_files(attribute: Attribute) -> Iterator[str]:
    if attribute.name in _FILES:
        for name in _texts(attribute.value):
            if "://" not in name and name != "none" and not name.startswith("source."):
                yield name.removeprefix("file:")
    for call in calls(attribute.value, "file"):
        yield from _texts(call)


def _order(text: Text, build: Block, report: _Report) -> None:
    """Check the order: files are made, then uploaded, then their scripts run; cleaning comes
    last.
    """
    steps = [block for block in build.blocks if block.kind == "provisioner"]
    kinds = [block.labels[0] if block.labels else "" for block in steps]
    scripts: list[str] = []
    for position, (kind, block) in enumerate(zip(kinds, steps, strict=True)):
        before = kinds[:position]
        generated = block.find("generated")
        if kind == "file" and generated and "shell-local" not in before:
            report(
                text,
                block,
                "a generated file is uploaded before anything makes it",
                'a "shell-local" goes before it',
            )
        if kind == "shell" and "file" not in before:
            report(
                text,
                block,
                "scripts are run before their files are uploaded",
                'a "file" goes before it',
            )
        if kind == "shell":
            listed = block.find("scripts") or block.find("script")
            names = [posixpath.basename(name) for name in _texts(listed.value)] if listed else []
            if listed and sorted([*scripts, *names]) != [*scripts, *names]:
                hint = "the numbers that their names begin with give the order"
                report(
                    text,
                    listed,
                    f"these scripts are out of order: {', '.join([*scripts, *names])}",
                    hint,
                )
            scripts += names
    if steps and (not scripts or not scripts[-1].endswith("-clean.sh") or kinds[-1] != "shell"):
        report(
            text,
            steps[-1],
            "the last step is not the cleaning",
            "a script NN-clean.sh goes last",
        )


def check_values(path: Path, shown: Path, texts: Sequence[Text]) -> list[SpecError]:
    """Return all errors of a user's ``*.pkrvars.hcl``: unknown variables, values of another type.

    Args:
        shown: The file's path, as written in errors.
    """
    types = {}
    for text in texts:
        for block in parse(text.text).blocks:
            if block.kind == "variable" and block.labels:
                declared = block.find("type")
                types[block.labels[0]] = _type(declared.value) if declared else ""
    try:
        root = parse(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        return [SpecError("this is not UTF-8", where=Where(shown), hint="save it as UTF-8")]
    except SyntaxProblem as problem:
        return [
            SpecError(
                problem.message,
                where=Where(shown, problem.line, problem.column),
                hint='a line sets one variable: name = "value"',
            )
        ]
    errors = [
        SpecError(
            f'there is no place for a block "{block.kind}" here',
            where=Where(shown, block.line, block.column),
            hint="set variables only",
        )
        for block in root.blocks
    ]
    seen: set[str] = set()
    for attribute in root.attributes:
        where = Where(shown, attribute.line, attribute.column)
        if attribute.name not in types:
            hint = choose(attribute.name, sorted(types))
            errors.append(
                SpecError(f'there is no variable "{attribute.name}"', where=where, hint=hint)
            )
        elif attribute.name in seen:
            errors.append(
                SpecError(
                    f'"{attribute.name}" is set twice', where=where, hint="remove one of the two"
                )
            )
        else:
            errors += _value_errors(attribute, types[attribute.name], where)
        seen.add(attribute.name)
    return errors


def _type(value: Node) -> str:
    """Return string, number, bool, or the name of a list or map type."""
    return str(next(value.scan_values(lambda _: True)))


def _value_errors(attribute: Attribute, wanted: str, where: Where) -> list[SpecError]:
    try:
        value = literal(attribute.value)
    except NotLiteral as problem:
        if str(problem).startswith("heredoc") and wanted == "string":
            return []
        return [
            SpecError(
                f"{attribute.name}: expected a literal value",
                where=where,
                hint="write the value itself",
            )
        ]
    allowed = _TYPES.get(wanted, (object,))
    if isinstance(value, allowed) and (isinstance(value, bool) <= (wanted in ("bool", ""))):
        return []
    return [
        SpecError(f"{attribute.name}: expected a {wanted}", where=where, hint=f"write a {wanted}")
    ]
