"""Rendered files, downloads and mount points -> nothing, or an error: each has a place of its own.

What goes in: what a builder renders for a tree, and paths. Invariant: no file is where another one
needs a folder, so nothing of that kind stops a build that has begun.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePosixPath
from typing import Final

from slipway.errors import UsageError
from slipway.rendering.render import Rendered

__all__ = ["require_apart"]

#: Where builders render the files of a tree: Packer's has those of a bare one beside it.
_FILES: Final = ("files/", "tree/files/")


def require_apart(
    name: str, rendered: Rendered, *, downloads: Collection[str], volumes: Collection[str]
) -> None:
    """Refuse a file in the place of another one, or in that of its folder.

    The files are those of the image, the base, the mix-ins, the appliance, and those that are made
    of the spec.

    Args:
        name: The appliance's.
        downloads: The paths of further files.
        volumes: The paths where file systems of their own will be.

    Raises:
        UsageError: There is one.
    """
    files: set[str] = set()
    for folder in _FILES:
        found = [path for path in rendered.files if path.startswith(folder)]
        files = files or {f"/{path.removeprefix(folder)}" for path in found}
    for download in downloads:
        if download in files:
            raise UsageError(
                f"{name} has {download} twice: the image has this file, and it is a download",
                hint="remove one of the two",
            )
    points = {f"{volume}/" for volume in volumes}
    files |= set(downloads)
    for path in sorted(files | points):
        # A mount point is the folder of what will be in it.
        above = [PurePosixPath(path)] if path in points else []
        above += PurePosixPath(path).parents
        file = next((str(folder) for folder in above if str(folder) in files), None)
        if file is not None:
            what = "a volume's place" if path in points else f"the folder of {path}"
            raise UsageError(
                f"{name} has {file} as a file or a link, and as {what}",
                hint="remove or rename one of the two",
            )
