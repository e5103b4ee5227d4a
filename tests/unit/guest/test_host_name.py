"""Each instance has a host name of its own, unless somebody gave it one."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.host import process

PROGRAM = Path(__file__).parents[3] / "templates/guest/files/usr/lib/slipway/host-name"
IMAGE = "usr/lib/slipway/image-name"


GUEST = PROGRAM.parents[4]


def _text(path: Path) -> str:
    return path.read_text() if path.is_file() and not path.is_symlink() else ""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The file system of an instance that has not started yet."""
    files = {IMAGE: "web\n", "etc/hostname": "web\n", "etc/machine-id": "a" * 32 + "\n"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def started(root: Path, *, machine: str = "") -> str:
    """The host name after a start, as a machine with such an id if one is given."""
    if machine:
        (root / "etc/machine-id").write_text(machine * 32 + "\n")
    process.run([PROGRAM, root])
    return (root / "etc/hostname").read_text().strip()


def test_each_instance_has_a_name_of_its_own_and_keeps_it(root: Path) -> None:
    first = started(root)
    assert first.startswith("web-")
    assert len(first) == len("web-") + 6
    assert started(root) == first
    clone = started(root, machine="b")
    assert clone.startswith("web-")
    assert clone != first
    assert started(root, machine="a") == first


def test_a_name_that_was_given_stays(root: Path) -> None:
    (root / "etc/hostname").write_text("db1.example.org\n")
    assert started(root) == started(root, machine="b") == "db1.example.org"


def test_a_name_that_somebody_puts_back_stays(root: Path) -> None:
    started(root)
    (root / "etc/hostname").write_text("web\n")
    assert started(root) == "web"


def test_a_root_that_is_read_only_gets_the_same_name_at_each_start(root: Path) -> None:
    (root / "usr/lib/slipway/appliance").touch()
    first = started(root)
    (root / "etc/hostname").write_text("web\n")
    assert started(root) == first != "web"


@pytest.mark.parametrize("torn", ["", "\n"])
def test_a_file_that_a_power_cut_left_empty_is_written_again(root: Path, torn: str) -> None:
    first = started(root)
    (root / "etc/hostname").write_text(torn)
    assert started(root) == first


def test_a_long_name_is_still_one_that_the_kernel_takes(root: Path) -> None:
    for name in (IMAGE, "etc/hostname"):
        (root / name).write_text("w" * 63 + "\n")
    assert len(started(root)) == 63


@pytest.mark.parametrize(
    "unit",
    sorted(
        path.relative_to(GUEST)
        for path in GUEST.glob("**/systemd/system/*.*")
        if "[Install]" in _text(path)
    ),
    ids=str,
)
def test_each_unit_of_every_machine_starts_with_it(unit: Path) -> None:
    """It has the link that `systemctl enable` would make."""
    lines = (GUEST / unit).read_text().splitlines()
    wanted = next(line.partition("=")[2] for line in lines if line.startswith("WantedBy="))
    links = [folder / unit.name for folder in GUEST.glob(f"*/etc/systemd/system/{wanted}.wants")]
    assert [str(link.readlink()) for link in links if link.is_symlink()] == [
        f"/usr/lib/systemd/system/{unit.name}"
    ]
