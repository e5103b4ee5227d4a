#!/usr/bin/env python3
# timeout: 180
"""Through the firewall: a forwarded port leads inside and nothing else does, and inside clients are
translated and may not go everywhere. Five thousand connections of theirs at once leave room for one
more.

The client that both directions need lives in the network namespace of the inside segment, which
this check enters; it has the address that the default of `forward_tcp` leads to, and loses it at
the end.
"""

import contextlib
import ipaddress
import os
import socket
import subprocess
import sys

ADDRESS, GATEWAY = os.environ["SLIPWAY_ADDRESS"], os.environ["SLIPWAY_GATEWAY"]
INSIDE = ipaddress.IPv4Interface(os.environ["SLIPWAY_PARAMETER_INSIDE_ADDRESS"])
PORT, HOST, HOST_PORT = os.environ["SLIPWAY_PARAMETER_FORWARD_TCP"].split()[0].split(":")
CLIENT = str(INSIDE.network.network_address + int(HOST))

SERVER = f"""
import socket
with socket.create_server(("{CLIENT}", {HOST_PORT})) as server:
    print("ready", flush=True)
    server.settimeout(60)
    connection, peer = server.accept()
    connection.sendall(peer[0].encode())
    connection.close()
"""
CALLER = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5) as connection:
        print(connection.recv(64).decode())
except OSError as error:
    print("refused:", error)
"""
HOLDER = """
import resource, socket, sys
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
held = []
try:
    for number in range(int(sys.argv[3])):
        held.append(socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20))
except OSError as error:
    print(f"connection {number}: {error}", flush=True)
else:
    print("open", flush=True)
sys.stdin.read()
"""
FLOWS = 5000


def inside(*argv: str) -> str:
    """Run a command in the inside network; its output."""
    return subprocess.run(
        ["ip", "netns", "exec", "inside", *argv],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    ).stdout.strip()


def forwarded() -> None:
    """The forwarded port of the outside address reaches the client, which sees who really
    called.
    """
    command = ["ip", "netns", "exec", "inside", sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None and server.stdout.readline() == "ready\n"
            with socket.create_connection((ADDRESS, int(PORT)), timeout=15) as connection:
                seen = connection.recv(64).decode()
            assert seen == GATEWAY, f"the inside server saw {seen!r}, not {GATEWAY}"
            print(f"{ADDRESS}:{PORT} leads to {CLIENT}:{HOST_PORT}")
        finally:
            server.kill()


def kept_out() -> None:
    """Who knows the client's inside address, and the way there, does not reach what it serves."""
    way = [f"{CLIENT}/32", "via", ADDRESS, "dev", os.environ["SLIPWAY_INTERFACE"]]
    command = ["ip", "netns", "exec", "inside", sys.executable, "-c", SERVER]
    subprocess.run(["ip", "route", "replace", *way], check=True)
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None and server.stdout.readline() == "ready\n"
                connection = socket.create_connection((CLIENT, int(HOST_PORT)), timeout=5)
            except OSError as error:
                print(f"{CLIENT}:{HOST_PORT} is not reached from outside: {error}")
            else:
                connection.close()
                raise AssertionError(
                    f"{CLIENT}:{HOST_PORT}, inside, was reached from outside by its own address"
                )
            finally:
                server.kill()
    finally:
        subprocess.run(["ip", "route", "del", *way], check=True)


def translated() -> None:
    """A server outside sees the firewall's address, not the client's."""
    with socket.create_server((GATEWAY, 0)) as server:
        command = [
            "ip",
            "netns",
            "exec",
            "inside",
            sys.executable,
            "-c",
            CALLER,
            GATEWAY,
            str(server.getsockname()[1]),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as caller:
            server.settimeout(15)
            connection, peer = server.accept()
            connection.sendall(b"hello")
            connection.close()
            answer, _ = caller.communicate(timeout=15)
    assert peer[0] == ADDRESS, f"the outside server saw {peer[0]}, not {ADDRESS}"
    assert answer.strip() == "hello", answer
    print(f"{CLIENT} appears outside as {peer[0]}")


def denied() -> None:
    """A port that inside may not reach outside stays silent, though somebody listens there."""
    port = int(os.environ["SLIPWAY_PARAMETER_DENY_OUTBOUND_TCP"].split()[-1])
    with socket.create_server((GATEWAY, port)):
        answer = inside(sys.executable, "-c", CALLER, GATEWAY, str(port))
    assert answer.startswith("refused:"), f"port {port} outside was reached from inside: {answer}"
    print(f"{GATEWAY}:{port} is not reached from inside")


def many() -> None:
    """Thousands of connections are open, as an office's or a file sharer's are, and one more is let
    through.
    """
    with contextlib.ExitStack() as stack:
        # They wait to be accepted, which the kernel does for 4,096 of a socket; two of them have
        # room for all.
        servers = [
            stack.enter_context(socket.create_server((GATEWAY, 0), backlog=4096)) for _ in range(2)
        ]
        for server in servers:
            argv = [
                sys.executable,
                "-c",
                HOLDER,
                GATEWAY,
                str(server.getsockname()[1]),
                str(FLOWS // len(servers)),
            ]
            holder = stack.enter_context(
                subprocess.Popen(
                    ["ip", "netns", "exec", "inside", *argv],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(holder.kill)
            assert holder.stdout is not None
            said = holder.stdout.readline()
            assert said == "open\n", f"of {FLOWS} connections through the firewall: {said}"
        translated()
    print(f"one more beside {FLOWS} connections")


device = next(
    name for name in inside("ls", "/sys/class/net").split() if name not in ("lo", "sit0", "tunl0")
)
inside("ip", "link", "set", device, "up")
inside("ip", "address", "replace", f"{CLIENT}/{INSIDE.network.prefixlen}", "dev", device)
inside(
    "ip", "route", "replace", f"{GATEWAY}/32", "via", str(INSIDE.ip), "dev", device, "src", CLIENT
)
try:
    forwarded()
    kept_out()
    translated()
    denied()
    many()
finally:
    inside("ip", "route", "del", f"{GATEWAY}/32")
    inside("ip", "address", "del", f"{CLIENT}/{INSIDE.network.prefixlen}", "dev", device)
