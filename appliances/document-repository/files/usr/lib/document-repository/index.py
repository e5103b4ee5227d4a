"""New versions of documents -> the full-text index: run whenever the repository has changed.

Each document is one record of the index, replaced when it changes and removed when it is deleted.
The index knows up to which revision it goes; without one, everything is indexed. A document whose
text cannot be had, is too large or takes too long is found by its name alone, and keeps no other
from being found.
"""

from __future__ import annotations

import fcntl
import hashlib
import html.parser
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO

import xapian
from repository import Repository

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
#: The most bytes of a document that is converted, and of a text.
LARGEST, LONGEST = 64 * 2**20, 8 * 2**20
#: What a converter may take: memory and output in bytes, seconds of processor time and of anything.
LIMITS = ["prlimit", f"--as={768 * 2**20}", f"--fsize={4 * LONGEST}", "--cpu=60"]
PATIENCE_S = 120
#: How many documents are indexed before they are written.
BATCH = 500


class _Text(html.parser.HTMLParser):
    """The text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def text(repository: Repository, path: str) -> str:
    """The words of a document; none if nobody here can read it."""
    end = Path(path).suffix.lower()
    if end not in CONVERTERS and end not in PLAIN and end not in (".html", ".htm"):
        return ""
    if repository.size(path) > LARGEST:
        print(f"{path}: too large, found by its name alone")
        return ""
    # Not below /tmp, which is memory.
    with tempfile.NamedTemporaryFile(suffix=end, dir="/var/tmp") as file:
        for piece in repository.content(path):
            file.write(piece)
        file.flush()
        if end in CONVERTERS:
            return converted(path, [word.format(file.name) for word in CONVERTERS[end]])
        file.seek(0)
        words = beginning(file)
    if end in PLAIN:
        return words
    parser = _Text()
    try:
        parser.feed(words)
    except (AssertionError, ValueError) as error:  # markup that no browser would mind either
        print(f"{path}: {error}; found by the words before that")
    return " ".join(parser.words)


def converted(path: str, words: list[str]) -> str:
    """The words that a converter prints, as far as it comes within its limits."""
    with tempfile.TemporaryFile(dir="/var/tmp") as output:
        try:
            ran = subprocess.run(
                [*LIMITS, *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
                timeout=PATIENCE_S,
            )
            problem = f"status {ran.returncode}" if ran.returncode else ""
        except subprocess.TimeoutExpired:
            problem = f"no end after {PATIENCE_S} s"
        if problem:
            print(f"{path}: {Path(words[0]).name}: {problem}; found by its name alone")
            return ""
        output.seek(0)
        return beginning(output)


def beginning(file: IO[bytes]) -> str:
    """The first of a file's text, without what no text has."""
    return file.read(LONGEST).decode(errors="replace").replace("\0", " ")


def key(path: str) -> str:
    """The term that a document is found by; Xapian's terms have at most 245 bytes."""
    name = path.encode()
    return "Q" + (
        path
        if len(name) < 240
        else name[:170].decode(errors="ignore") + hashlib.sha256(name).hexdigest()
    )


def put(database: xapian.WritableDatabase, path: str, words: str) -> None:
    """Index a document as it is now."""
    record = xapian.Document()
    generator = xapian.TermGenerator()
    generator.set_document(record)
    generator.index_text(path.replace("/", " ").replace(".", " ").replace("_", " "), 5)
    generator.increase_termpos()
    generator.index_text(words)
    record.set_data(f"{path}\n{' '.join(words[:200_000].split())[:100_000]}")
    record.add_boolean_term(key(path))
    database.replace_document(key(path), record)


def drop(database: xapian.WritableDatabase, path: str) -> None:
    """Forget a document, or all of a folder."""
    database.delete_document(key(path))
    inside = [posting.term for posting in database.allterms(("Q" + path + "/").encode())]
    for term in inside:
        database.delete_document(term)


def changes(repository: Repository, known: int) -> tuple[list[str], list[str]]:
    """What to forget, and which documents to read, whatever happened in between.

    Each path once, as it is now: a document that was saved a thousand times is read once.
    """
    gone: dict[str, None] = {}
    new: dict[str, None] = {}
    for revision in range(known + 1, repository.youngest + 1):
        for path, action in repository.changed(revision).items():
            if action in ("D", "R"):
                gone[path] = None
            if action in ("A", "R"):
                new.update(dict.fromkeys(repository.documents(path)))
            elif repository.kind(path) == "document":
                new[path] = None
    return list(gone), [path for path in new if repository.kind(path) == "document"]


def opened() -> xapian.WritableDatabase:
    """The index; an empty one, if there is none or it is damaged."""
    try:
        return xapian.WritableDatabase(INDEX, xapian.DB_CREATE_OR_OPEN)
    except (xapian.DatabaseCorruptError, xapian.DatabaseVersionError) as error:
        print(f"the index is made again: {error}")
        shutil.rmtree(INDEX)
        return xapian.WritableDatabase(INDEX, xapian.DB_CREATE_OR_OPEN)


def main() -> None:
    """Bring the index up to the newest revision."""
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        CHANGED.unlink(missing_ok=True)
        database, repository = opened(), Repository()
        gone, new = changes(repository, int(database.get_metadata("revision") or 0))
        for path in gone:
            drop(database, path)
        for number, path in enumerate(new, 1):
            put(database, path, text(repository, path))
            if number % BATCH == 0:
                database.commit()
        database.set_metadata("revision", str(repository.youngest))
        database.commit()


if __name__ == "__main__":
    main()
