"""Render a template: a file with placeholders and a context become text.

What goes in: a template file and values. What comes out: the text, or a
:class:`~slipway.errors.SpecError` with the template's line.

Invariants: a template sees plain data, never an object of this program
(:mod:`slipway.rendering.plain`). An unknown name is an error, never an empty text. A template reads
no other file, and calls only the functions listed here. A template of an appliance's folder is
rendered by :mod:`slipway.rendering.boxed`, in a process with limits.

Nothing is escaped automatically, because no two target languages agree. Each value passes through
the filter of its target language:

=======  ===========================================================================================
sh       one word of a POSIX shell; a list becomes words with spaces between them
hcl      a quoted HCL2 string, a number, true or false, or a list of these
ini      the right side of ``key=`` in systemd units and files like them; ``%`` becomes ``%%``, and
         values impossible in such a file (line breaks, surrounding blanks, a ``\\`` at the end) are
         errors
xml      text or an attribute's value, without the quotes
json     any value; ``yaml`` likewise, as YAML's flow style
=======  ===========================================================================================
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from types import GeneratorType, TracebackType
from typing import Any, Final

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, Undefined, nodes
from jinja2.exceptions import SecurityError, TemplateRuntimeError
from jinja2.meta import find_undeclared_variables
from jinja2.runtime import Context as JinjaContext
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from slipway.errors import SpecError, Where, choose, suggestion
from slipway.rendering.plain import Context

__all__ = ["FILTERS", "check", "check_text", "environment", "line_of", "render", "render_text"]


#: Jinja2's own filters for templates. Missing are access to attributes (attr), randomness (random),
#: and HTML.
_FILTERS: Final = (
    "abs batch capitalize center count d default dictsort first float format groupby indent int "
    "items join last length list lower map max min reject rejectattr replace reverse round select "
    "selectattr slice sort string sum title trim truncate unique upper urlencode "
    "wordcount wordwrap"
)
_GLOBALS: Final = frozenset(("namespace", "range"))
#: The allowed methods and attributes, by type. Keys of a mapping take precedence over all of them.
_METHODS: Final[Mapping[type, str]] = {
    str: (
        "capitalize casefold count endswith find isalnum isalpha isdigit islower isupper join "
        "lower lstrip partition removeprefix removesuffix replace rfind rpartition rsplit rstrip "
        "split splitlines startswith strip title upper"
    ),
    dict: "get items keys values",
    list: "count index",
    tuple: "count index",
    LoopContext: (
        "changed cycle depth depth0 first index index0 last length nextitem previtem "
        "revindex revindex0"
    ),
}
#: The longest text or list from a multiplication, and the longest number, in bits.
_LONGEST: Final = 1 << 20
_BITS: Final = 4096
_ELSEWHERE: Final = "change the value, or write it into a file of another kind"
_SYNTAX: Final = (
    "{{ value | sh }} writes a value, {% if value %} ... {% endif %} asks; "
    "a template cannot include another"
)


class _Refused(TemplateRuntimeError):
    """A target language cannot express a value; a hint may follow on a second line."""


class _TooLong(_Refused):
    """A template has made more characters than allowed."""


def _plain(value: object) -> str:
    """Return a text, a number or a boolean as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, Undefined):
        str(value)  # raises
    if value is None:
        raise _Refused("there is no value here\nask first: {% if value is not none %}")
    kind = "a list" if isinstance(value, list | tuple) else f"a {type(value).__name__}"
    raise _Refused(f"expected a text or a number, not {kind}\nwrite its parts one by one")


def _sh(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(_sh(item) for item in value)
    text = _plain(value)
    if "\0" in text:
        raise _Refused(f"a shell's word cannot hold a NUL\n{_ELSEWHERE}")
    return shlex.quote(text)


def _hcl(value: object) -> str:
    """Return a value in HCL native syntax, as in its "quoted templates".

    Source: https://github.com/hashicorp/hcl/blob/main/hclsyntax/spec.md. A dollar or percent sign
    before anything but a harmless character is written by its number. HCL reads ``$${`` as ``${``,
    but not in every place, and not with every parser.
    """
    if isinstance(value, list | tuple):
        return f"[{', '.join(_hcl(item) for item in value)}]"
    if isinstance(value, int | float):
        return _plain(value)
    text = _plain(value).replace("\\", "\\\\").replace('"', '\\"')
    text = text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    text = re.sub(
        r"[$%](?![A-Za-z0-9 (./_-])|[\x00-\x1f\x7f-\x9f]",
        lambda match: f"\\u{ord(match[0]):04x}",
        text,
    )
    return f'"{text}"'


def _ini(value: object) -> str:
    text = _plain(value)
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]", text):
        raise _Refused(
            f"a value in an ini file cannot hold a line break or a control character\n{_ELSEWHERE}"
        )
    if text != text.strip():
        raise _Refused(f"a value in an ini file cannot start or end with a blank\n{_ELSEWHERE}")
    if text.endswith("\\"):
        raise _Refused(f"a value in an ini file cannot end with a backslash\n{_ELSEWHERE}")
    return text.replace("%", "%%")


def _xml(value: object) -> str:
    text = _plain(value)
    if re.search("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text):
        raise _Refused(f"XML 1.0 has no way to write this control character\n{_ELSEWHERE}")
    references = {
        "&": "&amp;",
        "<": "&lt;",
        ">": "&gt;",
        '"': "&quot;",
        "'": "&#39;",
        "\n": "&#10;",
        "\r": "&#13;",
        "\t": "&#9;",
    }
    return "".join(references.get(character, character) for character in text)


def _json(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise _Refused(f"JSON has no way to write this value: {error}\n{_ELSEWHERE}") from None


def _yaml(value: object) -> str:
    """Return a value as YAML: JSON with a few more characters escaped (YAML 1.1, 5.1, 5.4)."""
    return re.sub(
        "[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]",
        lambda match: f"\\u{ord(match[0]):04x}",
        _json(value),
    )


FILTERS: Final[Mapping[str, Callable[[object], str]]] = {
    "sh": _sh,
    "hcl": _hcl,
    "ini": _ini,
    "xml": _xml,
    "json": _json,
    "yaml": _yaml,
}


class _Undefined(StrictUndefined):
    """An undefined name or attribute; its error lists the existing ones."""

    @property
    def _undefined_message(self) -> str:
        if self._undefined_hint:
            return self._undefined_hint
        name, owner = str(self._undefined_name), self._undefined_obj
        known = [key for key in owner if isinstance(key, str)] if isinstance(owner, dict) else []
        near = suggestion(name, known)
        kind = "these keys and values" if isinstance(owner, dict) else f"a {type(owner).__name__}"
        return f'"{name}" is not in {kind}' + (
            f"\n{near}" if near else f"\nchoose from: {', '.join(known)}" if known else ""
        )


def _printable(value: object) -> object:
    """Refuse to print a value that would show an address of this process' memory."""
    if value is None or isinstance(value, str | int | float | list | tuple | dict | Undefined):
        return value
    raise _Refused(
        f"a {type(value).__name__} is not text\nmake it a list: {{{{ value | list | sh }}}}"
    )


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox with a list of allowed names instead of forbidden ones."""

    intercepted_binops = frozenset(("*", "**"))

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Look up a key of a mapping before its methods: a value called "items" is no method."""
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Return True if the attribute is listed for templates."""
        if isinstance(obj, Namespace):
            return not attr.startswith("_")
        return attr in _METHODS.get(type(obj), "").split()

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        """Return an undefined value; its error says that templates may not use the attribute."""
        hint = f'"{attribute}" of a {type(obj).__name__} is not for templates\n{_SYNTAX}'
        return self.undefined(hint, name=attribute, obj=obj, exc=SecurityError)

    def call_binop(self, context: JinjaContext, operator: str, left: Any, right: Any) -> Any:
        """Multiply, if the product has a sane size."""
        sides = (left, right)
        if all(isinstance(side, int) for side in sides):
            bits = [side.bit_length() for side in sides]
            fits = (bits[0] * abs(right) if operator == "**" else sum(bits)) <= _BITS
        else:
            sizes = [
                len(side) if isinstance(side, str | list | tuple) else abs(side) for side in sides
            ]
            fits = (
                all(isinstance(side, int | float) for side in sides)
                or sizes[0] * sizes[1] <= _LONGEST
            )
        if not fits:
            raise _Refused(
                f"this is too much for {operator}\nwrite the value itself, or a shorter one"
            )
        return super().call_binop(context, operator, left, right)


@lru_cache(maxsize=1)
def environment() -> ImmutableSandboxedEnvironment:
    """Return the one environment of all templates."""
    made = _Environment(
        undefined=_Undefined,
        finalize=_printable,
        autoescape=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters = {**{name: made.filters[name] for name in _FILTERS.split()}, **FILTERS}
    made.globals = {name: value for name, value in made.globals.items() if name in _GLOBALS}
    return made


def render(path: Path, context: Mapping[str, Any], *, shown: Path | None = None) -> str:
    """Return the text of a template file with the values of a context.

    Args:
        shown: The file's path as written in errors, if different.

    Raises:
        SpecError: The template is wrong, or uses a name unknown to the context.
    """
    template, _ = _read(path, shown or path)
    return _render(template, Context.of(context), shown or path)


def render_text(text: str, context: Mapping[str, Any], *, name: str = "template") -> str:
    """Return the text of a template that is not a file; ``name`` is its path in errors.

    See :func:`render`.
    """
    return _render(_compile(text, Path(name))[0], Context.of(context), Path(name))


def check(path: Path, context: Mapping[str, Any], *, shown: Path | None = None) -> list[SpecError]:
    """Return the errors of a template file: every unknown name, also in unreached parts."""
    shown = shown or path
    try:
        return _check(_read(path, shown), context, shown, None)[1]
    except SpecError as error:
        return [error]


def check_text(
    text: str, context: Mapping[str, Any], *, shown: Path, longest: int
) -> tuple[str, list[SpecError]]:
    """Render a template's text, or find all its errors.

    Args:
        shown: The file's path, as written in errors.
        longest: The maximum number of characters in the result.

    Returns:
        The text, and the errors.
    """
    try:
        return _check(_compile(text, shown), context, shown, longest)
    except SpecError as error:
        return "", [error]


def _check(
    compiled: Compiled, context: Mapping[str, Any], shown: Path, longest: int | None
) -> tuple[str, list[SpecError]]:
    template, names = compiled
    missing = [(name, line) for name, line in names if name not in context]
    text = "" if missing else _render(template, Context.of(context), shown, longest)
    return text, [_unknown(name, line, context, shown) for name, line in missing]


def _unknown(name: str, line: int, context: Mapping[str, Any], shown: Path) -> SpecError:
    hint = choose(name, sorted(context))
    return SpecError(f'"{name}" is undefined', where=Where(shown, line), hint=hint)


Compiled = tuple[Template, tuple[tuple[str, int], ...]]


def _read(path: Path, shown: Path) -> Compiled:
    """Return a compiled template file.

    Raises:
        SpecError: The file is not UTF-8, or the template is wrong.
    """
    try:
        return _compile(path.read_text(encoding="utf-8"), shown)
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise SpecError(
            "a template has to be UTF-8",
            where=Where(shown, line),
            hint="without .j2 it is copied as it is",
        ) from None


@lru_cache(maxsize=4096)
def _compile(text: str, shown: Path) -> Compiled:
    """Return a compiled template, and its names from the context with their lines.

    Each text is compiled once.
    """
    made = environment()
    try:
        tree = made.parse(text, filename=str(shown))
        for other in tree.find_all((nodes.Extends, nodes.FromImport, nodes.Import, nodes.Include)):
            raise SpecError(
                "a template cannot include another",
                where=Where(shown, other.lineno),
                hint="write its text here",
            )
        undeclared = find_undeclared_variables(tree) - made.globals.keys()
        names = {
            (node.name, node.lineno)
            for node in tree.find_all(nodes.Name)
            if node.ctx == "load" and node.name in undeclared
        }
        code = made.compile(tree, filename=str(shown))
    except TemplateSyntaxError as error:
        message = _lower((error.message or "wrong syntax").partition(". ")[0])
        unknown = re.fullmatch(r"no filter named '(.*)'", message)
        hint = (
            (suggestion(unknown[1], made.filters) or f"choose from: {', '.join(FILTERS)}")
            if unknown
            else _SYNTAX
        )
        raise SpecError(
            f"template: {message}", where=Where(shown, error.lineno), hint=hint
        ) from None
    except (SyntaxError, RecursionError):
        # limits of Jinja2's or Python's parser, other ones in each version
        raise SpecError(
            "this nests too deeply",
            where=Where(shown),
            hint="nest fewer brackets or blocks",
        ) from None
    return Template.from_code(made, code, made.make_globals(None)), tuple(
        sorted(names, key=lambda item: (item[1], item[0]))
    )


def _render(template: Template, context: Context, shown: Path, longest: int | None = None) -> str:
    """Render a template to its end, or until it has made more characters than allowed."""
    pieces: list[str] = []
    made = 0
    more = template.root_render_func(template.new_context(context))
    assert isinstance(more, GeneratorType)
    inner = more.gi_frame
    assert inner
    try:
        for piece in more:
            pieces.append(piece)
            made += len(piece)
            if longest is not None and made > longest:
                raise _TooLong(
                    f"this makes more than {longest} characters\n"
                    "write less, or generate it in a setup script"
                )
        return "".join(pieces)
    except (
        TemplateError,
        TypeError,
        ValueError,
        ArithmeticError,
        LookupError,
        AttributeError,
        RecursionError,
    ) as error:
        line = line_of(error)
        if isinstance(error, _TooLong):
            line = template.get_corresponding_lineno(inner.f_lineno)
        message, _, hint = str(error).partition("\n")
        if isinstance(error, RecursionError):
            message = "this calls itself without end"
        elif not isinstance(error, TemplateError):
            message = f"{type(error).__name__}: {message}"
        elif not isinstance(error, _Refused) and not message.startswith('"'):
            message = f"template: {_lower(message)}"
        raise SpecError(message, where=Where(shown, line), hint=hint or _SYNTAX) from None


def line_of(error: BaseException) -> int:
    """Return the line of a template in which an error came up; 0 if there is none.

    It is the line of the innermost frame of the template's code.
    """
    line, traceback = 0, error.__traceback__
    while traceback:
        template = traceback.tb_frame.f_globals.get("__jinja_template__")
        if template is not None and traceback.tb_frame.f_code.co_filename == template.filename:
            line = template.get_corresponding_lineno(_number(traceback))
        traceback = traceback.tb_next
    return line


def _number(traceback: TracebackType) -> int:
    """Return a frame's line; if a signal came between two lines, the one before."""
    code = traceback.tb_frame.f_code
    # The line of the function itself is none of the template: some Pythons name it for a jump back.
    before = [
        line
        for start, _, line in code.co_lines()
        if line and line > code.co_firstlineno and start <= traceback.tb_lasti
    ]
    number: int | None = traceback.tb_lineno
    return number if number and number > code.co_firstlineno else (before or [1])[-1]


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:].rstrip(".")
