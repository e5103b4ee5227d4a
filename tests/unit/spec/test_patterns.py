"""What short texts of specs may hold: nothing that leads elsewhere, or ends a line."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from slipway.spec import patterns
from slipway.spec.model import Download, Spec, User

HEAD = {"schema": 1, "name": "web", "version": "1.0.0", "category": "network"}
DOWNLOAD = {"url": "https://files.test/tool", "sha256": "a" * 64, "path": "/usr/bin/tool"}


@pytest.mark.parametrize(
    "path",
    [
        "/../etc/passwd",
        "/usr/../etc/passwd",
        "/usr/./tool",
        "/.hidden",
        "usr/bin/tool",
        "/usr//tool",
        "/usr/",
        "/a\n",
    ],
)
def test_a_path_in_the_image_leads_nowhere_else(path: str) -> None:
    for model, values in (
        (Download, {**DOWNLOAD, "path": path}),
        (User, {"name": "web", "home": path}),
    ):
        with pytest.raises(ValidationError):
            TypeAdapter(model).validate_python(values)


@pytest.mark.parametrize(
    "url",
    [
        "https://user:word@files.test/tool",
        "https://user@files.test/",
        "file:///etc/passwd",
        "https://",
        "https://a.test/a b",
        "https://a.test/\n",
    ],
)
def test_a_url_has_a_host_and_no_password(url: str) -> None:
    assert Download.model_validate(DOWNLOAD).url == DOWNLOAD["url"]
    with pytest.raises(ValidationError):
        Download.model_validate({**DOWNLOAD, "url": url})


@pytest.mark.parametrize("end", ["\n", "\r", "\x85", "\u2028", "\u2029", "\0", "\x1b"])
@pytest.mark.parametrize("after", ["", "b"])
def test_a_line_is_one_line(end: str, after: str) -> None:
    assert Spec.model_validate({**HEAD, "summary": "a - b"}).summary == "a - b"
    with pytest.raises(ValidationError):
        Spec.model_validate({**HEAD, "summary": f"a{end}{after}"})


def test_every_pattern_is_explained_to_a_person() -> None:
    named = {
        value for name, value in vars(patterns).items() if name.isupper() and isinstance(value, str)
    }
    assert named == patterns.PATTERNS.keys()
