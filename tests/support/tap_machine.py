"""A machine behind a tap, as slow as an emulated one: ``tap_machine.py TAP OPEN SILENT PAUSE``.

It answers for the lab's first address. OPEN and SILENT are TCP ports and ranges (``1-79,81``), and
PAUSE is the time that each packet takes, in seconds. Every other port is refused. It answers ARP
(RFC 826) and the first packet of a TCP connection (RFC 9293, 3.5), and nothing else.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import time

__all__: list[str] = []

MAC = bytes.fromhex("525400770001")
ADDRESS = bytes([10, 77, 0, 10])
#: Linux, include/uapi/linux/if_tun.h: TUNSETIFF, IFF_TAP | IFF_NO_PI.
SET_INTERFACE, TAP = 0x400454CA, 0x1002
SYN, RST_ACK, SYN_ACK = 0x02, 0x14, 0x12


def checksum(data: bytes) -> int:
    """The Internet's checksum (RFC 1071)."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


def arp(frame: bytes) -> bytes | None:
    """The answer to a question for the address."""
    if frame[20:22] != b"\0\1" or frame[38:42] != ADDRESS:
        return None
    return frame[6:12] + MAC + frame[12:20] + b"\0\2" + MAC + ADDRESS + frame[22:32]


def tcp(frame: bytes, is_open: set[int], silent: set[int]) -> bytes | None:
    """The answer to a connection's first packet."""
    ip = frame[14:34]
    if ip[9] != 6 or ip[16:20] != ADDRESS or frame[47] != SYN:
        return None
    source, target, sequence = struct.unpack("!HHI", frame[34:42])
    if target in silent:
        return None
    flags = SYN_ACK if target in is_open else RST_ACK
    header = struct.pack(
        "!HHIIBBHHH", target, source, 0, sequence + 1 & 0xFFFFFFFF, 0x50, flags, 64240, 0, 0
    )
    pseudo = ADDRESS + ip[12:16] + struct.pack("!BBH", 0, 6, 20)
    header = header[:16] + struct.pack("!H", checksum(pseudo + header)) + header[18:]
    begin = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, 6, 0, ADDRESS, ip[12:16])
    begin = begin[:10] + struct.pack("!H", checksum(begin)) + begin[12:]
    return frame[6:12] + MAC + b"\x08\0" + begin + header


def numbers(text: str) -> set[int]:
    """The ports in a word."""
    ports: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        ports.update(range(int(first), int(last or first) + 1))
    return ports


def main(name: str, is_open: set[int], silent: set[int], pause_s: float) -> None:
    """Answer until somebody ends this."""
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, SET_INTERFACE, struct.pack("16sH22x", name.encode(), TAP))
    print("ready", flush=True)
    while True:
        frame = os.read(tap, 2048)
        time.sleep(pause_s)
        kind = frame[12:14]
        answer = (
            arp(frame)
            if kind == b"\x08\x06"
            else tcp(frame, is_open, silent)
            if kind == b"\x08\0"
            else None
        )
        if answer:
            os.write(tap, answer)


if __name__ == "__main__":
    main(sys.argv[1], numbers(sys.argv[2]), numbers(sys.argv[3]), float(sys.argv[4]))
