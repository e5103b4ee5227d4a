"""What work took here is a convenience: no record of it, however damaged, is in the way."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from slipway.terminal.durations import Durations


def test_the_median_of_the_last_five_runs_is_usual(tmp_path: Path) -> None:
    record = Durations(tmp_path / "cache/durations.json")
    assert record.usual_s("web/boot") is None
    for took_s in (1000, 10, 20, 30, 40, 90):
        record.add("web/boot", took_s)
    assert record.usual_s("web/boot") == 30
    assert Durations(record.file).usual_s("web/boot") == 30
    assert (tmp_path / "cache/durations.json").stat().st_mode & 0o777 == 0o600


def test_without_a_file_nothing_is_kept() -> None:
    record = Durations()
    record.add("web/boot", 1)
    assert record.usual_s("web/boot") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"a": 1}',
        '{"a": []}',
        '{"a": ["x"]}',
        '{"a": [-1]}',
        '{"a": [NaN]}',
        '{"a": [1e999]}',
        '{"a": [true]}',
        '{"a": [1, 2, 3, 4, 5, 6]}',
        "[" * 100_000,
        '{"a": [1], "b": "' + "x" * (1 << 19) + '"}',
        "\x00\x9b",
    ],
    ids=range(14),
)
def test_a_damaged_record_is_none_and_the_next_run_mends_it(tmp_path: Path, text: str) -> None:
    record = Durations(tmp_path / "durations.json")
    (tmp_path / "durations.json").write_text(text)
    assert record.usual_s("a") is None
    record.add("a", 3)
    assert record.usual_s("a") == 3


def test_what_cannot_be_read_or_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "durations.json").mkdir()
    (tmp_path / "file").touch()
    for place in (tmp_path / "durations.json", tmp_path / "file/durations.json"):
        record = Durations(place)
        record.add("a", 3)
        assert record.usual_s("a") is None


@pytest.mark.parametrize("took_s", [-1.0, float("nan"), float("inf"), 1e9])
def test_what_is_no_duration_is_not_kept(tmp_path: Path, took_s: float) -> None:
    record = Durations(tmp_path / "durations.json")
    record.add("a", took_s)
    record.add("b" * 201, 1)
    assert not (tmp_path / "durations.json").exists()


def test_it_stays_small(tmp_path: Path) -> None:
    record = Durations(tmp_path / "durations.json")
    full = {f"{number:0200}": [123456.7] * 5 for number in range(1000)}
    (tmp_path / "durations.json").write_text(json.dumps(full, indent=0))
    record.add("last", 1)
    kept = json.loads((tmp_path / "durations.json").read_text())
    assert len(kept) == 1000 and [*kept][-1] == "last" and f"{0:0200}" not in kept
    assert (tmp_path / "durations.json").stat().st_size < 1 << 19


def test_a_reader_sees_a_whole_record(tmp_path: Path) -> None:
    record = Durations(tmp_path / "durations.json")
    record.add("a", 1)
    done = threading.Event()
    seen: set[float | None] = set()

    def look() -> None:
        while not done.is_set():
            seen.add(Durations(record.file).usual_s("a"))

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(200):
        record.add("a", 1)
    done.set()
    reader.join()
    assert seen == {1}
