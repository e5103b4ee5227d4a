"""What is left of packages' documentation where a spec does not keep it: each package's licence."""

from __future__ import annotations

import subprocess
from pathlib import Path

CHROOT = Path(__file__).parents[3] / "templates/mmdebstrap/chroot.sh"


def test_each_package_keeps_its_licence_also_where_it_is_in_another_packages_folder(
    tmp_path: Path,
) -> None:
    documents = tmp_path / "tree/usr/share/doc"
    for name in (
        "base/copyright",
        "base/changelog.gz",
        "base/examples/copyright.txt",
        "other/README",
    ):
        (documents / name).parent.mkdir(parents=True, exist_ok=True)
        (documents / name).touch()
    (documents / "library").symlink_to("base")
    (documents / "other/NEWS").symlink_to("README")
    (documents / "other/copyright").symlink_to("../base/copyright")
    info = tmp_path / "tree/usr/share/info/dir"
    info.parent.mkdir()
    info.touch()
    script = tmp_path / "script"
    script.write_text(f"{CHROOT.read_text()}\ndrop_documentation {tmp_path / 'tree'}\n")
    subprocess.run(["sh", "-eu", script], check=True, timeout=60)
    left = sorted(
        path.relative_to(documents).as_posix()
        for path in documents.rglob("*")
        if path.is_symlink() or path.is_file()
    )
    assert left == ["base/copyright", "library", "other/copyright"]
    assert (documents / "library/copyright").is_file()
    assert not info.exists()
