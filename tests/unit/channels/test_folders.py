"""Builds of other jobs: each counts for the appliance that its job was for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from example_release import write_example
from slipway.channels.folders import builds_below
from slipway.errors import BuildError, UsageError
from slipway.host import process
from slipway.outputs import announce, announced

NOTHING = "the build is not the requested one, and nothing is published"


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """What two jobs left."""
    write_example(tmp_path / "built/build-web/1.0.0-b1", 1, "web")
    write_example(tmp_path / "built/build-mail/1.0.0-b1", 1, "mail")
    return tmp_path / "built"


def test_each_folder_is_for_the_appliance_that_it_is_named_after(built: Path) -> None:
    both = [built / "build-mail/1.0.0-b1", built / "build-web/1.0.0-b1"]
    assert builds_below(built) == both
    assert builds_below(built, "build-*") == both
    assert builds_below(built / "build-web", "web") == [both[1]]


def test_a_build_of_another_appliance_is_refused(built: Path) -> None:
    """The job for web also made a mail server, or made nothing else."""
    with pytest.raises(BuildError) as caught:
        builds_below(built, "web")
    assert str(caught.value) == (
        f"error: {built}/build-mail/1.0.0-b1 has a build of mail, and is for web\n  hint: {NOTHING}"
    )
    write_example(built / "build-web/2.0.0-b2", 2, "mail")
    with pytest.raises(BuildError) as caught:
        builds_below(built, "build-*")
    assert str(caught.value) == (
        f"error: {built}/build-web/2.0.0-b2 has a build of mail, and is for web\n  hint: {NOTHING}"
    )


@pytest.mark.parametrize("place", ["extra/1.0.0-b1", "build-/1.0.0-b1", "1.0.0-b1"])
def test_a_build_in_a_place_of_no_appliance_is_refused(built: Path, place: str) -> None:
    write_example(built / place, 1, "web")
    with pytest.raises(BuildError) as caught:
        builds_below(built, "build-*")
    assert (
        str(caught.value)
        == f"error: {built / place} has a build of web, and is for nothing\n  hint: {NOTHING}"
    )


def test_links_and_pipes_are_no_build(built: Path, tmp_path: Path) -> None:
    """A link to a folder is not followed; a link in a build would be read as a file of it."""
    write_example(tmp_path / "elsewhere", 1, "web")
    (built / "build-web/link").symlink_to(tmp_path / "elsewhere")
    assert len(builds_below(built, "build-*")) == 2
    image = built / "build-web/1.0.0-b1/web.raw"
    image.unlink()
    os.mkfifo(image)
    with pytest.raises(BuildError) as caught:
        builds_below(built, "build-*")
    assert (
        str(caught.value)
        == f"error: {image} is not a file\n  hint: a build consists of files: build it again"
    )
    image.unlink()
    image.symlink_to(tmp_path / "elsewhere/web.raw")
    with pytest.raises(BuildError, match="is not a file"):
        builds_below(built)


def test_what_a_build_process_announces_is_what_was_asked_for(tmp_path: Path) -> None:
    """It runs what appliances bring along, so it may announce anything."""
    write_example(tmp_path / "build/web/1.0.0-b1", 1, "web")
    write_example(tmp_path / "build/mail/1.0.0-b1", 1, "web")
    said = tmp_path / "said"
    said.mkdir()
    announce(str(said), "web", tmp_path / "build/web/1.0.0-b1")
    assert announced(str(said), tmp_path, {"web"}) == [tmp_path / "build/web/1.0.0-b1"]
    announce(str(said), "mail", tmp_path / "build/mail/1.0.0-b1")
    with pytest.raises(BuildError) as caught:
        announced(str(said), tmp_path, {"web"})
    assert str(caught.value) == (
        f"error: {tmp_path}/build/mail/1.0.0-b1 was not requested\n  hint: requested: web"
    )
    with pytest.raises(BuildError) as caught:
        announced(str(said), tmp_path)
    assert str(caught.value) == (
        f"error: {tmp_path}/build/mail/1.0.0-b1 has a build of web, and is for mail\n"
        f"  hint: {NOTHING}"
    )
    announce(str(said), "mail", tmp_path / "build/web/1.0.0-b1")
    with pytest.raises(BuildError, match="is not a release of mail"):
        announced(str(said), tmp_path)


def test_what_is_asked_for_must_make_sense(built: Path, tmp_path: Path) -> None:
    for only in ("*-*", "build/*"):
        with pytest.raises(UsageError) as wrong:
            builds_below(built, only)
        assert str(wrong.value) == (
            f'error: "{only}" is neither an appliance nor the name of folders\n'
            "  hint: for example: --only 'build-*'"
        )
    (tmp_path / "empty").mkdir()
    with pytest.raises(BuildError) as caught:
        builds_below(tmp_path / "empty", "web")
    assert str(caught.value) == (
        f"error: there is no finished build below {tmp_path}/empty\n  hint: run: invoke build --all"
    )


@pytest.mark.integration
def test_a_walk_has_no_depth_at_which_it_breaks(tmp_path: Path) -> None:
    """A path has at most 4,096 bytes (PATH_MAX): what is deeper cannot be read, and is no error."""
    build = tmp_path / "builds/one"
    write_example(build, 1)
    folder = os.open(tmp_path / "builds", os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    try:
        assert builds_below(tmp_path / "builds") == [build]
    finally:
        # pytest's own way of removing it is not deep enough
        process.run(["rm", "-rf", tmp_path / "builds/d"])
