"""The form of an appliance's page, in a browser: its file is the one that `fetch --set` writes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from browser import CHROMIUM, Browser, browser
from catalog_shop import Shop
from slipway.records.manifest import read_manifest
from slipway.records.release import MANIFEST
from slipway.seeds.seed import make_seed
from slipway.spec.parameters import value_problem
from slipway.workflows.serving import Server

pytestmark = [
    pytest.mark.integration,
    pytest.mark.nightly,
    pytest.mark.skipif(
        not CHROMIUM.exists(),
        reason="chromium is not installed, and no task installs it: apt-get install chromium",
    ),
]
PARAMETERS: tuple[dict[str, Any], ...] = (
    {"name": "domain", "type": "hostname", "summary": "Its name"},
    {"name": "note", "type": "string", "default": "none", "summary": "Shown at the prompts"},
    {"name": "mode", "type": "string", "choices": ["a", "b"], "summary": "How"},
    {"name": "flag", "type": "boolean", "default": "true", "summary": "Whether"},
    {"name": "number", "type": "integer", "summary": "How many"},
    {"name": "address", "type": "ipv4", "summary": "Its address"},
    {"name": "inside", "type": "ipv4-cidr", "summary": "Its network"},
    {"name": "password", "type": "secret", "generate": 20, "summary": "A secret"},
)
FILE = "example-1.0.0-b1.amd64.seed.iso"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = Shop(tmp_path_factory.mktemp("shop"))
    shop.publish("b1", parameters=PARAMETERS)
    shop.write()
    return shop


@pytest.fixture(scope="module")
def page(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser with the appliance's page, as `serve` serves it."""
    with Server(shop.store, 0) as server, browser(tmp_path_factory.mktemp("browser")) as page:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page.opens(server.url.replace("index.html", "appliances/example.html"))
        yield page
        server.shutdown()


def fill(page: Browser, **values: str) -> None:
    """Fill in fields as a person does, and empty the others."""
    page.evaluate(
        f"""(() => {{
            const values = {json.dumps(values)};
            const form = document.querySelector("#seed");
            form.reset();
            document.querySelector("#seed output").replaceChildren();
            for (const [name, value] of Object.entries(values)) {{
                form.elements[name].value = value;
                form.elements[name].dispatchEvent(new Event("input", {{ bubbles: true }}));
            }}
        }})()"""
    )


def made(page: Browser) -> bytes:
    """Press the button, follow the link, and return the file."""
    page.evaluate("document.querySelector('#seed button').click()")
    page.waits_for("document.querySelector('#seed output a')?.download")
    page.evaluate("document.querySelector('#seed output a').click()")
    content = page.downloaded(FILE)
    (page.downloads / FILE).unlink()
    return content


@pytest.mark.parametrize(
    "values",
    [
        {"domain": "mail.example.org"},
        {"note": "Käse & 😀 'x' \"y\" \\ {}: #", "mode": "b", "flag": "false", "number": "-0"},
        {"note": "\ufffe\uffff</script>", "address": "192.0.2.1", "inside": "192.0.2.1/24"},
        {"note": "x" * 4096, "domain": "a.b"},
        {"note": "Mime-Version: 1.0"},
        {name: "1" for name in ("number", "note")},
    ],
    ids=["one", "letters", "odd", "long", "header", "digits"],
)
def test_the_bytes_are_those_of_fetch(shop: Shop, page: Browser, values: dict[str, str]) -> None:
    manifest = read_manifest((shop.folder / "b1" / MANIFEST).read_bytes())
    fill(page, **values)
    seed = make_seed(manifest, values)
    assert made(page) == seed.to_iso()
    assert page.evaluate("document.querySelector('#seed output code').textContent") == seed.id


def test_the_browser_takes_what_first_boot_takes(page: Browser) -> None:
    texts = [
        *(
            "a",
            "mail.example.org",
            "-a",
            "a..b",
            "a b",
            "1",
            "-1",
            "01",
            "1.5",
            "x\x7fy",
            "x\u2028y",
        ),
        *("192.0.2.1", "256.0.0.1", "01.2.3.4", "192.0.2.1/24", "192.0.2.1/33", "192.0.2.1/"),
    ]
    for each in PARAMETERS[:2] + PARAMETERS[4:7]:
        for text in texts:
            fill(page, **{each["name"]: text})
            taken = page.evaluate("document.querySelector('#seed').checkValidity()")
            assert taken == (value_problem(each["type"], text) is None), (each["name"], text)


def test_an_empty_form_makes_nothing(page: Browser) -> None:
    fill(page)
    page.evaluate("document.querySelector('#seed button').click()")
    said = page.waits_for("document.querySelector('#seed output').textContent")
    assert said == "Fill in a field first."


def test_a_seed_of_earlier_values_is_offered_no_more(page: Browser) -> None:
    fill(page, domain="example.org")
    made(page)
    page.evaluate(
        "document.querySelector('#seed input').dispatchEvent(new Event('input', {bubbles: true}))"
    )
    assert page.evaluate("document.querySelector('#seed output').textContent") == ""


def test_a_page_sends_nothing(page: Browser) -> None:
    """All that it has loaded are its own files, also after a seed was made."""
    fill(page, domain="example.org")
    made(page)
    loaded = page.evaluate("performance.getEntriesByType('resource').map((each) => each.name)")
    assert {name.rpartition("/")[2] for name in loaded} == {"style.css", "catalog.js", "seed.js"}
