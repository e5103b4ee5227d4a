"""The web page: folders, search, versions.

Apache has authenticated the user, and says who it is in X-User.
"""

from __future__ import annotations

import mimetypes
from urllib.parse import quote, urlsplit

import xapian
from flask import Flask, Response, abort, redirect, render_template, request
from index import INDEX
from markupsafe import Markup
from repository import InTheWay, Missing, Repository, Rights

app = Flask(__name__)
app.jinja_env.filters["path"] = quote
PAGE = 20
#: How many changes a page of versions shows.
CHANGES = 200


def user() -> str:
    """Who asks."""
    name = request.headers.get("X-User", "")
    if not name:
        abort(401)
    return name


def readable(path: str) -> str:
    """A path, if the user may read it."""
    clean = "/" + path.strip("/")
    if not Rights(user()).allow(clean):
        abort(403)
    return clean


@app.errorhandler(Missing)
def missing(_: Missing) -> tuple[str, int]:
    return render_template(
        "page.html", title="Not here", message="There is nothing here, or not in that version."
    ), 404


@app.errorhandler(InTheWay)
def in_the_way(_: InTheWay) -> tuple[str, int]:
    message = "There is something else of that name now: rename or delete it first."
    return render_template("page.html", title="Not brought back", message=message), 409


@app.after_request
def only_this_site(response: Response) -> Response:
    response.headers.setdefault(
        "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'",
    )
    response.headers["Cache-Control"] = "no-store"
    return response


@app.get("/")
@app.get("/folder/")
@app.get("/folder/<path:path>")
def folder(path: str = "") -> str:
    here, rights = readable(path), Rights(user())
    items = [item for item in Repository().listing(here) if rights.allow(item.path)]
    return render_template("page.html", title=here, here=here, items=items)


@app.get("/search")
def search() -> str:
    words = request.args.get("q", "").strip()
    found, rights = [], Rights(user())
    try:
        database = xapian.Database(INDEX)
    except xapian.DatabaseOpeningError:
        database = None
    if words and database is not None:
        parser = xapian.QueryParser()
        parser.set_database(database)
        parser.set_default_op(xapian.Query.OP_AND)
        flags = (
            parser.FLAG_PHRASE | parser.FLAG_BOOLEAN | parser.FLAG_LOVEHATE | parser.FLAG_PARTIAL
        )
        inquiry = xapian.Enquire(database)
        inquiry.set_query(parser.parse_query(words, flags))
        matches = inquiry.get_mset(0, 10 * PAGE)
        for match in matches:
            path, _, text = match.document.get_data().decode().partition("\n")
            if len(found) < PAGE and rights.allow(path):
                # Xapian has escaped the text, and marks what was found.
                snippet = matches.snippet(
                    text, 240, xapian.Stem("none"), 0, "<b>", "</b>", "..."
                ).decode()
                found.append((path, Markup(snippet)))
    return render_template("page.html", title=f"Search: {words}", words=words, found=found)


@app.get("/versions/")
@app.get("/versions/<path:path>")
def versions(path: str = "") -> str:
    here, rights, repository = readable(path), Rights(user()), Repository()
    before = request.args.get("before", repository.youngest, int)
    changes, rest = repository.history(here, before, CHANGES)
    changes = [change for change in changes if rights.allow(change.path)]
    gone = {change.path: not repository.kind(change.path) for change in changes}
    return render_template(
        "page.html", title=f"Versions of {here}", here=here, changes=changes, gone=gone, rest=rest
    )


@app.get("/version/<int:revision>/<path:path>")
def version(revision: int, path: str) -> Response:
    here, repository = readable(path), Repository()
    size = repository.size(here, revision)
    response = Response(
        repository.content(here, revision),
        mimetype=mimetypes.guess_type(here)[0] or "application/octet-stream",
    )
    response.headers["Content-Length"] = str(size)
    response.headers["Content-Security-Policy"] = (
        "sandbox; default-src 'none'; img-src 'self'; style-src 'unsafe-inline'"
    )
    return response


@app.post("/restore/<int:revision>/<path:path>")
def bring_back(revision: int, path: str) -> Response:
    # Another site's form would send its own name here, and a browser never lies about it.
    origin = request.headers.get("Origin")
    if origin is None or urlsplit(origin).netloc != request.host:
        abort(403)
    here, rights, repository = readable(path), Rights(user()), Repository()
    if not all(
        rights.allow(each, write=True)
        for each in (here, *(each for each, _ in repository.tree(here, revision)))
    ):
        abort(403)
    repository.restore(user(), here, revision)
    return redirect(f"/versions{quote(here)}", 303)
