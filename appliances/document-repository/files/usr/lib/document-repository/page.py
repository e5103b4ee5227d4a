"""The web page: folders, search, versions. Apache has authenticated the user, and says who it is in X-User."""

from __future__ import annotations

import mimetypes
from urllib.parse import quote, urlsplit

import xapian
from flask import Flask, Response, abort, redirect, render_template, request
from index import INDEX
from repository import Missing, allowed, content, listing, log, restore

app = Flask(__name__)
app.jinja_env.filters["path"] = quote
PAGE = 20


def user() -> str:
    """Who asks."""
    name = request.headers.get("X-User", "")
    if not name:
        abort(401)
    return name


def readable(path: str, right: str = "r") -> str:
    """A path, if the user may read or write it."""
    clean = "/" + path.strip("/")
    if not allowed(user(), [clean], right):
        abort(403)
    return clean


@app.errorhandler(Missing)
def missing(_: Missing) -> tuple[str, int]:
    return render_template("page.html", title="Not here", message="There is nothing here, or not in that version."), 404


@app.after_request
def only_this_site(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'")
    response.headers["Cache-Control"] = "no-store"
    return response


@app.get("/")
@app.get("/folder/")
@app.get("/folder/<path:path>")
def folder(path: str = "") -> str:
    here = readable(path)
    items = listing(here)
    visible = set(allowed(user(), [item.path for item in items]))
    return render_template("page.html", title=here, here=here, items=[item for item in items if item.path in visible])


@app.get("/search")
def search() -> str:
    words = request.args.get("q", "").strip()
    found = []
    try:
        database = xapian.Database(INDEX)
    except xapian.DatabaseOpeningError:
        database = None
    if words and database is not None:
        parser = xapian.QueryParser()
        parser.set_database(database)
        parser.set_default_op(xapian.Query.OP_AND)
        flags = parser.FLAG_PHRASE | parser.FLAG_BOOLEAN | parser.FLAG_LOVEHATE | parser.FLAG_PARTIAL
        inquiry = xapian.Enquire(database)
        inquiry.set_query(parser.parse_query(words, flags))
        matches = inquiry.get_mset(0, 10 * PAGE)
        hits = [(match.document.get_data().decode(), matches) for match in matches]
        for data, mset in hits:
            path, _, text = data.partition("\n")
            if len(found) < PAGE and allowed(user(), [path]):
                found.append((path, mset.snippet(text, 240, xapian.Stem("none"), 0, "", "", "...").decode()))
    return render_template("page.html", title=f"Search: {words}", words=words, found=found)


@app.get("/versions/")
@app.get("/versions/<path:path>")
def versions(path: str = "") -> str:
    here = readable(path)
    changes = log(here, "-l", "1000")
    visible = set(allowed(user(), list(dict.fromkeys(change.path for change in changes))))
    changes = [change for change in changes if change.path in visible]
    return render_template("page.html", title=f"Versions of {here}", here=here, changes=changes)


@app.get("/version/<int:revision>/<path:path>")
def version(revision: int, path: str) -> Response:
    here = readable(path)
    response = Response(content(here, revision), mimetype=mimetypes.guess_type(here)[0] or "application/octet-stream")
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'; img-src 'self'; style-src 'unsafe-inline'"
    return response


@app.post("/restore/<int:revision>/<path:path>")
def bring_back(revision: int, path: str) -> Response:
    # Another site's form would send its own name here, and a browser never lies about it.
    origin = request.headers.get("Origin")
    if origin is None or urlsplit(origin).netloc != request.host:
        abort(403)
    here = readable(path, "rw")
    restore(user(), here, revision)
    return redirect(f"/versions{quote(here)}", 303)
