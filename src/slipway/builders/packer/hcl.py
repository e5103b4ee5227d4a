"""Parse HCL2 into blocks and attributes with their places, and evaluate literal expressions.

The grammar is python-hcl2's. Format: HCL native syntax,
https://github.com/hashicorp/hcl/blob/main/hclsyntax/spec.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hcl2 import parses_to_tree
from lark import Token, Tree, UnexpectedInput

from slipway.errors import UserError

__all__ = [
    "Attribute",
    "Block",
    "NotLiteral",
    "Reference",
    "SyntaxProblem",
    "calls",
    "literal",
    "parse",
    "references",
]

Node = Tree[Token]
_ESCAPE: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}


class SyntaxProblem(UserError):
    """The text is not HCL2; ``line`` and ``column`` count from 1."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(message)
        self.line, self.column = line, column


class NotLiteral(Exception):
    """The expression has a value that only Packer knows."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """``name = value``; the value is python-hcl2's syntax tree."""

    name: str
    value: Node
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Reference:
    """``var.name``, ``local.name`` or ``path.root`` in an expression."""

    root: str
    name: str
    line: int
    column: int


@dataclass(slots=True)
class Block:
    """``kind "label" ... { ... }``; the file itself is a block of kind "" without labels."""

    kind: str
    labels: tuple[str, ...]
    line: int
    column: int
    attributes: list[Attribute] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)

    def find(self, name: str) -> Attribute | None:
        """Return the first attribute of a name; None if there is none."""
        return next((attribute for attribute in self.attributes if attribute.name == name), None)

    def all_attributes(self) -> Iterator[Attribute]:
        """Yield its own attributes, and those of the blocks in it."""
        yield from self.attributes
        for block in self.blocks:
            yield from block.all_attributes()


def parse(text: str) -> Block:
    """Return a file as a block, with its blocks and attributes.

    Raises:
        SyntaxProblem: The text is not HCL2.
    """
    try:
        tree = parses_to_tree(text)
    except UnexpectedInput as error:
        lines = text.splitlines()
        line = error.line if 0 < error.line <= len(lines) else max(1, len(lines))
        raise SyntaxProblem(
            "this is not HCL2", line, max(1, error.column if line == error.line else 1)
        ) from None
    root = Block("", (), 1, 1)
    _fill(
        root,
        next(child for child in tree.children if isinstance(child, Tree) and child.data == "body"),
    )
    return root


def _fill(block: Block, body: Node) -> None:
    for child in body.children:
        if not isinstance(child, Tree):
            continue
        if child.data == "attribute":
            name = _token(child.children[0])
            value = next(
                part
                for part in child.children[1:]
                if isinstance(part, Tree) and part.data != "new_line_or_comment"
            )
            block.attributes.append(Attribute(str(name), value, name.line or 0, name.column or 0))
        elif child.data == "block":
            kind = _token(child.children[0])
            labels = [
                part
                for part in child.children[1:]
                if isinstance(part, Tree) and part.data in ("string", "identifier")
            ]
            inner = Block(
                str(kind),
                tuple(str(_label(part)) for part in labels),
                kind.line or 0,
                kind.column or 0,
            )
            for part in child.children:
                if isinstance(part, Tree) and part.data == "body":
                    _fill(inner, part)
            block.blocks.append(inner)


def _label(tree: Node) -> str:
    return str(_token(tree)) if tree.data == "identifier" else str(literal(tree))


def _token(tree: Any) -> Token:
    """Return the first token of a tree."""
    return next(tree.scan_values(lambda value: isinstance(value, Token)))  # type: ignore[no-any-return]


#: Literals of one word, by their kind in the grammar.
_PLAIN: Final[Mapping[str, Callable[[str], Any]]] = {
    "int_lit": int,
    "float_lit": float,
    "literal_value": {"true": True, "false": False, "null": None}.__getitem__,
}


def literal(tree: Node, known: dict[str, Any] | None = None) -> Any:
    """Return the value of an expression: text, a number, true or false, None, a list, or a dict.

    Args:
        known: Values of references that may occur in it, by their text (``path.root``).

    Raises:
        NotLiteral: The expression has other references, calls or conditions.
    """
    kind = str(tree.data)
    parts = [
        part
        for part in tree.children
        if isinstance(part, Tree) and part.data != "new_line_or_comment"
    ]
    if kind == "expr_term" and len(parts) == 1:
        return literal(parts[0], known)
    if kind == "string":
        return "".join(_piece(part, known) for part in parts)
    if kind in _PLAIN:
        return _PLAIN[kind](str(_token(tree)))
    if kind == "unary_op" and str(tree.children[0]) == "-" and parts[0].data == "expr_term":
        value = literal(parts[0], known)
        if isinstance(value, int | float):
            return -value
    if kind == "tuple":
        return [literal(part, known) for part in parts]
    if kind == "object":
        elements = [part for part in parts if part.data == "object_elem"]
        return {_key(element): literal(_trees(element)[-1], known) for element in elements}
    if kind == "get_attr_expr_term" and known:
        tokens = tree.scan_values(lambda value: isinstance(value, Token))
        text = "".join(str(token) for token in tokens)
        if text in known:
            return known[text]
    raise NotLiteral(kind)


def _trees(tree: Node) -> list[Node]:
    return [
        part
        for part in tree.children
        if isinstance(part, Tree) and part.data != "new_line_or_comment"
    ]


def _key(element: Node) -> str:
    inner = _trees(element)[0]
    while inner.data in ("object_elem_key", "expr_term"):
        inner = _trees(inner)[0]
    return _label(inner)


def _piece(part: Node, known: dict[str, Any] | None) -> str:
    """Return one part of a quoted string: characters, an escaped ``${``, or an interpolated
    value.
    """
    inner = part.children[0]
    if isinstance(inner, Tree):
        if inner.data != "interpolation":
            raise NotLiteral(str(inner.data))
        value = literal(_trees(inner)[0], known)
        return str(value).lower() if isinstance(value, bool) else str(value)
    text = str(inner)
    if inner.type.startswith("ESCAPED_"):
        return text[1:]
    return _ESCAPE.sub(_unescape, text)


def _unescape(match: re.Match[str]) -> str:
    if match[3] is not None:
        return _ESCAPES.get(match[3], match[0])
    return chr(int(match[1] or match[2], 16))


def references(tree: Node) -> Iterator[Reference]:
    """Yield all references of an expression."""
    for found in tree.iter_subtrees():
        if found.data != "get_attr_expr_term":
            continue
        first, second = _trees(found)[:2]
        if len(list(first.scan_values(lambda value: isinstance(value, Token)))) == 1:
            root, name = (
                _token(first),
                list(second.scan_values(lambda value: isinstance(value, Token)))[-1],
            )
            yield Reference(str(root), str(name), root.line or 0, root.column or 0)


def calls(tree: Node, function: str) -> Iterator[Node]:
    """Yield the first argument of every call of a function."""
    for found in tree.iter_subtrees():
        if found.data == "function_call" and str(_token(found)) == function:
            yield next(
                part for argument in found.find_data("arguments") for part in _trees(argument)
            )
