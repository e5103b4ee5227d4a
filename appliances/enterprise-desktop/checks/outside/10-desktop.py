#!/usr/bin/env python3
# timeout: 600
"""The user logs in by RDP, and a screenshot shows the desktop, and then Firefox in it; a wrong
password, or no TLS, shows nothing. What sessions say is the journal's.
"""

import os
import shlex
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slipway_check import PATIENCE

ADDRESS, TOOLS, USER = (
    os.environ[f"SLIPWAY_{name}"] for name in ("ADDRESS", "TOOLS", "PARAMETER_USER")
)
WIDTH, HEIGHT = 1024, 768
BACKDROP, PAGE, DISPLAY = (35, 79, 113), (200, 16, 96), ":9"
#: Firefox with a page of one colour, on the user's screen.
BROWSE = f"""home=$(getent passwd {USER} | cut -d : -f 6)
test -s "$home/.Xauthority"
echo '<body style="background: rgb{PAGE}">' >"$home/page.html"
exec >/dev/null 2>&1 </dev/null
setsid runuser -u {USER} -- env HOME="$home" DISPLAY=:10 firefox-esr "file://$home/page.html" &"""
CHROOT = ["chroot", TOOLS, "env", f"DISPLAY={DISPLAY}", "HOME=/tmp"]
ssh = shlex.split(os.environ["SLIPWAY_SSH"])


def on_machine(command: str) -> str:
    return subprocess.run(
        [*ssh, command], check=True, capture_output=True, text=True
    ).stdout.strip()


def screenshot(colour: tuple[int, int, int]) -> tuple[float, int]:
    """What part of the screen has about that colour (RemoteFX is lossy), and how many colours there
    are.
    """
    command = [*CHROOT, "import", "-window", "root", "-depth", "8", "rgb:-"]
    pixels = subprocess.run(command, check=True, capture_output=True, timeout=60 * PATIENCE).stdout
    assert len(pixels) == 3 * WIDTH * HEIGHT, len(pixels)
    colours = Counter(zip(pixels[0::3], pixels[1::3], pixels[2::3], strict=True))
    near = (
        count
        for found, count in colours.items()
        if all(abs(one - other) <= 8 for one, other in zip(found, colour, strict=True))
    )
    return sum(near) / (WIDTH * HEIGHT), len(colours)


@contextmanager
def client(password: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A client that shows the desktop on the whole of the screen.

    Its password goes by a pipe, not by its arguments.
    """
    command = [
        *CHROOT,
        "xfreerdp3",
        f"/v:{ADDRESS}",
        f"/u:{USER}",
        "/cert:ignore",
        f"/size:{WIDTH}x{HEIGHT}",
        "/from-stdin:force",
        *options,
    ]
    with (Path(TOOLS) / "tmp/client.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        try:
            assert process.stdin
            process.stdin.write(password.encode() + b"\n")
            process.stdin.close()
            yield process
        finally:
            process.terminate()
            process.wait(20 * PATIENCE)


def wait_for(
    session: subprocess.Popen[bytes], what: str, colour: tuple[int, int, int], least: float
) -> None:
    """Wait until that part of the screen has the colour, and what is around it has its own."""
    until, part, colours = time.monotonic() + 240 * PATIENCE, 0.0, 0
    while not (least < part < 0.99 and colours > 30):
        assert session.poll() is None, f"the client ended: {said()}"
        assert time.monotonic() < until, (
            f"no sight of {what}: {part:.0%} of the screen has its colour; {colours} colours in all"
        )
        time.sleep(3)
        part, colours = screenshot(colour)
    print(f"{what}: {part:.0%} of the screen has its colour; {colours} colours in all")


def said() -> str:
    return (Path(TOOLS) / "tmp/client.log").read_text(errors="replace")[-1500:]


shutil.rmtree(Path(TOOLS) / "tmp/.X11-unix", ignore_errors=True)
screen = subprocess.Popen(
    [*CHROOT, "Xvfb", DISPLAY, "-screen", "0", f"{WIDTH}x{HEIGHT}x24", "-nolisten", "tcp"],
    stderr=subprocess.DEVNULL,
)
try:
    password = on_machine("cat /var/lib/slipway/parameters/password")
    time.sleep(2)
    assert screen.poll() is None, "no X server to show the desktop on"

    # Without TLS there is no answer.
    with client(password, "/sec:rdp") as refused:
        assert refused.wait(60 * PATIENCE) != 0, said()

    # What an attempt before this one left open is no session of a wrong password.
    on_machine(f"loginctl terminate-user {USER} 2>/dev/null || true")
    until = time.monotonic() + 60 * PATIENCE
    while on_machine(f"pgrep -u {USER} || true"):
        assert time.monotonic() < until, "an earlier session does not end"
        time.sleep(2)

    # With a wrong password xrdp says so, and shows no desktop.
    refusals = "journalctl --no-pager --boot --unit xrdp-sesman | grep -c AUTHFAIL || true"
    before = on_machine(refusals)
    with client(f"not-{password}", "/sec:tls"):
        until = time.monotonic() + 60 * PATIENCE
        while on_machine(refusals) == before:
            assert time.monotonic() < until, f"no refusal in the log; the client said: {said()}"
            time.sleep(2)
        assert screenshot(BACKDROP)[0] < 0.01, "a wrong password shows the desktop"
    assert not on_machine(f"pgrep -u {USER} xfdesktop || true"), "a wrong password starts a session"

    # With the right one the desktop is there: its backdrop, and panels on it. What a month of
    # sessions said is not on the disk.
    errors = f"~{USER}/.xsession-errors"
    on_machine(f"runuser -u {USER} -- sh -c 'umask 077; truncate -s 50M {errors}'")
    with client(password, "/sec:tls") as session:
        wait_for(session, "the desktop", BACKDROP, 0.7)
        assert int(on_machine(f"stat -c %s {errors}")) < 2**20, (
            "what sessions say stays at the user's home"
        )
        said_to = on_machine(f"readlink /proc/$(pgrep -u {USER} -x xfce4-session | head -n 1)/fd/2")
        assert said_to.startswith("socket:"), f"the session says what it has to say to {said_to}"
        on_machine(BROWSE)
        wait_for(session, "Firefox", PAGE, 0.5)
finally:
    screen.terminate()
    screen.wait(20 * PATIENCE)
