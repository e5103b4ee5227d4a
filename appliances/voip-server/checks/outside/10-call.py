#!/usr/bin/env python3
# timeout: 240
"""Two phones (baresip) register, one calls the other, and each hears the other's tone through the
relay; a phone with a wrong password is refused. Then the same over TLS.
"""

import array
import math
import os
import pathlib
import shlex
import socket
import subprocess
import threading
import time
import wave

from slipway_check import PATIENCE

ADDRESS, HERE, TOOLS = (
    os.environ["SLIPWAY_ADDRESS"],
    os.environ["SLIPWAY_GATEWAY"],
    pathlib.Path(os.environ["SLIPWAY_TOOLS"]),
)
DOMAIN = os.environ["SLIPWAY_PARAMETER_SIP_DOMAIN"]
TONES = {"alice": 440, "bob": 880}
RTP = range(30000, 31000)
ssh = shlex.split(os.environ["SLIPWAY_SSH"])


def password(name: str) -> str:
    ran = subprocess.run(
        [*ssh, f"phone remove {name}; phone add {name}"], capture_output=True, text=True, check=True
    )
    return ran.stdout.strip()


def phone(name: str, secret: str, port: int, transport: str, *words: str) -> subprocess.Popen[str]:
    """A phone that answers every call, plays its tone and records what it hears."""
    folder = TOOLS / f"tmp/{name}"
    subprocess.run(["rm", "-rf", folder], check=True)
    folder.mkdir()
    modules = ["account", "menu", "g711", "ausine", "sndfile", "aufile", "stdio", "uuid"]
    (folder / "config").write_text(
        f"sip_listen {HERE}:{port}\nsip_verify_server no\ncall_local_timeout 30\ncall_max_calls 2\n"
        f"audio_source ausine,{TONES.get(name, 440)}\naudio_player aufile,/tmp/{name}/player.wav\n"
        "audio_alert aufile,/dev/null\n"
        f"snd_path /tmp/{name}\nausrc_srate 48000\nausrc_channels 1\n"
        f"rtp_ports {port + 100}-{port + 110}\n"
        "module_path /usr/lib/baresip/modules\n"
        + "".join(
            f"module{'_app' if module in ('account', 'menu') else ''} {module}.so\n"
            for module in modules
        )
    )
    server = f"sip:{ADDRESS}:{5061 if transport == 'tls' else 5060};transport={transport}"
    (folder / "accounts").write_text(
        f"<sip:{name}@{DOMAIN}>;auth_user={name};auth_pass={secret};"
        f'outbound="{server}";answermode=auto;audio_codecs=PCMU;regint=60\n'
    )
    (folder / "contacts").touch()
    command = ["chroot", str(TOOLS), "baresip", "-f", f"/tmp/{name}", "-v", *words]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def output(process: subprocess.Popen[str]) -> str:
    process.terminate()
    return process.communicate(timeout=20 * PATIENCE)[0]


def strength(samples: array.array, rate: int, tone: int) -> float:
    """The share of a tone in the loudness of a second of sound (Goertzel)."""
    middle = samples[len(samples) // 2 - rate // 2 : len(samples) // 2 + rate // 2]
    total = sum(sample * sample for sample in middle)
    turn = 2 * math.pi * tone / rate
    real = sum(sample * math.cos(turn * index) for index, sample in enumerate(middle))
    imaginary = sum(sample * math.sin(turn * index) for index, sample in enumerate(middle))
    return 2 * (real * real + imaginary * imaginary) / len(middle) / total if total else 0.0


def heard(name: str) -> int:
    """The tone that a phone heard."""
    files = list((TOOLS / f"tmp/{name}").glob("dump-*-dec.wav"))
    assert len(files) == 1, f"{name} recorded {files}"
    with wave.open(str(files[0])) as recording:
        rate = recording.getframerate()
        samples = array.array("h", recording.readframes(recording.getnframes()))[
            :: recording.getnchannels()
        ]
    assert len(samples) > 2 * rate, f"{name} heard {len(samples) / rate:.1f} s"
    tone = max(TONES.values(), key=lambda tone: strength(samples, rate, tone))
    assert strength(samples, rate, tone) > 0.5, (
        f"{name} heard no tone: {strength(samples, rate, tone):.2f}"
    )
    return tone


def watch(until: threading.Event, ways: dict[str, int]) -> None:
    """Count the packets of the relay's ports, by direction."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as tap:
        tap.bind((os.environ["SLIPWAY_INTERFACE"], 0))
        tap.settimeout(0.2)
        while not until.is_set():
            try:
                packet = tap.recv(65535)
            except TimeoutError:
                continue
            if packet[12:14] == b"\x08\x00" and packet[23] == socket.IPPROTO_UDP:
                source, target = (
                    int.from_bytes(packet[34:36], "big"),
                    int.from_bytes(packet[36:38], "big"),
                )
                ways["from"] += source in RTP and socket.inet_ntoa(packet[26:30]) == ADDRESS
                ways["to"] += target in RTP and socket.inet_ntoa(packet[30:34]) == ADDRESS


def call(secrets: dict[str, str], transport: str) -> None:
    ways = {"from": 0, "to": 0}
    end = threading.Event()
    watcher = threading.Thread(target=watch, args=(end, ways))
    watcher.start()
    bob = phone("bob", secrets["bob"], 5080, transport)
    alice = None
    try:
        time.sleep(6)
        alice = phone("alice", secrets["alice"], 5070, transport, "-e", f"/dial sip:bob@{DOMAIN}")
        time.sleep(15)
    finally:
        said = {"alice": output(alice) if alice else "", "bob": output(bob)}
        end.set()
        watcher.join()
    try:
        assert (heard("alice"), heard("bob")) == (TONES["bob"], TONES["alice"])
        assert min(ways.values()) > 200, f"packets of the relay: {ways}"
    except AssertionError:
        print(*(f"--- {name}\n{text[-700:]}" for name, text in said.items()), sep="\n")
        raise
    print(f"{transport}: both heard each other; packets of the relay: {ways}")


keys = {name: password(name) for name in TONES}
stranger = phone("alice", "not-" + keys["alice"], 5070, "udp")
time.sleep(8)
refused = output(stranger)
assert "401 Unauthorized" in refused or "403 Forbidden" in refused, refused[-1500:]
assert "200 OK" not in refused, refused[-1500:]
for transport in ("udp", "tls"):
    call(keys, transport)
