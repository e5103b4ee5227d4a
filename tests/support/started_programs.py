"""Finds the programs that code starts, in Python by calls and in POSIX shell by commands.

What cannot be read from the text alone (a path in a variable) is not found. Nothing here is run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

__all__ = ["in_python", "in_shell"]

#: Calls whose first argument is a list of words, and those whose arguments are programs' names.
_STARTING = {"run", "spawn", "Popen", "check_call", "check_output", "call", "Command", "measured"}
_NAMING = {"find_tool", "tool_version", "which", "need", "need_one_of"}
_KEYWORDS = {
    "if",
    "then",
    "elif",
    "else",
    "fi",
    "do",
    "done",
    "while",
    "until",
    "!",
    "{",
    "}",
    "esac",
    "time",
    "exec",
    "command",
    "eval",
}
_BUILTINS = {
    *(
        ".",
        ":",
        "[",
        "break",
        "cd",
        "continue",
        "echo",
        "exit",
        "export",
        "false",
        "kill",
        "printf",
        "pwd",
        "read",
    ),
    *("return", "set", "shift", "test", "trap", "true", "umask", "unset", "wait"),
}


# --- Python ---------------------------------------------------------------------------------------


def in_python(text: str) -> set[str]:
    """Find the programs that a module starts; a name that is put together ends in *."""
    module = _Scope(ast.parse(text))
    scopes, found = [module], set[str]()
    while scopes:
        scope = scopes.pop()
        found |= set(scope.programs())
        scopes += [_Scope(function, module) for function in scope.functions]
    return found


class _Scope:
    """A function or a module: its nodes without those of functions in it, and what names were set
    to, innermost first.
    """

    def __init__(self, root: ast.AST, module: _Scope | None = None) -> None:
        self.nodes: list[ast.AST] = []
        self.functions: list[ast.AST] = []
        values: dict[str, list[ast.expr]] = {}
        waiting = [root]
        while waiting:
            for node in ast.iter_child_nodes(waiting.pop()):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    self.functions.append(node)
                    continue
                waiting.append(node)
                self.nodes.append(node)
                if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                        if isinstance(target, ast.Name):
                            values.setdefault(target.id, []).append(node.value)
        self.values: list[dict[str, list[ast.expr]]] = [values, *(module.values if module else ())]

    def value_of(self, name: str) -> list[ast.expr]:
        """What a name was set to, in the innermost scope that sets it."""
        return next((values[name] for values in self.values if name in values), [])

    def programs(self) -> Iterator[str]:
        """Yield what the calls of the innermost scope start."""
        for node in self.nodes:
            if isinstance(node, ast.Assign) and any(
                isinstance(each, ast.Name) and each.id == "tools" for each in node.targets
            ):
                yield from self.tools(node.value)
            if not isinstance(node, ast.Call):
                continue
            name = (
                node.func.attr
                if isinstance(node.func, ast.Attribute)
                else node.func.id
                if isinstance(node.func, ast.Name)
                else ""
            )
            if name in _STARTING:
                words = node.args[:1] + [
                    each.value for each in node.keywords if each.arg in ("argv", "args")
                ]
                yield from (program for word in words for program in self.first_words(word))
            elif name in _NAMING:
                names = node.args if name.startswith("need") else node.args[:1]
                yield from (program for word in names for program in self.names(word))
            elif name == "Part":
                yield from (
                    program
                    for each in node.keywords
                    if each.arg == "tools"
                    for program in self.tools(each.value)
                )

    def tools(self, value: ast.expr) -> Iterator[str]:
        """Yield the programs among the inputs of a stage; a Python package or a library is none."""
        parts = (
            value.elts
            if isinstance(value, ast.Tuple | ast.List)
            else [value.body]
            if isinstance(value, ast.IfExp)
            else []
        )
        for each in parts:
            if isinstance(each, ast.Starred) or isinstance(value, ast.IfExp):
                yield from self.tools(each.value if isinstance(each, ast.Starred) else each)
            else:
                yield from (
                    name
                    for name in self.names(each)
                    if name not in ("lzma", "python", "zlib") and ":" not in name
                )

    def texts(self, value: ast.expr) -> list[str]:
        """Return the texts that an expression may be, with NUL for what the text does not say."""
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            return [value.value]
        if isinstance(value, ast.JoinedStr):
            return [
                "".join(
                    self.texts(part)[0] if isinstance(part, ast.Constant) else "\0"
                    for part in value.values
                )
            ]
        if isinstance(value, ast.BinOp):
            return [
                one + other
                for one in self.texts(value.left)
                for other in self.texts(value.right) or ["\0"]
            ]
        if isinstance(value, ast.Name):
            return [
                text
                for found in self.value_of(value.id)
                if not isinstance(found, ast.Name)
                for text in self.texts(found)
            ]
        return []

    def names(self, value: ast.expr) -> Iterator[str]:
        """Yield the programs that an expression may name."""
        for text in self.texts(value):
            start, hole, _ = text.partition("\0")
            if start:
                yield start + ("*" if hole else "")

    def first_words(self, value: ast.expr, depth: int = 0) -> Iterator[str]:
        """Yield the program of a list of words, and what a shell among them is told to do."""
        if isinstance(value, ast.Name) and depth < 4:
            for found in self.value_of(value.id):
                yield from self.first_words(found, depth + 1)
        elif isinstance(value, ast.BinOp):
            yield from self.first_words(value.left, depth)
        elif isinstance(value, ast.List | ast.Tuple):
            words = list(value.elts)
            while words and isinstance(words[0], ast.Starred):
                first = words.pop(0)
                assert isinstance(first, ast.Starred)
                # a list with its own program, or words for another machine
                if isinstance(first.value, ast.Name):
                    yield from self.first_words(first.value, depth + 1)
                    return
                if "SLIPWAY_SSH" in ast.unparse(first.value):
                    return  # words for another machine
            if words:
                yield from self.command(words)

    def command(self, words: list[ast.expr]) -> Iterator[str]:
        """Yield a command's program; of a shell with a script also what that starts."""
        for program in self.names(words[0]):
            yield program
            if program in ("sh", "bash"):
                options = [
                    number
                    for number, word in enumerate(words)
                    if any(re.fullmatch(r"-\w*c", text) for text in self.texts(word))
                ]
                for script in words[options[0] + 1 : options[0] + 2] if options else []:
                    yield from (
                        found
                        for text in self.texts(script)
                        for found in in_shell(text.replace("\0", "X"))
                    )


# --- shell ----------------------------------------------------------------------------------------


def in_shell(text: str, *sourced: str) -> set[str]:
    """Find the programs that a script starts; ``sourced`` scripts bring functions."""
    readers = [_read(each) for each in (text, *sourced)]
    functions = {name for reader in readers for name in reader.functions}
    return readers[0].found - functions - _BUILTINS


@cache
def _read(text: str) -> _Script:
    """Read a script or a template of one, once."""
    text = re.sub(r"\{%.*?%\}|\{#.*?#\}", "", text, flags=re.DOTALL)
    script = _Script(re.sub(r"\{\{.*?\}\}", "JINJA", text, flags=re.DOTALL))
    script.commands("")
    return script


class _Script:
    """A script, read once (POSIX.1-2017, Shell Command Language, 2.3 and 2.10)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found: set[str] = set()
        self.functions: set[str] = set()
        self.heredocs: list[str] = []

    def commands(self, until: str) -> None:
        """Read commands up to a closing parenthesis or the end."""
        words: list[str] = []
        cases = 0
        while self.at < len(self.text):
            here = self.text[self.at]
            if here == until:
                break
            if here in " \t" or self.text.startswith("\\\n", self.at):
                self.at += 2 if here == "\\" else 1
            elif here == "#":
                self.at = self._end_of_line()
            elif here in "\n;&|(":
                words = self._ended(words)
                self._separator(here, cases)
            elif here == ")":  # the end of a function's name
                self.at += 1
            elif here in "<>":
                self._redirection()
            else:
                words = self._word_of(words)
                if (
                    "case" in words
                    and words[-1] == "in"
                    and {*words[: words.index("case")]} <= _KEYWORDS
                ):
                    words, cases = [], cases + 1
                    self._pattern()
                elif words == ["esac"]:
                    words, cases = [], cases - 1
        self._ended(words)
        self.at += 1

    def _word_of(self, words: list[str]) -> list[str]:
        word = self._word()
        if self.text.startswith("()", self.at):
            self.functions.add(word)
            return []
        return [*words, word]

    def _separator(self, here: str, cases: int) -> None:
        if here == "\n":
            self.at += 1
            self._skip_heredocs()
        elif self.text.startswith(";;", self.at) and cases:
            self.at += 2
            self._pattern()
        else:
            self.at += 1

    def _ended(self, words: list[str]) -> list[str]:
        """Note the program of a command."""
        while words and (words[0] in _KEYWORDS or re.match(r"[A-Za-z_]\w*=", words[0])):
            if words[0] == "command" and words[1:2] == ["-v"]:
                return []
            words = words[1:]
        if (
            words
            and words[0] not in ("for", "case")
            and re.fullmatch(r"[a-z\[:.][\w.+:-]*", words[0])
        ):
            self.found.add(words[0])
        return []

    def _pattern(self) -> None:
        """Skip a pattern of a case, or stop before its end."""
        while self.at < len(self.text):
            blank = re.compile(r"(?:\s|\\\n|#.*)*").match(self.text, self.at)
            self.at = blank.end() if blank else self.at
            if re.compile(r"esac\b").match(self.text, self.at):
                return
            if self.text[self.at : self.at + 1] == ")":
                self.at += 1
                return
            if self.text[self.at : self.at + 1] in "|(":
                self.at += 1
            else:
                self._word()

    def _word(self) -> str:
        """Read a word with its quotes; a part that the shell fills in becomes $."""
        word = ""
        while self.at < len(self.text):
            here = self.text[self.at]
            if here in " \t\n;&|()<>" and not self.text.startswith("\\\n", self.at):
                break
            if here == "'":
                end = self.text.index("'", self.at + 1)
                word += self.text[self.at + 1 : end]
                self.at = end + 1
            elif here == '"':
                word += self._double_quoted()
            elif here == "\\":
                word += self.text[self.at + 1 : self.at + 2].strip("\n")
                self.at += 2
            elif here == "$":
                word += self._expansion()
            else:
                word += here
                self.at += 1
        return word

    def _double_quoted(self) -> str:
        word = ""
        self.at += 1
        while self.text[self.at] != '"':
            if self.text[self.at] == "$":
                word += self._expansion()
            else:
                self.at += 1 if self.text[self.at] != "\\" else 2
                word += self.text[self.at - 1]
        self.at += 1
        return word

    def _expansion(self) -> str:
        """Read $name, ${...}, $((...)) or $(...); the commands of the last are commands too."""
        if self.text.startswith("$((", self.at):
            self.at = self.text.index("))", self.at) + 2
        elif self.text.startswith("$(", self.at):
            self.at += 2
            self.commands(")")
        elif self.text.startswith("${", self.at):
            self.at += 2
            while self.text[self.at] != "}":
                if self.text[self.at] == '"':
                    self._double_quoted()
                elif self.text[self.at] == "$":
                    self._expansion()
                else:
                    self.at += 1 if self.text[self.at] != "\\" else 2
            self.at += 1
        else:
            self.at += 1
            while self.at < len(self.text) and (
                self.text[self.at].isalnum() or self.text[self.at] in "_@*#?$!-"
            ):
                self.at += 1
                if not (self.text[self.at - 1].isalnum() or self.text[self.at - 1] == "_"):
                    break
        return "$"

    def _redirection(self) -> None:
        matched = re.compile(r"<<(-?)[ \t]*(['\"]?)(\w+)\2|[<>&|]+").match(self.text, self.at)
        assert matched
        self.at = matched.end()
        if matched[3]:
            self.heredocs.append(matched[3])
            return
        while self.text[self.at : self.at + 1] in (" ", "\t"):
            self.at += 1
        self._word()

    def _skip_heredocs(self) -> None:
        for end in self.heredocs:
            matched = re.compile(rf"^\t*{end}$", re.MULTILINE).search(self.text, self.at)
            self.at = matched.end() if matched else len(self.text)
        self.heredocs = []

    def _end_of_line(self) -> int:
        end = self.text.find("\n", self.at)
        return len(self.text) if end < 0 else end
