"""New versions of documents -> the full-text index: run whenever the repository has changed.

Each document is one record of the index, replaced when it changes and removed when it is deleted. The index knows up to which
revision it goes; without one, everything is indexed.
"""

from __future__ import annotations

import fcntl
import hashlib
import html.parser
import subprocess
import tempfile
from pathlib import Path

import xapian
from repository import ROOT, Missing, content, log, svn

INDEX, LOCK = "/var/lib/documents/index", Path("/var/lib/documents/index.lock")
#: There when the repository has changed since this began; then it is run again.
CHANGED = Path("/var/lib/documents/changed")
#: Programs that print the text of a file, by the end of its name.
CONVERTERS = {
    ".pdf": ["pdftotext", "-q", "{}", "-"],
    ".odt": ["odt2txt", "{}"],
    ".ods": ["odt2txt", "{}"],
    ".odp": ["odt2txt", "{}"],
    ".docx": ["docx2txt", "{}", "-"],
}
PLAIN = (".txt", ".md", ".csv", ".log", ".json", ".xml", ".yaml", ".rst", ".tex", ".eml")
LARGEST = 64 * 2**20


class _Text(html.parser.HTMLParser):
    """The text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def text(name: str, data: bytes) -> str:
    """The words of a document; none if nobody here can read it."""
    end = Path(name).suffix.lower()
    if len(data) > LARGEST:
        return ""
    if end in CONVERTERS:
        with tempfile.NamedTemporaryFile(suffix=end) as file:
            file.write(data)
            file.flush()
            words = [word.format(file.name) for word in CONVERTERS[end]]
            ran = subprocess.run(words, capture_output=True, check=False, timeout=120)
            return ran.stdout.decode(errors="replace") if ran.returncode == 0 else ""
    if end in (".html", ".htm"):
        parser = _Text()
        parser.feed(data.decode(errors="replace"))
        return " ".join(parser.words)
    return data.decode(errors="replace") if end in PLAIN else ""


def key(path: str) -> str:
    """The term that a document is found by; Xapian's terms have at most 245 bytes."""
    name = path.encode()
    return "Q" + (path if len(name) < 240 else name[:170].decode(errors="ignore") + hashlib.sha256(name).hexdigest())


def put(database: xapian.WritableDatabase, path: str) -> None:
    """Index a document as it is now."""
    record, words = xapian.Document(), text(path, content(path))
    generator = xapian.TermGenerator()
    generator.set_document(record)
    generator.index_text(path.replace("/", " ").replace(".", " ").replace("_", " "), 5)
    generator.increase_termpos()
    generator.index_text(words)
    record.set_data(f"{path}\n{' '.join(words.split())[:100_000]}")
    record.add_boolean_term(key(path))
    database.replace_document(key(path), record)


def drop(database: xapian.WritableDatabase, path: str) -> None:
    """Forget a document, or all of a folder."""
    database.delete_document(key(path))
    inside = [posting.term for posting in database.allterms(("Q" + path + "/").encode())]
    for term in inside:
        database.delete_document(term)


def walk(path: str) -> list[str]:
    """The documents at or below a path."""
    listed = svn("svn", "list", "-R", "--non-interactive", f"file://{ROOT}@").decode().splitlines()
    return [f"/{name}" for name in listed if not name.endswith("/") and (f"/{name}" == path or f"/{name}".startswith(path + "/"))]


def main() -> None:
    """Bring the index up to the newest revision."""
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        CHANGED.unlink(missing_ok=True)
        database = xapian.WritableDatabase(INDEX, xapian.DB_CREATE_OR_OPEN)
        known, newest = int(database.get_metadata("revision") or 0), int(svn("svnlook", "youngest", ROOT))
        for version in log("/", "-r", f"{known + 1}:{newest}") if newest > known else []:
            if version.action in ("D", "R"):
                drop(database, version.path)
            if version.action != "D":
                for path in walk(version.path):
                    try:
                        put(database, path)
                    except Missing:
                        continue  # a later version removes it
        database.set_metadata("revision", str(newest))
        database.commit()


if __name__ == "__main__":
    main()
