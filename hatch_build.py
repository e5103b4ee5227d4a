"""What an index shows of the package: links to the forge that this checkout comes from, and a
README whose links work there.

What goes in: GitHub's own variables in a workflow, or the remote `origin`, and README.md. What
comes out: the URLs and the readme of the metadata. A fork names itself. Where no forge is known,
there are no URLs, and the README's relative links become plain text.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

__all__ = ["ForgeLinks", "home", "readme", "urls"]

_LINK = re.compile(r"\[([^\]]*)\]\((?![a-z]+://|#)([^)\s]+)\)")
#: As git writes an address: by HTTPS, or by SSH in its two ways.
_REMOTE = re.compile(
    r"(?:https://(?:[^@/]*@)?|ssh://git@|git@)([\w.-]+\.[a-z]+)[/:]([\w./-]+?)(?:\.git)?/?"
)


def home(root: Path) -> str | None:
    """Return the address of the project's page; None where this is no checkout of a forge."""
    server, repository = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
    if server and repository:
        return f"{server}/{repository}"
    argv = ["git", "-C", str(root), "remote", "get-url", "origin"]
    try:
        remote = subprocess.run(
            argv, capture_output=True, text=True, timeout=10, check=False
        ).stdout.strip()
    except OSError:
        return None
    found = _REMOTE.fullmatch(remote)
    return f"https://{found[1]}/{found[2]}" if found else None


def urls(page: str | None) -> dict[str, str]:
    """Return the links of the metadata."""
    if page is None:
        return {}
    paths = {
        "Homepage": "",
        "Documentation": "/tree/HEAD/docs",
        "Changelog": "/blob/HEAD/CHANGELOG.md",
        "Issues": "/issues",
    }
    return {name: page + path for name, path in paths.items()}


def readme(text: str, page: str | None) -> str:
    """Return a page of the checkout with links that work elsewhere."""
    return _LINK.sub(rf"[\1]({page}/blob/HEAD/\2)" if page else r"\1", text)


class ForgeLinks(MetadataHookInterface):
    """Hatchling's way to ask for metadata that pyproject.toml leaves open."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the URLs and the readme."""
        root = Path(self.root)
        page = home(root)
        metadata["urls"] = urls(page)
        text = readme((root / "README.md").read_text(encoding="utf-8"), page)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
