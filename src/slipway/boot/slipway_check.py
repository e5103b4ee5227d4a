"""Give checks in Python their tools: the machine's shell, parameters, certificate, ports, and
patience.

``from slipway_check import root, secret`` works in the guest and outside. It needs Python 3.11 and
nothing else. Outside, commands go over SSH, and instances have the names of the spec. In the guest,
the machine is the guest itself.

Invariant: a command, a value or a condition that fails is an ``AssertionError`` with its output.
"""

from __future__ import annotations

import os
import shlex
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from typing import Final, TypeVar

__all__ = [
    "PATIENCE",
    "address",
    "eventually",
    "parameter",
    "root",
    "secret",
    "tcp",
    "tried",
    "trusting",
    "udp",
]

#: The certificate that signs an appliance's own ones.
AUTHORITY: Final = "/var/lib/slipway/certificates/authority.crt"
#: How many times longer than on an idle host with KVM a check may wait: at least 1. Limits are
#: multiplied by it, those of :func:`eventually` already.
PATIENCE: Final = max(1.0, float(os.environ.get("SLIPWAY_PATIENCE", "1")))
_PARAMETERS: Final = "/var/lib/slipway/parameters"
Value = TypeVar("Value")


def address(instance: str = "") -> str:
    """Return the address of the machine, or of another instance, as seen from here."""
    if instance:
        return os.environ[f"SLIPWAY_INSTANCE_{instance.upper()}_ADDRESS"]
    return os.environ.get("SLIPWAY_ADDRESS", "127.0.0.1")


def tried(
    command: str, *, given: str = "", instance: str = "", timeout_s: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run a shell command on the machine as root, and return its exit status and its text.

    On another instance it runs as the instance's SSH user.

    Args:
        given: Its standard input.
        instance: Another instance.
        timeout_s: The time limit, in seconds.

    Raises:
        AssertionError: The time was up.
    """
    name = f"SLIPWAY_INSTANCE_{instance.upper()}_SSH" if instance else "SLIPWAY_SSH"
    inside = not instance and name not in os.environ
    words = ["sh", "-c"] if inside else shlex.split(os.environ[name])
    try:
        return subprocess.run(
            [*words, command], input=given, capture_output=True, text=True, timeout=timeout_s
        )
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"{command}: no end after {timeout_s:g} s") from error


def root(command: str, *, given: str = "", instance: str = "", timeout_s: float = 300) -> str:
    """Run a shell command on the machine as root; return its output without trailing newlines.

    Raises:
        AssertionError: The command failed, or its time was up.
    """
    ended = tried(command, given=given, instance=instance, timeout_s=timeout_s)
    assert ended.returncode == 0, (
        f"{command}: exit status {ended.returncode}\n{ended.stdout}{ended.stderr}"
    )
    return ended.stdout.rstrip("\n")


def parameter(name: str) -> str:
    """Return the value of a parameter of the machine.

    A value missing in the environment, such as a secret, is read by :func:`secret`.
    """
    told = os.environ.get(f"SLIPWAY_PARAMETER_{name.upper()}")
    return secret(name) if told is None else told


def secret(name: str = "password", *, instance: str = "") -> str:
    """Return a parameter's value as the machine keeps it, also if the machine generated it."""
    return root(f"cat {_PARAMETERS}/{shlex.quote(name)}", instance=instance)


def trusting(authority: str = AUTHORITY) -> ssl.SSLContext:
    """Return a TLS context that trusts one certificate on the machine only, and checks its name.

    Args:
        authority: The path of a PEM file on the machine.
    """
    return ssl.create_default_context(cadata=root(f"cat {shlex.quote(authority)}"))


def eventually(condition: Callable[[], Value], *, seconds: float = 60, every: float = 1) -> Value:
    """Try a condition until its value is true, and return the value.

    Args:
        condition: May also raise ``AssertionError`` or ``OSError`` as long as it does not hold.
        seconds: The time limit on an idle host with KVM. There are at least two tries.
        every: Seconds between two tries.

    Raises:
        AssertionError: The condition never held; the cause is its last error.
    """
    until, tries = time.monotonic() + seconds * PATIENCE, 0
    while True:
        value, problem = None, None
        try:
            value = condition()
        except (AssertionError, OSError) as error:
            problem = error
        if value:
            return value
        tries += 1
        if tries > 1 and time.monotonic() > until:
            last = f"{problem}" if problem else f"it is {value!r}"
            raise AssertionError(f"not within {seconds * PATIENCE:g} s: {last}") from problem
        time.sleep(every)


def tcp(port: int, *, host: str = "", timeout_s: float = 20) -> socket.socket:
    """Return a connection to a TCP port of the machine, or of another host.

    Raises:
        OSError: Nobody answers, or the connection is refused.
    """
    return socket.create_connection((host or address(), port), timeout=timeout_s)


def udp(port: int, message: bytes, *, host: str = "", timeout_s: float = 5) -> bytes | None:
    """Return the answer of a UDP port of the machine, or of another host; None if there is none.

    The message is sent anew each second, as datagrams get lost.
    """
    at = (host or address(), port)
    family = socket.getaddrinfo(*at, type=socket.SOCK_DGRAM)[0][0]
    with socket.socket(family, socket.SOCK_DGRAM) as talk:
        talk.settimeout(1)
        talk.connect(at)
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            try:
                talk.send(message)
                return talk.recv(65535)
            except TimeoutError:
                continue
            except ConnectionRefusedError:
                time.sleep(1)
    return None
