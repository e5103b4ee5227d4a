"""What an author reads of a machine that failed is text, and holds no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.boot.failure import masked, readable, secrets_shown

FIRSTBOOT = Path(__file__).parents[3] / "templates/guest/files/usr/lib/slipway/firstboot.py"


@pytest.mark.parametrize(
    ("console", "text"),
    [
        ("plain\n\ttext", "plain\n\ttext"),
        ("\x1b[!p\x1b]0;owned\x07\x1b[?25h\x1b[6nready\r\n", "ready\n"),
        ("\x1bPq#0\x1b\\after \x9b1mbold\x9b0m", "after bold"),
        ("10 %\r20 %\rdone\r\nnext\x08\x07", "done\nnext"),
        ("cut off \x1b[3", "cut off "),
        ("\x1b(Bcharset \x1bcreset", "charset reset"),
    ],
)
def test_control_sequences_are_gone(console: str, text: str) -> None:
    assert readable(console) == text
    assert readable(readable(console)) == readable(console)


def test_the_secrets_are_those_that_first_boot_shows() -> None:
    """The words of the banner are first boot's own."""
    text = FIRSTBOOT.read_text()
    assert 'f"  {name}: {printable_line(text)} (made now and shown until somebody logs in;' in text
    console = (
        "\x1b[1m  admin_password: abc-12345 (made now and shown until somebody logs in; see /x)\r\n"
        "  other: kept\r\n"
    )
    assert secrets_shown(console) == {"abc-12345"}
    assert masked("abc-12345 abc-123456 kept", {"abc-12345", "abc-123456"}) == "*** *** kept"
