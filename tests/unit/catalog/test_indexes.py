"""What is current in a store's channels, as indexes for programs of others."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from catalog_shop import METADATA, Shop
from slipway.catalog import exists
from slipway.channels import moves
from slipway.errors import VerificationError


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_a_stream_names_each_image_by_its_fingerprint_and_where_it_is(shop: Shop) -> None:
    shop.publish("b1")
    shop.write()
    product = shop.products()["example:nightly:amd64"]
    assert product["aliases"] == "example,example/nightly"
    (version,) = product["versions"].items()
    assert version[0] == "20260528_202640"
    items = version[1]["items"]
    assert items.keys() == {"incus.tar.xz", "lxd.tar.xz", "root.tar.xz", "disk-kvm.img"}
    for name in ("incus.tar.xz", "lxd.tar.xz"):
        assert (
            items[name]["combined_disk-kvm-img_sha256"]
            == hashlib.sha256(METADATA + b"b1").hexdigest()
        )
        assert (
            items[name]["combined_rootxz_sha256"] == hashlib.sha256(METADATA + b"b1b1").hexdigest()
        )
    for name, content in (
        ("lxd.tar.xz", METADATA),
        ("disk-kvm.img", b"b1"),
        ("root.tar.xz", b"b1b1"),
    ):
        assert shop.store.read(items[name]["path"]).data == content
        assert (items[name]["sha256"], items[name]["size"]) == (
            hashlib.sha256(content).hexdigest(),
            len(content),
        )
    index = shop.json("streams/v1/index.json")["index"]["images"]
    assert (index["path"], index["products"]) == (
        "streams/v1/images.json",
        ["example:nightly:amd64"],
    )


def test_the_plain_name_is_that_of_the_most_trusted_channel(shop: Shop) -> None:
    shop.publish("b1")
    shop.promote("b1")
    shop.publish("b2")
    shop.write()
    assert {name: product["aliases"] for name, product in shop.products().items()} == {
        "example:stable:amd64": "example,example/stable",
        "example:nightly:amd64": "example/nightly",
    }
    assert [item["name"] for item in shop.json("items.json")["items"]] == [
        "example",
        "example-nightly",
    ]


def test_a_content_library_leads_to_the_ova(shop: Shop) -> None:
    shop.publish("b1", summary='An "example" of </this>')
    shop.write()
    library = shop.json("lib.json")
    assert (library["vcspVersion"], library["itemsHref"]) == ("2", "items.json")
    (item,) = shop.json("items.json")["items"]
    assert item == shop.json(item["selfHref"])
    assert item["type"] == "vcsp.ovf"
    assert item["description"] == '1.0.0: An "example" of </this>'
    (file,) = item["files"]
    assert (file["name"], file["size"]) == ("example.ova", 6)
    assert shop.store.read(file["hrefs"][0]).data == b"b1" * 3
    (metadata,) = item["metadata"]
    assert json.loads(metadata["value"])["libraryIdParent"] == library["id"]


def test_a_new_release_is_a_new_version_of_the_same_item(shop: Shop) -> None:
    shop.publish("b1")
    shop.write()
    before, library = shop.json("items.json")["items"][0], shop.json("lib.json")
    shop.publish("b2")
    shop.write()
    after = shop.json("items.json")["items"][0]
    assert after["id"] == before["id"]
    assert int(after["version"]) > int(before["version"])
    assert int(shop.json("lib.json")["version"]) > int(library["version"])


def test_what_was_withdrawn_or_rolled_back_is_in_no_index(shop: Shop) -> None:
    shop.publish("b1")
    shop.publish("b2")
    shop.write()
    moves.rollback(shop.store, shop.rings["nightly"], "example", None)
    shop.write()
    assert [
        version["label"]
        for version in shop.products()["example:nightly:amd64"]["versions"].values()
    ] == ["b1"]
    for build in ("b1", "b2"):
        moves.withdraw(shop.store, shop.rings["nightly"], "example", build, "bad")
    shop.write()
    assert shop.products() == {}
    assert shop.json("items.json") == {"items": []}


def test_what_was_not_made_for_them_is_not_in_them(shop: Shop) -> None:
    shop.publish("b1", images={"qcow2": b"an image"})
    shop.write()
    assert shop.products() == {}
    assert shop.json("items.json") == {"items": []}


def test_what_is_up_to_date_is_not_written(shop: Shop) -> None:
    assert not exists(shop.store)
    shop.publish("b1")
    written = [key for key in shop.write() if not key.startswith("www/")]
    assert written == [
        "streams/v1/images.json",
        "streams/v1/index.json",
        "vsphere/example/item.json",
        "items.json",
        "lib.json",
    ]
    assert exists(shop.store)
    assert shop.write() == []


def test_a_manifest_that_was_changed_is_refused(shop: Shop) -> None:
    shop.publish("b1")
    (manifest,) = (shop.folder / "store/targets").rglob("*manifest.json")
    manifest.chmod(0o644)
    manifest.write_bytes(manifest.read_bytes() + b" ")
    with pytest.raises(VerificationError, match=r"manifest\.json is not what was published"):
        shop.write()
