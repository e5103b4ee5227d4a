"""The pages in a browser: found, filtered, opened and copied; with and without scripts; as a screen
reader and somebody with a phone get them.
"""

from __future__ import annotations

import base64
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from browser import CHROMIUM
from browser_tab import Tab, tab_of_its_own
from catalog_shop import Shop
from example_disk import ABOUT
from slipway.boot.screen import draw
from slipway.catalog import read_catalog
from slipway.catalog.www import index
from slipway.channels import moves
from slipway.stores.directory import DirectoryStore
from slipway.workflows.serving import Server

pytestmark = [
    pytest.mark.integration,
    pytest.mark.nightly,
    pytest.mark.skipif(
        not CHROMIUM.exists(),
        reason="chromium is not installed, and no task installs it: apt-get install chromium",
    ),
]

HOSTILE = '<img src=x onerror=alert(1)> & "quotes" \'n \u202e'
PAGES = ("index.html", "appliances/example.html", "appliances/gone.html")
VISIBLE = "[...document.querySelectorAll('.card')].filter(each => each.checkVisibility())"
#: Text whose contrast is below WCAG 2.2's 1.4.3 (AA): 4.5, or 3 where it is large.
CONTRAST = """
(() => {
  const rgb = (text) => text.match(/[0-9.]+/g).map(Number);
  const light = (colour) => colour.slice(0, 3)
    .map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    throw new Error("no ground");
  };
  const bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const pair = [light(rgb(style.color)), light(ground(element))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    const size = parseFloat(style.fontSize), bold = Number(style.fontWeight) >= 700;
    const least = size >= 24 || (bold && size >= 18.66) ? 3 : 4.5;
    if (ratio < least) bad.push(`${walker.currentNode.data.trim()}: ${ratio.toFixed(2)}`);
  }
  return bad;
})()
"""
#: What a screen reader has to be able to name.
NAMED = {
    "RootWebArea",
    "button",
    "checkbox",
    "heading",
    "image",
    "link",
    "navigation",
    "radio",
    "region",
    "search",
    "searchbox",
    "textbox",
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A store with an appliance that has a picture and a withdrawn release, one that is gone, and
    one whose words are markup.
    """
    shop = Shop(tmp_path_factory.mktemp("shop"))
    half = b"\0\0\0" * 600 + b"\xff\xff\xff" * 600
    check = {"name": "one", "place": "guest", "outcome": "passed", "duration_s": 1}
    boot = {
        "passed": True,
        "accelerator": "tcg",
        "firmware": "bios",
        "memory_mib": 200,
        "checks": [check],
        "expected": ["guest/one"],
        "picture": draw(b"P6\n40 30\n255\n" + half),
    }
    parameters: Any = ({"name": "domain", "type": "hostname", "summary": HOSTILE},)
    ports = ({"port": 53, "protocol": "udp", "purpose": HOSTILE, "interface": "outside"},)
    bill = b'{"components": [{"name": "zlib1g", "version": "1", "purl": "pkg:deb/debian/zlib1g"}]}'
    shop.publish("b1", boot=boot, parameters=parameters, ports=ports, category="network", bill=bill)
    shop.promote("b1")
    shop.publish("b2", boot=boot, category="network")
    moves.withdraw(
        shop.store, shop.rings["nightly"], "example", "1.0.0-b2", HOSTILE, replacement="1.0.0-b1"
    )
    shop.publish("b3", appliance="gone")
    moves.withdraw(shop.store, shop.rings["nightly"], "gone", "1.0.0-b3", "it is no good")
    shop.publish("b4", appliance="words", summary=HOSTILE, category=HOSTILE)
    shop.write()
    return shop


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with tab_of_its_own(tmp_path_factory.mktemp("browser")) as tab:
        yield tab


@pytest.fixture
def tab(chromium: Tab) -> Tab:
    chromium.requests.clear()
    chromium.complaints.clear()
    chromium.show()
    return chromium


def serve(store: DirectoryStore) -> Iterator[str]:
    with Server(store, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield server.url.removesuffix("index.html")
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def site(shop: Shop) -> Iterator[str]:
    yield from serve(shop.store)


def shown(tab: Tab) -> list[str]:
    names: list[str] = tab.ask(f"{VISIBLE}.map(each => each.querySelector('h2').textContent)")
    return names


def test_an_appliance_is_found_by_its_words(tab: Tab, site: str) -> None:
    tab.open(f"{site}index.html")
    assert shown(tab) == ["example", "gone", "words"]
    tab.type("#search", "NETWORK exam")
    assert shown(tab) == ["example"]
    assert tab.ask("document.querySelector('.count').textContent") == "1 of 3 appliances"
    tab.ask("document.querySelector('.card:not([hidden]) a').click()")


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_the_list_is_filtered_with_and_without_a_script(tab: Tab, site: str, script: bool) -> None:
    tab.show(script=script)
    tab.open(f"{site}index.html")
    labels = "[...document.querySelectorAll('fieldset label')]"
    tab.ask(f"{labels}.find(each => each.textContent.trim() === 'network').click()")
    assert shown(tab) == ["example"]
    tab.ask("document.querySelector('#k-all').click()")
    tab.ask(f"{labels}.find(each => each.textContent.trim() === 'stable').click()")
    assert shown(tab) == ["example"]
    assert tab.ask("document.querySelector('.search').checkVisibility()") is script


def test_a_link_of_the_list_opens_the_page(tab: Tab, site: str) -> None:
    tab.open(f"{site}index.html")
    assert tab.ask("document.querySelector('.card a').href") == f"{site}appliances/example.html"
    tab.open(f"{site}appliances/example.html")
    assert tab.ask("document.querySelector('h1').textContent") == "example"
    assert tab.ask("document.querySelector('img').naturalWidth") == 40
    downloads = "[...document.querySelectorAll('a[download]')].map(each => each.href)"
    for url in tab.ask(downloads):
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD")) as answer:
            assert answer.status == 200


def test_a_copied_command_has_the_address_of_this_store(tab: Tab, site: str) -> None:
    tab.call(
        "Browser.grantPermissions",
        permissions=["clipboardReadWrite", "clipboardSanitizedWrite"],
    )
    tab.open(f"{site}appliances/example.html")
    tab.ask("document.querySelector('details[open] button').click()")
    copied = tab.ask("navigator.clipboard.readText()")
    store = site.removesuffix("/www/")
    assert copied.splitlines()[0] == (
        f"slipway fetch example --channel stable --store {store} --out . --format qcow2"
    )
    assert tab.ask("document.querySelector('details[open] button').textContent") == "Copied"


def test_without_a_script_commands_can_be_read(tab: Tab, site: str) -> None:
    tab.show(script=False)
    tab.open(f"{site}appliances/example.html")
    assert "slipway fetch example" in tab.ask("document.querySelector('pre').textContent")
    assert tab.ask("document.querySelectorAll('main button:not(form *)').length") == 0


def test_one_platform_is_open_at_a_time(tab: Tab, site: str) -> None:
    tab.open(f"{site}appliances/example.html")
    tab.ask("[...document.querySelectorAll('details[name=platform] summary')][1].click()")
    opened = "[...document.querySelectorAll('details[name=platform]')].map(each => each.open)"
    assert tab.ask(opened).count(True) == 1
    assert tab.ask(opened)[1] is True


def test_a_withdrawn_release_says_why_and_leads_to_its_replacement(tab: Tab, site: str) -> None:
    tab.open(f"{site}appliances/example.html#nightly-1.0.0-b2")
    assert tab.ask("document.querySelector('tr:target td:nth-child(2)').textContent") == (
        f"withdrawn: {HOSTILE}; use 1.0.0-b1"
    )
    tab.ask("document.querySelector('tr:target td:nth-child(2) a').click()")
    assert tab.ask("document.querySelector('tr:target td').textContent") == "1.0.0-b1"
    tab.open(f"{site}appliances/gone.html")
    assert tab.ask("document.querySelectorAll('.button, pre').length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_text_can_be_read_in_both_schemes(tab: Tab, site: str, page: str, scheme: str) -> None:
    tab.show(scheme=scheme)
    tab.open(f"{site}{page}")
    tab.ask("for (const each of document.querySelectorAll('details')) each.open = true")
    ground = tab.ask("getComputedStyle(document.documentElement).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") is (scheme == "light")
    assert tab.ask(CONTRAST) == []


@pytest.mark.parametrize("width", [320, 390, 768, 1440])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_as_wide_as_its_window(tab: Tab, site: str, page: str, width: int) -> None:
    tab.show(width=width)
    tab.open(f"{site}{page}")
    tab.ask("for (const each of document.querySelectorAll('details')) each.open = true")
    assert tab.ask("document.scrollingElement.scrollWidth") == width


@pytest.mark.parametrize("page", PAGES)
def test_a_screen_reader_gets_names_and_an_order(tab: Tab, site: str, page: str) -> None:
    tab.open(f"{site}{page}")
    tab.ask("for (const each of document.querySelectorAll('details')) each.open = true")
    tree = tab.tree()
    assert [role for role, name in tree if role in NAMED and not name.strip()] == []
    assert [role for role, _ in tree].count("main") == 1
    levels = tab.ask("[...document.querySelectorAll('h1,h2,h3,h4')].map(each => +each.tagName[1])")
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert tab.ask("document.documentElement.lang") == "en"
    ids = tab.ask("[...document.querySelectorAll('[id]')].map(each => each.id)")
    assert len(ids) == len(set(ids))
    words = (
        "[...document.querySelectorAll('th')].every(each => each.scope === 'col') && "
        "[...document.querySelectorAll('fieldset')].every(each => "
        "each.firstElementChild.localName === 'legend' && each.innerText.trim())"
    )
    assert tab.ask(words) is True


@pytest.mark.parametrize("page", PAGES)
def test_what_scrolls_is_scrolled_by_keys_too(tab: Tab, site: str, page: str) -> None:
    tab.show(width=320)
    tab.open(f"{site}{page}")
    tab.ask("for (const each of document.querySelectorAll('details')) each.open = true")
    stuck = (
        "[...document.querySelectorAll('main *')].filter(each => "
        "each.scrollWidth > each.clientWidth + 1 && each.tabIndex < 0 && "
        "['auto', 'scroll'].includes(getComputedStyle(each).overflowX) && "
        "!each.querySelector('a, button, input')).map(each => each.textContent.trim())"
    )
    assert tab.ask(stuck) == []


class Source(HTMLParser):
    """The elements of a page as they are written, each with its depth."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, int]] = []
        self.depth = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, self.depth))
        self.depth += tag not in {"meta", "link", "input", "img"}

    def handle_endtag(self, tag: str) -> None:
        self.depth -= 1


@pytest.mark.parametrize("page", PAGES)
def test_a_browser_mends_nothing_of_the_markup(tab: Tab, shop: Shop, site: str, page: str) -> None:
    """Where elements stand in one another as HTML does not allow it, its parser moves them."""
    tab.show(script=False)
    tab.open(f"{site}{page}")
    depth = "(each) => { let n = -1; for (let at = each; at; at = at.parentElement) n++; return n }"
    found = tab.ask(
        f"[...document.querySelectorAll('*')].map(each => [each.localName, ({depth})(each)])"
    )
    written = Source(shop.store.read(f"www/{page}").data.decode()).elements
    assert [(name, number) for name, number in found] == written
    assert tab.ask("document.compatMode") == "CSS1Compat"


@pytest.mark.parametrize("page", [*PAGES, "appliances/words.html"])
def test_nothing_is_asked_from_elsewhere_and_nothing_complains(
    tab: Tab, site: str, page: str
) -> None:
    tab.open(f"{site}{page}")
    assert tab.requests
    assert [url for url in tab.requests if not url.startswith(site)] == []
    # Chromium asks for this by itself.
    assert [text for text in tab.complaints if "favicon" not in text] == []


def test_the_policy_stops_a_script_in_a_page(tab: Tab, site: str) -> None:
    tab.open(f"{site}appliances/words.html")
    tab.ask(
        "document.body.append(Object.assign(document.createElement('script'), "
        "{textContent: 'window.got = 1'}))"
    )
    assert tab.ask("window.got === undefined") is True
    assert any("Content Security Policy" in text for text in tab.complaints)


def test_three_hundred_appliances_are_searched_at_once(
    tab: Tab, shop: Shop, tmp_path: Path
) -> None:
    found = read_catalog(shop.store, [shop.read("stable")])
    (offer,) = found.offers
    many = tuple(
        replace(offer, manifest=replace(offer.manifest, appliance=f"appliance-{number}"))
        for number in range(300)
    )
    store = DirectoryStore(tmp_path / "store")
    for key, data in index(replace(found, offers=many), ABOUT.templates).items():
        store.create(key, data)
    for site in serve(store):
        tab.open(f"{site}index.html")
        # `example` itself is listed, too.
        assert len(shown(tab)) == 301
        tab.type("#search", "appliance-29")
        assert len(shown(tab)) == 11
        script = "performance.getEntriesByName('first-contentful-paint').length === 1"
        assert tab.ask(f"new Promise(done => requestAnimationFrame(() => done({script})))") is True


def test_the_picture_is_the_signed_one(tab: Tab, shop: Shop, site: str) -> None:
    tab.open(f"{site}appliances/example.html")
    (offer,) = [
        each
        for each in read_catalog(shop.store, [shop.read("stable")]).offers
        if each.manifest.appliance == "example"
    ]
    assert offer.manifest.boot
    signed = base64.b64decode(offer.manifest.boot["picture"]["base64"])
    assert shop.store.read("www/appliances/example.png").data == signed
    assert tab.ask("document.querySelector('img').complete") is True
