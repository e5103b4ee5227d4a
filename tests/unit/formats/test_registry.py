"""What slipway.formats finds, and says when it finds nothing."""

from __future__ import annotations

import pytest

from slipway import formats
from slipway.errors import BuildError, UsageError
from slipway.formats import Artifact


def test_every_module_is_a_format_that_says_the_same_name() -> None:
    assert {"qcow2", "raw"} <= set(formats.names())
    for name in formats.names():
        form = formats.load(name)
        assert form.name == name
        assert form.suffix.startswith(".")


def test_an_unknown_format_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(UsageError) as caught:
        formats.load("qcow")
    assert str(caught.value) == 'error: there is no format "qcow"\n  hint: did you mean "qcow2"?'


def test_facts_and_artifact_are_two_forms_of_one_thing() -> None:
    artifact = Artifact(
        format="raw",
        file="a.raw.zst",
        size=1,
        sha256="0" * 64,
        uncompressed_size=2,
        uncompressed_sha256="1" * 64,
        compression="zstd",
    )
    assert Artifact.from_facts(artifact.facts()) == artifact
    assert Artifact.from_facts(artifact.facts(), file="b.raw.zst").file == "b.raw.zst"


def test_a_format_whose_machine_needs_another_kernel_is_refused() -> None:
    for name in formats.names():
        formats.require(formats.load(name), "thing", formats.load(name).kernel or "cloud")
    with pytest.raises(BuildError) as caught:
        formats.require(formats.load("ova"), "thing", "cloud")
    assert str(caught.value) == (
        "error: the machine of an ova has hardware that the cloud kernel of thing has "
        "no drivers for\n"
        "  hint: set in the spec: kernel: generic"
    )
