"""Chromium without a window, told what to do over two pipes (the DevTools protocol).

What goes in: the address of a page, and JavaScript. What comes out: what the page makes of it, and
files that it offers. The page's own rules hold, its Content-Security-Policy too.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

__all__ = ["CHROMIUM", "Browser", "browser"]

#: Debian's, without the script around it; or Google's, which hosted runners have.
_PLACES = (Path("/usr/lib/chromium/chromium"), Path("/opt/google/chrome/chrome"))
CHROMIUM = next((place for place in _PLACES if place.exists()), _PLACES[0])

_PATIENCE_S = 120
#: Chromium reads from descriptor 3 and writes to 4.
_START = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 10) for each in sys.argv[1:3]]
os.dup2(ends[0], 3)
os.dup2(ends[1], 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""


@dataclass
class Browser:
    """A running browser with one page."""

    commands: IO[bytes]
    answers: IO[bytes]
    downloads: Path
    session: str = ""
    numbers: Iterator[int] = field(default_factory=itertools.count)
    left: bytes = b""

    def call(self, method: str, **params: Any) -> Any:
        """Return the answer to a command."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.commands.write(json.dumps(message).encode() + b"\0")
        self.commands.flush()
        while True:
            answer = json.loads(self._next())
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def evaluate(self, script: str) -> Any:
        """Return what an expression is in the page; a promise is waited for."""
        told = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def waits_for(self, script: str) -> Any:
        """Return what an expression is as soon as it is something."""
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            if found := self.evaluate(script):
                return found
            time.sleep(0.1)
        raise AssertionError(f"never true: {script}")

    def opens(self, url: str) -> None:
        """Open a page, and wait for its scripts."""
        self.call("Page.navigate", url=url)
        self.waits_for(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def downloaded(self, name: str) -> bytes:
        """Return a file that the page offered, once it is whole."""
        path, until = self.downloads / name, time.monotonic() + _PATIENCE_S
        while not path.exists() and time.monotonic() < until:
            time.sleep(0.1)
        return path.read_bytes()

    def _next(self) -> bytes:
        """Return the next message, without the NUL at its end."""
        while b"\0" not in self.left:
            ready, _, _ = select.select([self.answers], [], [], _PATIENCE_S)
            assert ready, "the browser says nothing"
            more = os.read(self.answers.fileno(), 1 << 16)
            assert more, "the browser has ended"
            self.left += more
        message, _, self.left = self.left.partition(b"\0")
        return message


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Run a browser with a profile of its own.

    Args:
        folder: For the profile and for downloads.
    """
    downloads = folder / "downloads"
    downloads.mkdir(parents=True)
    to_read, to_write = os.pipe()
    back_read, back_write = os.pipe()
    argv = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
    argv += [f"--user-data-dir={folder / 'profile'}", "--disable-dev-shm-usage", "about:blank"]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-c", _START, str(to_read), str(back_write), *argv],
            pass_fds=(to_read, back_write),
            env={**os.environ, "HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
        ) as child,
        os.fdopen(to_write, "wb") as commands,
        os.fdopen(back_read, "rb", buffering=0) as answers,
    ):
        os.close(to_read)
        os.close(back_write)
        try:
            made = Browser(commands=commands, answers=answers, downloads=downloads)
            made.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
            target = made.call("Target.createTarget", url="about:blank")["targetId"]
            made.session = made.call("Target.attachToTarget", targetId=target, flatten=True)[
                "sessionId"
            ]
            yield made
        finally:
            child.terminate()
