"""What a check asks for, beside each check in Python: the machine's shell, its parameters and its
certificate, its ports, and patience.

``from slipway_check import root, secret`` works in the guest and outside. It needs Python 3.11 and
nothing else. Outside, commands go over SSH, and names of instances are those of the spec; in the
guest the machine is the one that the check runs in.

Invariant: a command, a value or a condition that fails is an ``AssertionError`` with what was said.
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

#: Where an appliance has the certificate that its own ones are signed by.
AUTHORITY: Final = "/var/lib/slipway/certificates/authority.crt"
#: How many times longer than on an idle host with KVM a check may wait: at least 1. Limits are
#: multiplied by it, those of :func:`eventually` already.
PATIENCE: Final = max(1.0, float(os.environ.get("SLIPWAY_PATIENCE", "1")))
_PARAMETERS: Final = "/var/lib/slipway/parameters"
Value = TypeVar("Value")


def address(instance: str = "") -> str:
    """Return the address of the machine, or of another instance, as it is reached from here."""
    if instance:
        return os.environ[f"SLIPWAY_INSTANCE_{instance.upper()}_ADDRESS"]
    return os.environ.get("SLIPWAY_ADDRESS", "127.0.0.1")


def tried(
    command: str, *, given: str = "", instance: str = "", timeout_s: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run a command of a shell on the machine as root (an instance: as its SSH user), and return
    how it ended, with its text.

    Args:
        given: Its standard input.
        instance: Another instance.
        timeout_s: How long it may take, in seconds.

    Raises:
        AssertionError: Its time was up.
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
    """Run a command of a shell on the machine as root and return its output, without the newlines
    at its end.

    Raises:
        AssertionError: It failed, or its time was up.
    """
    ended = tried(command, given=given, instance=instance, timeout_s=timeout_s)
    assert ended.returncode == 0, (
        f"{command}: exit status {ended.returncode}\n{ended.stdout}{ended.stderr}"
    )
    return ended.stdout.rstrip("\n")


def parameter(name: str) -> str:
    """Return the value that the machine was given for a parameter; a secret is not told here, see
    :func:`secret`.
    """
    told = os.environ.get(f"SLIPWAY_PARAMETER_{name.upper()}")
    return secret(name) if told is None else told


def secret(name: str = "password", *, instance: str = "") -> str:
    """Return a parameter's value as the machine keeps it: also one that it has made for itself."""
    return root(f"cat {_PARAMETERS}/{shlex.quote(name)}", instance=instance)


def trusting(authority: str = AUTHORITY) -> ssl.SSLContext:
    """Return a context for TLS that trusts a certificate on the machine and no other, and wants
    its name.

    Args:
        authority: The path of a PEM file on the machine.
    """
    return ssl.create_default_context(cadata=root(f"cat {shlex.quote(authority)}"))


def eventually(condition: Callable[[], Value], *, seconds: float = 60, every: float = 1) -> Value:
    """Return the first value that is true, and try again until then.

    Args:
        condition: May also raise ``AssertionError`` or ``OSError`` as long as it does not hold.
        seconds: How long it is tried on an idle host with KVM, at least twice.
        every: Seconds between two tries.

    Raises:
        AssertionError: It never held; the last error of its own is the cause.
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
        OSError: Nobody answers, or it is refused.
    """
    return socket.create_connection((host or address(), port), timeout=timeout_s)


def udp(port: int, message: bytes, *, host: str = "", timeout_s: float = 5) -> bytes | None:
    """Return what a UDP port of the machine, or of another host, answers; None for nothing.

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
