"""Scripts are read by the shell that will run them, before anything is built; none is run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.errors import SpecError, SpecErrors
from slipway.spec.library import Library
from slipway.spec.scripts import load_checked, script_errors

Write = Callable[..., Path]


def errors(root: Path) -> str:
    with pytest.raises(SpecErrors) as caught:
        load_checked(Library(root), ["web"])
    return str(caught.value).replace(f"{root}/", "")


def test_the_systems_own_shell_reads_them(
    root: Path, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one that the caller's PATH has first: a build runs the system's."""
    (tmp_path / "sh").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "sh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    write(files={"setup/10-a.sh": "if true; then\n"})
    assert 'sh cannot read this: Syntax error: end of file unexpected (expecting "fi")' in errors(
        root
    )


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        (
            "setup/10-a.sh",
            "#!/bin/sh\nif true; then\necho a\n",
            "setup/10-a.sh:4: error: sh cannot read this: Syntax error: end of file unexpected "
            '(expecting "fi")\n'
            "  hint: see: sh -n appliances/web/setup/10-a.sh",
        ),
        (
            "firstboot/10-a.sh",
            "x=$(a\n",
            "firstboot/10-a.sh:2: error: sh cannot read this: Syntax error: "
            'end of file unexpected (expecting ")")\n'
            "  hint: see: sh -n appliances/web/firstboot/10-a.sh",
        ),
        (
            "checks/a.sh",
            "#!/bin/sh\nf() {\n}\n",
            (
                'checks/a.sh:3: error: sh cannot read this: Syntax error: "}" unexpected\n'
                "  hint: see: sh -n appliances/web/checks/a.sh"
            ),
        ),
        (
            "setup/10-a.sh",
            "#!/bin/bash\ntrue\n",
            "setup/10-a.sh:1:1: error: the first line names /bin/bash, and this is run by sh -eu\n"
            "  hint: write it for sh; or put the program into files/ and start it from here",
        ),
        (
            "checks/a.py",
            "#!/bin/sh\ntrue\n",
            "checks/a.py:1:1: error: the first line names /bin/sh, and this is run by python3\n"
            "  hint: write it for python3; or put the program into files/ and start it from here",
        ),
        (
            "checks/a.py",
            "#!/usr/bin/env python3\nx = (\n",
            "checks/a.py:2:5: error: no Python: '(' was never closed",
        ),
    ],
)
def test_what_cannot_be_run_is_an_error_with_its_line(
    root: Path, write: Write, file: str, text: str, said: str
) -> None:
    write(files={file: text})
    assert errors(root) == f"appliances/web/{said}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "#!perl\n",
            (
                ":1:1: error: the first line names perl, which is not an absolute path\n"
                "  hint: such as #!/usr/bin/perl"
            ),
        ),
        ("#!/bin/bash\na=(1 2\n", ":2: error: bash cannot read this: "),
        ("#! /usr/bin/env sh\na=(1 2\n", ":2: error: sh cannot read this: "),
    ],
)
def test_programs_of_the_image_are_read_too(root: Path, write: Write, text: str, said: str) -> None:
    (write(files={"files/usr/bin/a": text}) / "files/usr/bin/a").chmod(0o755)
    assert errors(root).startswith(f"appliances/web/files/usr/bin/a{said}")


def test_nothing_is_run_and_what_is_no_script_is_left_alone(
    root: Path, write: Write, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    folder = write(
        files={
            "setup/10-a.sh": f"#!/bin/sh -e\ntouch {mark}\n: $(touch {mark})\n",
            "checks/a.py": f"#!/usr/bin/python3\nopen({str(mark)!r}, 'w')\n",
            "files/etc/a.conf": "#!KAMAILIO\nif (\n",
            "files/usr/bin/a.j2": "#!{{ spec.name }}\nif (\n",
            "files/usr/bin/b": f"#!/bin/bash\na=(1 2)\ntouch {mark}\n",
            "files/usr/bin/c": "\x7fELF",
        }
    )
    for name in ("a.j2", "b", "c"):
        (folder / "files/usr/bin" / name).chmod(0o755)
    assert [each.name for each in load_checked(Library(root), ["web"])] == ["web"]
    assert not mark.exists()


@pytest.mark.parametrize(
    "name", ["setup/10-a.sh", "firstboot/10-a.sh", "checks/a.sh", "checks/a.py", "files/usr/bin/a"]
)
@pytest.mark.parametrize("up", [0, 1])
def test_what_became_a_link_since_it_was_listed_is_not_read(
    root: Path, write: Write, tmp_path: Path, name: str, up: int
) -> None:
    script = write(files={name: "#!/bin/sh\n"}) / name
    script.chmod(0o755)
    appliance = Library(root).load("web")
    swapped = (script, script.parent)[up]
    kept = swapped.rename(tmp_path / "of-the-host")
    swapped.symlink_to(kept)
    with pytest.raises(SpecError, match="cannot be read"):
        script_errors([appliance])


def test_errors_of_specs_and_of_scripts_come_at_once(root: Path, write: Write) -> None:
    write(files={"setup/10-a.sh": "fi\n"})
    (root / "appliances/apart").mkdir()
    (root / "appliances/apart/appliance.yaml").write_text("schema: 1\n")
    with pytest.raises(SpecErrors) as caught:
        load_checked(Library(root), ["apart", "web"])
    places = {
        str(error.where.path.relative_to(root)) for error in caught.value.errors if error.where
    }
    assert places == {"appliances/apart/appliance.yaml", "appliances/web/setup/10-a.sh"}


def test_a_time_zone_that_there_is_not(root: Path, write: Write) -> None:
    write("timezone: Europe/Berlim\n")
    assert errors(root) == (
        "appliances/web/appliance.yaml:6:11: error: timezone: there is no time zone "
        '"Europe/Berlim"\n  hint: did you mean "Europe/Berlin"?'
    )
    for zone in ("Europe/Berlin", "US/Pacific", "Etc/UTC"):
        write(f"timezone: {zone}\n")
        load_checked(Library(root), ["web"])
