"""A browser's tab as a person has it: a window's width, a colour scheme, keys; and its requests and
complaints.

Why no Playwright: it brings a Node.js of its own, some 40 MiB in each developer's environment, for
a dozen calls; nor is there an axe-core for Python without it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from browser import Browser, browser

__all__ = ["Tab", "tab_of_its_own"]


@dataclass
class Tab(Browser):
    """A page, the addresses that it asked for, and the complaints of its console and policy."""

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    loaded: bool = False

    def _next(self) -> bytes:
        message = super()._next()
        heard = json.loads(message)
        words = heard.get("params", {})
        match heard.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(words["request"]["url"])
            case "Page.loadEventFired":
                self.loaded = True
            case "Runtime.exceptionThrown":
                self.complaints.append(str(words["exceptionDetails"]))
            case "Log.entryAdded":
                self.complaints.append(words["entry"]["text"])
        return message

    def open(self, url: str) -> None:
        """Load a page anew, to its end."""
        # From another page: going to a place of the same one would load nothing.
        for address in ("about:blank", url):
            self.loaded = False
            problem = self.call("Page.navigate", url=address).get("errorText")
            assert not problem, problem
            while not self.loaded:
                self._next()
        self.requests[:] = [each for each in self.requests if each != "about:blank"]

    def show(self, *, width: int = 1440, scheme: str = "light", script: bool = True) -> None:
        """Choose how wide the window is, in pixels, the colour scheme, and whether scripts run."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self.call("Emulation.setScriptExecutionDisabled", value=not script)

    def ask(self, expression: str) -> Any:
        """Evaluate JavaScript as a person's act; a promise is waited for."""
        said = self.call(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def type(self, selector: str, text: str) -> None:
        """Go to a field and type."""
        self.ask(f"document.querySelector({json.dumps(selector)}).focus()")
        self.call("Input.insertText", text=text)

    def tree(self) -> list[tuple[str, str]]:
        """Return what a screen reader gets: role and name of each element that is not ignored."""
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in self.call("Accessibility.getFullAXTree")["nodes"]
            if not node["ignored"]
        ]


@contextlib.contextmanager
def tab_of_its_own(folder: Path) -> Iterator[Tab]:
    """Run a browser with a profile in a folder."""
    with browser(folder) as made:
        tab = Tab(
            commands=made.commands,
            answers=made.answers,
            downloads=made.downloads,
            session=made.session,
            numbers=made.numbers,
            left=made.left,
        )
        for domain in ("Page", "Runtime", "Network", "Log", "Accessibility"):
            tab.call(f"{domain}.enable")
        tab.call("Emulation.setFocusEmulationEnabled", enabled=True)
        tab.call("Emulation.setScrollbarsHidden", hidden=True)
        yield tab
