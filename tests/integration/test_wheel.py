"""The package: sdist and wheel as `python -m build` makes them, and what the installed command does
without a checkout.
"""

from __future__ import annotations

import email
import importlib.util
import os
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import boto3
import pytest

from example_release import write_example
from installed import build_both, install
from web_server import certificate, web_server

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist and the wheel."""
    return build_both(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def command(packages: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of the wheel, installed without any extra."""
    return install(packages[1], tmp_path_factory.mktemp("installed") / "venv")


class Reader:
    """Somebody with the installed command and an empty folder."""

    def __init__(self, command: Path, folder: Path, **variables: str) -> None:
        self.command, self.folder = command, folder
        self.variables = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder / "home"),
            "LC_ALL": "C.UTF-8",
            **variables,
        }

    def run(self, *words: str, status: int = 0) -> str:
        """Run a command; return what it printed, or its error."""
        done = subprocess.run(
            [self.command, *words],
            env=self.variables,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout if status == 0 else done.stderr


@pytest.fixture
def reader(command: Path, tmp_path: Path) -> Reader:
    (tmp_path / "empty").mkdir()
    return Reader(command, tmp_path / "empty", no_proxy="127.0.0.1")


def publish(reader: Reader, store: str) -> bytes:
    """Publish a release elsewhere, and trust its channel here; return the image."""
    publisher = Reader(reader.command, reader.folder.parent / "publisher", **reader.variables)
    publisher.folder.mkdir()
    publisher.variables["HOME"] = str(publisher.folder)
    write_example(publisher.folder / "build", 1)
    publisher.run("keys", "init", "nightly", "--no-passphrase")
    publisher.run("publish", "--folder=build", f"--store={store}")
    (reader.folder / "trust").mkdir()
    root = publisher.folder / ".config/slipway/keys/nightly/1.root.json"
    (reader.folder / "trust/nightly.root.json").write_bytes(root.read_bytes())
    (image,) = (publisher.folder / "build").glob("*.qcow2")
    return image.read_bytes()


def reads(reader: Reader, store: str) -> bytes:
    """List, fetch and audit; return the image."""
    assert re.search(r"\nnightly +example +1\.0\.0-b1", reader.run("channels", f"--store={store}"))
    reader.run("fetch", "example", "--channel=nightly", f"--store={store}", "--out=images")
    assert reader.run("verify", f"--store={store}").startswith("nightly: ")
    (image,) = (reader.folder / "images").glob("*.qcow2")
    return image.read_bytes()


def test_the_sdist_has_no_links_and_the_wheel_is_made_of_it(packages: tuple[Path, Path]) -> None:
    with tarfile.open(packages[0]) as archive:
        members = archive.getmembers()
    assert [member.name for member in members if not (member.isfile() or member.isdir())] == []
    wheel = zipfile.ZipFile(packages[1]).namelist()
    sources = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src/slipway").rglob("*")
        if path.is_file()
    }
    assert {name for name in wheel if name.startswith("slipway/")} == {
        name for name in sources if "__pycache__" not in name
    }


def test_the_metadata_names_everything_that_an_index_shows(packages: tuple[Path, Path]) -> None:
    archive = zipfile.ZipFile(packages[1])
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = email.message_from_bytes(archive.read(name))
    assert metadata["Author"] == "The Slipway maintainers"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "qcow2" in metadata["Keywords"].split(",")
    assert "Programming Language :: Python :: 3.14" in metadata.get_all("Classifier", [])
    assert metadata["Description-Content-Type"] == "text/markdown"
    links = re.findall(r"\]\(([^)]+)\)", str(metadata.get_payload()))
    assert [link for link in links if not link.startswith("https://")] == []


def hook() -> ModuleType:
    """Load hatch_build.py."""
    specification = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("remote", "page"),
    [
        ("https://forge.example/some/fork.git", "https://forge.example/some/fork"),
        ("https://user:secret@forge.example/some/fork", "https://forge.example/some/fork"),
        ("git@forge.example:some/fork.git", "https://forge.example/some/fork"),
        ("ssh://git@forge.example/some/fork", "https://forge.example/some/fork"),
        ("/srv/git/fork", None),
        (None, None),
    ],
)
def test_links_lead_to_the_forge_that_the_checkout_is_from(
    remote: str | None, page: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY"):
        monkeypatch.delenv(name, raising=False)
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True, timeout=30)
    if remote:
        subprocess.run(
            ["git", "-C", tmp_path, "remote", "add", "origin", remote], check=True, timeout=30
        )
    made = hook()
    assert made.home(tmp_path) == page
    assert made.urls(page).get("Changelog") == (f"{page}/blob/HEAD/CHANGELOG.md" if page else None)
    text = "[a](folder/a.md), [b](https://b.example), [c](#c)"
    there = f"[a]({page}/blob/HEAD/folder/a.md)" if page else "a"
    assert made.readme(text, page) == f"{there}, [b](https://b.example), [c](#c)"


def test_a_workflow_names_its_own_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://forge.example")
    monkeypatch.setenv("GITHUB_REPOSITORY", "some/fork")
    assert hook().home(tmp_path) == "https://forge.example/some/fork"


def test_without_a_checkout_a_directory_is_read_and_verified(reader: Reader) -> None:
    assert reader.run("--version") == "slipway 0.1.0\n"
    store = str(reader.folder.parent / "store")
    image = publish(reader, store)
    assert reads(reader, store) == image


def test_without_a_checkout_a_web_server_is_read_and_verified(reader: Reader) -> None:
    pem = certificate(reader.folder.parent)
    reader.variables["SSL_CERT_FILE"] = str(pem)
    image = publish(reader, str(reader.folder.parent / "store"))
    with web_server(pem) as server:
        server.folder = reader.folder.parent / "store"
        assert reads(reader, server.url) == image


@contextmanager
def object_storage() -> Iterator[str]:
    """Run moto's server with a bucket; return the store's URL."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        secrets = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **secrets).create_bucket(
            Bucket="installed"
        )
        yield f"s3://installed/prefix?endpoint_url={endpoint}"
    finally:
        server.stop()


def test_object_storage_wants_the_extra_and_works_with_it(
    reader: Reader, packages: tuple[Path, Path], tmp_path: Path
) -> None:
    said = reader.run("channels", "--store=s3://installed/prefix", status=4)
    assert said == (
        "error: S3 stores need boto3: No module named 'boto3'\n  hint: pip install 'slipway[s3]'\n"
    )
    variables = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with_extra = Reader(
        install(packages[1], tmp_path / "venv", ["s3"]),
        reader.folder,
        **reader.variables,
        **variables,
    )
    with object_storage() as store:
        image = publish(with_extra, store)
        assert reads(with_extra, store) == image


@pytest.mark.parametrize(
    "words", ["list", "validate", "new thing", "build --all", "plan thing", "releases thing"]
)
def test_what_needs_a_checkout_says_so_and_writes_nothing(words: str, reader: Reader) -> None:
    assert reader.run(*words.split(), status=2) == (
        f"error: {reader.folder} is not a checkout of Slipway: it has no templates/\n"
        "  hint: change to a checkout, or give it as --root FOLDER\n"
    )
    assert list(reader.folder.iterdir()) == []


@pytest.mark.parametrize("words", ["test --unit", "lint", "mutants", "bench", "deps", "schema"])
def test_work_on_slipway_itself_needs_its_checkout(words: str, reader: Reader) -> None:
    assert reader.run(*words.split(), status=2) == (
        f"error: {reader.folder} is not a checkout of Slipway: it has no src/slipway/\n"
        "  hint: change to a checkout, or give it as --root FOLDER\n"
    )
    assert list(reader.folder.iterdir()) == []


@pytest.mark.parametrize("words", ["test --unit", "lint", "deps"])
def test_the_installed_command_lacks_what_development_needs(words: str, reader: Reader) -> None:
    assert reader.run(*words.split(), f"--root={ROOT}", status=4) == (
        "error: the Python package packaging is not installed\n"
        "  hint: use the checkout's own command, which installs it: ./run\n"
    )


def test_the_installed_command_works_on_a_checkout(reader: Reader) -> None:
    names = sorted(path.name for path in (ROOT / "appliances").iterdir() if path.is_dir())
    assert reader.run("list", "--names", f"--root={ROOT}").split() == names


def test_help_and_hints_name_the_command_that_was_typed(reader: Reader) -> None:
    assert (
        reader.run("frob", status=2)
        == 'error: unknown task "frob"\n  hint: slipway --list shows the tasks\n'
    )
    assert reader.run("fetch", "--help").startswith("Usage: slipway fetch NAME [options]\n")
    assert "./run" not in reader.run("--help") and "invoke" not in reader.run("--help")
    said = reader.run("fetch", "example", f"--store={os.devnull}x", status=6)
    assert "invoke" not in said and "slipway publish NAME" in said
