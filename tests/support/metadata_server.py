"""A cloud's metadata service, as a program: serves texts by path, which a JSON file maps, on an
address.
"""

from __future__ import annotations

import http.server
import json
import sys
from pathlib import Path

__all__ = ["Handler"]


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves texts by path; EC2's clients ask for a token first."""

    texts: dict[str, str]

    def do_PUT(self) -> None:
        self._answer(200, "a token")

    def do_GET(self) -> None:
        text = self.texts.get(self.path.lstrip("/"), self.texts.get(self.path.strip("/")))
        self._answer(404 if text is None else 200, text or "")

    def _answer(self, status: int, text: str) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    Handler.texts = json.loads(Path(sys.argv[1]).read_text())
    http.server.ThreadingHTTPServer((sys.argv[2], 80), Handler).serve_forever()
