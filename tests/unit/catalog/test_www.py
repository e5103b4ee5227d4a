"""Pages for people: what they show, what they never do."""

from __future__ import annotations

import base64
import gzip
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from catalog_shop import CREATED, Shop
from example_disk import ABOUT
from slipway.boot.screen import draw
from slipway.catalog import read_catalog
from slipway.catalog.www import index
from slipway.channels import moves
from slipway.errors import VerificationError
from slipway.seeds.form import PATTERNS
from slipway.spec.parameters import value_problem

HOSTILE = "<script>alert('1')</script> & \"quotes\""
PICTURE: Any = draw(b"P6\n40 30\n255\n" + b"\0\0\0" * 600 + b"\xff\xff\xff" * 600)
KNOWN_NAMES = (".html", ".css", ".js", ".json", ".xml")
#: HTML's elements that have no end (the living standard, 13.1.2).
EMPTY = {"meta", "link", "input", "img"}


class Page(HTMLParser):
    """A page that was read: its text, its links, its elements by name."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(source)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}>"

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str, attribute: str) -> list[str]:
        return [
            value
            for name, attrs in self.elements
            if name == tag and (value := attrs.get(attribute)) is not None
        ]

    @property
    def said(self) -> str:
        return " ".join(" ".join(self.text).split())


def booted(picture: Any = None, **changes: Any) -> dict[str, Any]:
    """A boot report as a manifest has it."""
    check = {
        "name": "one",
        "place": "guest",
        "outcome": "passed",
        "duration_s": 1.25,
        "attempts": 1,
    }
    return {
        "passed": True,
        "accelerator": "kvm",
        "firmware": "bios",
        "memory_mib": 231,
        "checks": [check],
        "expected": ["guest/one"],
        "picture": PICTURE if picture is None else picture,
        **changes,
    }


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def page(shop: Shop, name: str) -> Page:
    return Page(shop.store.read(f"www/{name}").data.decode())


def withdraw(
    shop: Shop, channel: str, release: str, reason: str, replacement: str | None = None
) -> None:
    moves.withdraw(
        shop.store, shop.rings[channel], "example", release, reason, replacement=replacement
    )


def pages(shop: Shop) -> list[str]:
    return [
        status.key.removeprefix("www/")
        for status in shop.store.list("www/")
        if status.key.endswith(".html")
    ]


def test_the_list_has_each_appliance_and_its_page_what_an_administrator_asks(shop: Shop) -> None:
    ports = ({"port": 53, "protocol": "udp", "purpose": "Names", "interface": "inside"},)
    parameters: Any = (
        {"name": "domain", "type": "hostname", "summary": "The domain"},
        {"name": "leases", "type": "integer", "default": "100", "summary": "How many"},
        {"name": "password", "type": "secret", "generate": 24, "summary": "Of the admin"},
    )
    shop.publish("b1", ports=ports, parameters=parameters, category="network")
    shop.promote("b1")
    shop.write()
    listed = page(shop, "index.html")
    assert "appliances/example.html" in listed.all("a", "href")
    assert "An example" in listed.said
    about = page(shop, "appliances/example.html")
    for text in (
        "53 udp inside Names",
        "domain asked for",
        "leases 100",
        "password made up",
        "1 check of the booted image",
        "1.0 GiB",
    ):
        assert text in about.said, text
    assert (
        "slipway fetch example --channel stable --store https://THIS-STORE --out . --format qcow2"
        in about.said
    )


def test_a_page_tells_how_its_release_was_checked_and_what_is_in_it(shop: Shop) -> None:
    components = [
        {"name": "zlib1g", "version": "1:1.3", "purl": "pkg:deb/debian/zlib1g@1.3?arch=amd64"},
        {"name": "flask", "version": "3.1", "purl": "pkg:pypi/flask@3.1"},
        {"name": "/opt/tool", "hashes": []},
        {"name": HOSTILE, "version": HOSTILE, "purl": f"pkg:deb/debian/{HOSTILE}"},
    ]
    shop.publish("b1", bill=json.dumps({"components": components}).encode(), boot=booted())
    shop.write()
    about = page(shop, "appliances/example.html")
    for text in (
        "with KVM, started by BIOS",
        "guest/one passed 1.2 s",
        "1.0 GiB, of which 231.0 MiB were used once its services ran",
        "of which the image takes 100 B when it is unpacked",
        "4 packages, as sbom.cdx.json has them",
        "zlib1g 1:1.3 deb /opt/tool file flask 3.1 pypi",
        f"{HOSTILE} {HOSTILE} deb",
    ):
        assert text in about.said, text
    links = about.all("a", "href")
    for file in ("manifest.json", "sbom.cdx.json", "provenance.intoto.json"):
        assert [link for link in links if link.endswith(f".{file}")], file
    assert "#nightly-1.0.0-b1" in links


def test_the_picture_of_a_boot_test_is_on_the_page_as_it_was_signed(shop: Shop) -> None:
    shop.publish("b1", boot=booted())
    shop.write()
    about = page(shop, "appliances/example.html")
    (picture,) = [attrs for tag, attrs in about.elements if tag == "img"]
    assert picture == {
        "src": "example.png",
        "width": "40",
        "height": "30",
        "alt": "The screen of a machine of 1.0.0-b1 at its boot test",
    }
    written = shop.store.read("www/appliances/example.png").data
    assert written == base64.b64decode(PICTURE["base64"])


@pytest.mark.parametrize("content", [b"<svg onload='alert(1)'/>", b"GIF89a"])
def test_what_is_no_png_is_no_picture(shop: Shop, content: bytes) -> None:
    other = {**PICTURE, "base64": base64.b64encode(content).decode()}
    shop.publish("b1", boot=booted(other))
    shop.write()
    assert not page(shop, "appliances/example.html").all("img", "src")
    assert not [
        status.key for status in shop.store.list("www/") if not status.key.endswith(KNOWN_NAMES)
    ]


def test_an_sbom_that_is_not_what_was_published_writes_no_page(shop: Shop) -> None:
    shop.publish("b1", bill=b'{"components": []}')
    (bill,) = [
        status.key for status in shop.store.list("targets/") if status.key.endswith("cdx.json")
    ]
    path = shop.folder / "store" / bill
    path.chmod(0o644)
    path.write_bytes(b'{"components": {}}')
    with pytest.raises(VerificationError) as caught:
        shop.write()
    assert caught.value.message == f"{bill} is not what was published"
    assert caught.value.hint == "the store was changed by something else; run: invoke verify"


def test_a_network_without_a_summary_is_its_name_alone(shop: Shop) -> None:
    interfaces = ({"name": "outside", "summary": ""}, {"name": "inside", "summary": "Yours"})
    shop.publish("b1", interfaces=interfaces)
    shop.write()
    said = page(shop, "appliances/example.html").said
    assert "Network card 1 outside Network card 2 inside: Yours" in said


def test_each_link_leads_to_an_object_of_the_store(shop: Shop) -> None:
    shop.publish("b1", boot=booted())
    shop.promote("b1")
    shop.write()
    keys = {status.key for status in shop.store.list()}
    for name in pages(shop):
        read = page(shop, name)
        base = Path("www", name).parent
        for link in [
            *read.all("a", "href"),
            *read.all("link", "href"),
            *read.all("script", "src"),
            *read.all("img", "src"),
        ]:
            if not link.startswith("#"):
                parts: list[str] = []
                for part in (base / link).parts:
                    parts = parts[:-1] if part == ".." else [*parts, part]
                assert "/".join(parts) in keys, (name, link)


def test_nothing_that_somebody_wrote_becomes_a_part_of_a_page(shop: Shop) -> None:
    shop.publish(
        "b1",
        summary=HOSTILE,
        parameters=({"name": "a", "type": "string", "default": HOSTILE, "summary": HOSTILE},),
    )
    shop.promote("b1")
    withdraw(shop, "nightly", "1.0.0-b1", HOSTILE)
    shop.write()
    for name in pages(shop):
        read = page(shop, name)
        own = ["catalog.js"] if name == "index.html" else ["../catalog.js", "../seed.js"]
        assert read.all("script", "src") == own
        assert [tag for tag, _ in read.elements if tag == "script"] == ["script"] * len(own)
    assert HOSTILE in page(shop, "appliances/example.html").said
    entry = ET.fromstring(shop.store.read("www/channels/nightly.xml").data)
    assert HOSTILE in "".join(entry.itertext())


def test_nothing_is_loaded_from_elsewhere_and_browsers_are_told_so(shop: Shop) -> None:
    shop.publish("b1")
    shop.write()
    for name in pages(shop):
        read = page(shop, name)
        (policy,) = [
            attrs["content"]
            for tag, attrs in read.elements
            if attrs.get("http-equiv") == "Content-Security-Policy"
        ]
        assert policy == (
            "default-src 'none'; style-src 'self'; script-src 'self'; "
            + ("img-src 'self'; " if name != "index.html" else "")
            + "base-uri 'none'; form-action 'none'"
        )
        assert not [
            attrs
            for _, attrs in read.elements
            if any(part.startswith("on") or part == "style" for part in attrs)
        ]
    for status in shop.store.list("www/"):
        text = shop.store.read(status.key).data.decode(errors="replace")
        assert set(re.findall(r"(?:https?:)?//[A-Za-z][^\s\"')]*", text)) <= {
            "https://THIS-STORE",
            "//HOST/",
            "//REGISTRY/example",
            "http://www.w3.org/2005/Atom",
        }, status.key


def test_what_was_withdrawn_says_why_and_is_offered_nowhere(shop: Shop) -> None:
    shop.publish("b1")
    shop.publish("b2")
    withdraw(shop, "nightly", "1.0.0-b2", "it lost mail", "1.0.0-b1")
    shop.write()
    about = page(shop, "appliances/example.html")
    assert "withdrawn : it lost mail; use 1.0.0-b1" in about.said
    links = about.all("a", "href")
    assert [link for link in links if "1.0.0-b2" in link] == ["#nightly-1.0.0-b2"]
    assert "nightly-1.0.0-b2" in about.all("tr", "id")
    feed = ET.fromstring(shop.store.read("www/channels/nightly.xml").data)
    titles = [
        entry.findtext("{http://www.w3.org/2005/Atom}title")
        for entry in feed.iter("{http://www.w3.org/2005/Atom}entry")
    ]
    assert "example 1.0.0-b2 is withdrawn" in titles
    identifiers = [element.text for element in feed.iter("{http://www.w3.org/2005/Atom}id")]
    assert len(identifiers) == len(set(identifiers))


def test_an_appliance_that_no_channel_offers_any_more_keeps_its_page(shop: Shop) -> None:
    shop.publish("b1")
    shop.write()
    withdraw(shop, "nightly", "1.0.0-b1", "it is no good")
    shop.write()
    about = page(shop, "appliances/example.html")
    assert "No channel offers it any more." in about.said
    assert "it is no good" in about.said
    assert "No channel offers it any more." in page(shop, "index.html").said


def test_filters_work_without_a_script(shop: Shop) -> None:
    """Each choice has a rule, and each appliance the classes of what is its own."""
    shop.publish("b1", category="network")
    shop.publish("b2", category='data"} body', appliance="other")
    shop.write()
    read, rules = page(shop, "index.html"), shop.store.read("www/filters.css").data.decode()
    choices = [value for value in read.all("input", "id") if re.fullmatch(r"[kfac][0-9]+", value)]
    for choice in choices:
        assert f"body:has(#{choice}:checked) .card:not(.{choice}) {{ display: none; }}" in rules
    assert 'data"' not in rules
    cards = [value.split() for value in read.all("li", "class")]
    assert sorted("k0" in card for card in cards) == [False, True]


def test_the_index_for_programs_has_keys_hashes_and_times(shop: Shop) -> None:
    shop.publish("b1")
    shop.write()
    document = shop.json("www/catalog.json")
    assert document["format"] == "slipway/www/1"
    (appliance,) = document["appliances"]
    (offer,) = appliance["offers"]
    for file in offer["files"]:
        assert len(shop.store.read(file["key"]).data) == file["size"]
    assert offer["created"] == "2026-05-28T20:26:40Z"
    assert CREATED == 1_780_000_000


def test_pages_are_written_anew_only_where_something_changed(shop: Shop) -> None:
    shop.publish("b1")
    shop.write()
    assert shop.write() == []
    shop.publish("b2")
    assert "www/appliances/example.html" in shop.write()


def test_three_hundred_appliances_are_a_page_that_loads(shop: Shop) -> None:
    shop.publish(
        "b1",
        summary="Postfix, Dovecot and rspamd for a domain of one's own, sent and read over TLS",
    )
    found = read_catalog(shop.store, [shop.read("nightly")])
    (offer,) = found.offers
    many = tuple(
        replace(offer, manifest=replace(offer.manifest, appliance=f"appliance-{number}"))
        for number in range(300)
    )
    made = index(replace(found, offers=many), ABOUT.templates)
    assert len(gzip.compress(made["www/index.html"])) < 200_000
    assert len(json.loads(made["www/catalog.json"])["appliances"]) == 301


def test_a_download_is_a_machine_and_not_what_describes_one(shop: Shop) -> None:
    shop.publish(
        "b1", images={"qcow2": b"image" * 1000, "incus": b"metadata", "rootfs": b"tree" * 2000}
    )
    shop.write()
    assert "4.9 KiB" in page(shop, "index.html").said


def test_the_form_has_a_field_for_each_parameter_but_secrets(shop: Shop) -> None:
    """It is hidden until a script shows it: without one it could do nothing."""
    shop.publish(
        "b1",
        parameters=(
            {"name": "domain", "type": "hostname", "summary": "Its name"},
            {"name": "mode", "type": "string", "choices": ["a", "b"], "summary": "How"},
            {"name": "flag", "type": "boolean", "default": "true", "summary": "Whether"},
            {"name": "password", "type": "secret", "generate": 20, "summary": "A secret"},
        ),
    )
    shop.write()
    read = page(shop, "appliances/example.html")
    fields = [attrs for tag, attrs in read.elements if tag in ("input", "select")]
    assert [each["name"] for each in fields] == ["domain", "mode", "flag"]
    assert read.all("label", "for") == [each["id"] for each in fields]
    assert read.all("option", "value") == ["", "a", "b", "", "true", "false"]
    (form,) = [attrs for tag, attrs in read.elements if tag == "form"]
    assert (form["data-appliance"], form["data-release"], form["data-architecture"]) == (
        "example",
        "1.0.0-b1",
        "amd64",
    )
    before = [attrs for tag, attrs in read.elements if tag in ("div", "form")]
    assert "hidden" in before[before.index(form) - 1]


def test_a_page_without_anything_to_fill_in_has_no_form(shop: Shop) -> None:
    shop.publish(
        "b1",
        parameters=({"name": "p", "type": "secret", "generate": 20, "summary": "A secret"},),
    )
    shop.write()
    read = page(shop, "appliances/example.html")
    assert read.all("script", "src") == ["../catalog.js"]
    assert "form" not in [tag for tag, _ in read.elements]


@pytest.mark.parametrize("kind", sorted(PATTERNS))
def test_what_a_field_takes_first_boot_takes(kind: str) -> None:
    texts = (
        *("a", "a.b", "a-b.c9", "-a", "a-", "a..b", ".a", "a.", "A.b", "a_b", "a" * 63, "a" * 64),
        *("0", "-1", "01", "--1", "1.5", "9" * 18, "9" * 19, "-0", ""),
        *("192.0.2.1", "256.1.1.1", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.04", "0.0.0.0"),
        *("192.0.2.1/24", "192.0.2.1/33", "192.0.2.1/", "192.0.2.1/024", "255.255.255.255/32"),
    )
    for text in texts:
        taken = re.fullmatch(PATTERNS[kind], text) is not None
        assert taken == (value_problem(kind, text) is None), text
