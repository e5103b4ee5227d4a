"""A real object store: Ceph's gateway, for as long as the tests run; its packages are kept in the
cache.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import boto3
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from slipway.cache import Cache
from slipway.host.namespace import Namespace
from slipway.packages.mirror import find_mirrors
from slipway.settings import load_settings

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("rgw.sh")
_NUMBERS = count()


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where the gateway is; credentials are in the environment."""

    http: str
    https: str
    certificate: Path

    def bucket(self, endpoint: str) -> str:
        """The URL of a new bucket."""
        name = f"bucket-{next(_NUMBERS)}"
        verify = str(self.certificate)
        boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1", verify=verify
        ).create_bucket(Bucket=name)
        return f"s3://{name}/some/prefix?endpoint_url={endpoint}"


def free_ports(number: int) -> list[int]:
    """Ports of loopback that nobody uses now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def write_certificate(folder: Path) -> None:
    """A certificate for 127.0.0.1 that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private)


def tree() -> Path:
    """The gateway's packages, unpacked: made once, whole or not at all."""
    settings = load_settings(ROOT)
    cache = settings.cache / "ceph"
    cache.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(SCRIPT.read_bytes().partition(b"start)")[0]).hexdigest()[:12]
    with Cache(cache, limit_bytes=0).locked(name, lambda: None):
        if not (cache / name).is_dir():
            mirror = find_mirrors(settings)["debian"]
            shutil.rmtree(cache / f"{name}.new", ignore_errors=True)
            with Namespace() as place:
                place.run(
                    ["sh", SCRIPT, "make", cache / f"{name}.new", mirror],
                    what="the gateway's packages",
                    timeout_s=900,
                )
            (cache / f"{name}.new").rename(cache / name)
    return cache / name


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    if os.geteuid() != 0 and not os.environ.get("CI"):
        pytest.skip("the gateway runs as root")
    folder = tmp_path_factory.mktemp("gateway")
    write_certificate(folder)
    http, https, monitor = free_ports(3)
    environment = {"HTTP_PORT": str(http), "HTTPS_PORT": str(https), "MONITOR_PORT": str(monitor)}
    with Namespace(directory=folder) as place:
        place.run(
            ["sh", SCRIPT, "start", tree()],
            env=environment,
            log=folder / "start.log",
            timeout_s=180,
        )
        yield Gateway(
            f"http://127.0.0.1:{http}", f"https://127.0.0.1:{https}", folder / "certificate.pem"
        )
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def credentials(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testaccess")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testsecret")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(gateway.certificate))


@pytest.fixture(params=[pytest.param("http", marks=pytest.mark.nightly), "https"])
def url(request: pytest.FixtureRequest, gateway: Gateway) -> str:
    """A new bucket: by the way that people use, and at night by both."""
    return gateway.bucket(getattr(gateway, request.param))


@pytest.fixture
def plain_url(gateway: Gateway) -> str:
    """A new bucket, over HTTP."""
    return gateway.bucket(gateway.http)


MakeBuild = Callable[[int], Path]
