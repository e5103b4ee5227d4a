"""A program in QEMU's place: it speaks QEMU's monitor protocol and reports checks as a guest does.

``scenario.json`` beside it lists plays, one for each start of a machine: a list of steps
``[VERB, WORD...]``, played in order before the monitor is served until the power button. The verbs:

    write TEXT      to the virtio-serial port        console TEXT    to the console
    fill TEXT       to the port, without an end      sleep SECONDS
    die STATUS      end with this exit status        mute            never answer on the monitor
    console-grows BYTES                              to this size, at once
    garbage         write no JSON on the monitor
    dies-on NAME    end when this command is asked for

The machine has the first address of the lab, and refuses every port. A further instance has an
address after it and plays nothing: its start is a line in ``instances`` beside this program.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

__all__: list[str] = []

HERE = Path(__file__).parent
#: A network namespace with the address of an instance, the lab's machine being 0. It refuses every
#: port.
NETWORK = """\
unshare --net sleep 1000000 &
while [ "$(readlink "/proc/$!/ns/net")" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
ip link add "machine$0" type veth peer name eth0 netns "$!"
ip link set "machine$0" master outside up
nsenter --net="/proc/$!/ns/net" ip address add "10.77.0.1$0/24" dev eth0
nsenter --net="/proc/$!/ns/net" ip link set eth0 up
"""


def path_of(device: str) -> Path:
    """The file of a character device on the command line."""
    option = next(word for word in sys.argv if word.startswith(f"file,id={device},path="))
    return Path(option.partition("path=")[2].replace(",,", ","))


def instance() -> str:
    """The number of the instance: its taps are called after it."""
    option = next(word for word in sys.argv if word.startswith("tap,ifname=tap"))
    return option.removeprefix("tap,ifname=tap").partition(".")[0]


def append(path: Path, text: str) -> None:
    """Write to the port or the console."""
    with path.open("a") as file:
        file.write(text)


def next_play() -> list[list[str]]:
    """What this start of the machine is to do: the last play is for all further ones."""
    plays: list[list[list[str]]] = json.loads((HERE / "scenario.json").read_text())
    starts = HERE / "starts"
    number = len(starts.read_text()) if starts.exists() else 0
    append(starts, ".")
    return plays[min(number, len(plays) - 1)]


class Machine:
    """The state of the monitor, and what was played."""

    def __init__(self) -> None:
        self.mute = self.garbage = False
        self.dies_on = ""

    def play_all(self, steps: list[list[str]]) -> None:
        """Do the steps of a play in order."""
        for step in steps:
            self.play(*step)

    def play(self, verb: str, *words: str) -> None:
        """Do one step."""
        if verb == "write":
            append(path_of("port0"), words[0])
        elif verb == "console":
            append(path_of("console"), words[0])
        elif verb == "console-grows":
            os.truncate(path_of("console"), int(words[0]))
        elif verb == "fill":
            while True:
                append(path_of("port0"), words[0] * 10_000)
        elif verb == "sleep":
            time.sleep(float(words[0]))
        elif verb == "die":
            os._exit(int(words[0]))
        elif verb == "dies-on":
            self.dies_on = words[0]
        else:
            setattr(self, verb, True)

    def serve(self) -> None:
        """Answer the monitor until the power button is pressed."""
        for line in sys.stdin:
            name = json.loads(line)["execute"]
            if name == self.dies_on:
                os._exit(1)
            if self.mute:
                continue
            print("nonsense" if self.garbage else json.dumps({"return": {}}), flush=True)
            if name == "send-key":
                print(json.dumps({"event": "RESET", "data": {"guest": True}}), flush=True)
            if name == "system_powerdown":
                return


def main() -> None:
    """Be a machine."""
    if "--version" in sys.argv:
        print("QEMU emulator version 0.0 (a guest that is played)")
        return
    if "-help" in sys.argv:
        return
    path_of("console").touch()
    number = instance()
    subprocess.run(
        ["sh", "-euc", NETWORK, number],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    machine = Machine()
    if number != "0":
        append(HERE / "instances", f"{number}\n")
        machine.serve()
        return
    play = next_play()
    threading.Thread(target=machine.play_all, args=(play,), daemon=True).start()
    machine.serve()


if __name__ == "__main__":
    main()
