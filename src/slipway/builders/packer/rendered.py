"""Render templates of HCL2 files, and keep for every line its template's line and the spec's
key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from slipway.errors import SpecError, Where
from slipway.rendering.templating import render_text
from slipway.spec.library import Appliance

__all__ = ["Text", "render_lines"]

_MARK: Final = re.compile("\ue000([0-9]+)\ue001")
_KEY: Final = re.compile(r"\bspec\.([a-z_]+(?:\.[a-z_]+)*)")


@dataclass(frozen=True, slots=True)
class Text:
    """A rendered file; ``origins`` has the line of ``template`` for each of its lines."""

    name: str
    text: str
    template: Path
    origins: tuple[int, ...]

    def error(
        self, appliance: Appliance, line: int, column: int, message: str, hint: str
    ) -> SpecError:
        """Return an error for a line: its place in the template, the spec's key, and the rendered
        place.
        """
        origin = self.origins[min(line, len(self.origins)) - 1]
        shown = [f"rendered as {self.name}:{line}:{column}"]
        key = _KEY.search(self.template.read_text(encoding="utf-8").splitlines()[origin - 1])
        if key:
            path = tuple(key[1].split("."))
            stands = appliance.where.get(path) or appliance.where.get(path[:1])
            shown.append(
                f"the value is {'.'.join(path)}"
                + (f" of {stands}" if stands else ", by its default")
            )
        return SpecError(
            f"{message} ({'; '.join(shown)})", where=Where(self.template, origin), hint=hint
        )


def render_lines(template: Path, name: str, context: Mapping[str, Any]) -> Text:
    """Render a template whose tags do not span lines.

    Raises:
        SpecError: A name does not exist, or a value cannot be written.
    """
    marked = []
    for number, line in enumerate(
        template.read_text(encoding="utf-8").splitlines(keepends=True), 1
    ):
        tag = line.lstrip().startswith(("{%", "{#"))
        marked.append(line if tag else f"\ue000{number}\ue001{line}")
    rendered = render_text("".join(marked), context, name=str(template)).splitlines()
    origins, last = [], 1
    for line in rendered:
        found = _MARK.search(line)
        last = int(found[1]) if found else last
        origins.append(last)
    return Text(
        name, "".join(f"{_MARK.sub('', line)}\n" for line in rendered), template, tuple(origins)
    )
