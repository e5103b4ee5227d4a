"""Limits of our own: the same words for the same text, whatever the YAML library refuses first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.spec import text as reader

DEEP = "nested more than 20 levels deep\n  hint: a spec needs five at most"
ALIAS = (
    "&x: anchors and aliases are not supported\n"
    "  hint: write the value out wherever it is wanted, or put quotes around a text that starts with &"
)


class Hasty(yaml.SafeLoader):
    """A library with a limit of its own: it refuses a text before it hands over the first event."""

    def check_event(self, *choices: Any) -> bool:
        if self.buffer.count("[") + self.buffer.count("{") > 25:
            raise yaml.parser.ParserError(None, None, "words of a library", self.get_mark())
        return bool(super().check_event(*choices))


def said(tmp_path: Path, text: str) -> str:
    """The errors of a file with this text."""
    file = tmp_path / "s.yaml"
    file.write_text(text)
    return "\n".join(str(error) for error in reader.read_document(file, Path("s.yaml")).errors)


@pytest.fixture(params=["libyaml", "python", "hasty"])
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Three libraries that stop at different places."""
    loaders = {"libyaml": reader._Loader, "python": yaml.SafeLoader, "hasty": Hasty}
    monkeypatch.setattr(reader, "_Loader", loaders[request.param])
    yield request.param


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("a: " + "[" * 30, "1:23"),
        ("a: " + "[" * 30 + "]" * 30, "1:23"),
        ("a: " + "[" * 2_000, "1:23"),
        ("a: " + "{b: " * 2_000, "1:80"),
        ("a: " + "[" * 30 + "]" * 30 + "\n" + "# more\n" * 1_000, "1:23"),
        ("a: [b, c]\nd:\n  " + "[" * 2_000, "3:22"),
    ],
)
def test_deep_nesting_is_refused_in_our_words(tmp_path: Path, text: str, where: str) -> None:
    assert said(tmp_path, text) == f"s.yaml:{where}: error: {DEEP}"


@pytest.mark.parametrize("text", ["\n".join(" " * n + "a:" for n in range(25)), "a:\n  " + "- " * 25 + "b"])
def test_deep_blocks_are_refused_too(tmp_path: Path, text: str) -> None:
    assert DEEP in said(tmp_path, text)


@pytest.mark.usefixtures("loader")
def test_an_anchor_is_refused_in_our_words_also_before_a_broken_place(tmp_path: Path) -> None:
    assert said(tmp_path, "a: &x [b]\nc: ]\n") == f"s.yaml:1:4: error: {ALIAS}"


def test_words_of_a_library_are_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_Loader", Hasty)
    assert said(tmp_path, "a: [" + "[], " * 30 + "]\n") == (
        "s.yaml:1:1: error: this is no YAML\n  hint: look for a missing quote, bracket or colon here and above"
    )


def test_a_large_broken_text_is_refused_soon(tmp_path: Path) -> None:
    """The slow parser reads again only where it must: its 15 s for a megabyte are not waited for."""
    text = "".join(f"k{number}: [b, c]\n" for number in range(15_000)) + "x: ]\n"
    assert len(text) > 200_000
    seen: list[object] = []
    original = yaml.SafeLoader.__init__

    def note(self: yaml.SafeLoader, stream: Any) -> None:
        seen.append(stream)
        original(self, stream)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml.SafeLoader, "__init__", note)
        assert said(tmp_path, text).startswith("s.yaml:15001:4: error: this is no YAML")
    assert not seen
