"""The cache: made once, by one process, whole or not at all, and in memory that does not hang on the length."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from models.errors import OperatorFault, RigFault
from streaming.signal.settings import ChainSettings, NormaliserSettings
from tests.training.sessions import CHANNELS, small_session
from tests.training.test_data import write_mua
from training import cache as making
from training.cache import cached
from training.data import open_sessions, read_session
from training.sampler import split
from training.sessions import FORMAT, SessionHeader

HOURS = 300


def noise(bins: int, channels: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((bins, channels)).astype(np.float32)


def sparse_session(folder: Path, hours: float, channels: int = 96) -> Path:
    """A session of any length that takes no room: its z is a hole in the file; a pause in each hour."""
    path, bins = folder / f"{hours:g}h", round(hours * 3_600_000)
    path.mkdir(parents=True)
    header = SessionHeader(
        path.name, "2031-01-01", "tester", tuple(f"e{k}" for k in range(channels)), None, 30_000.0,
        ChainSettings().to_dict(),
    )  # fmt: skip
    (path / "session.json").write_text(json.dumps({"format": FORMAT} | asdict(header)))
    with (path / "z.npy").open("wb") as file:
        layout = {"descr": "<f4", "fortran_order": False, "shape": (bins, channels)}
        np.lib.format.write_array_header_1_0(file, layout)
        file.truncate(file.tell() + bins * channels * 4)
    edges = np.arange(0, bins, 1_800_000)
    np.save(path / "usable_from.npy", edges)
    np.save(path / "usable.npy", np.tile((np.arange(len(edges)) % 2 == 0)[:, None], channels))
    return path


def peak_of(path: Path) -> int:
    """Bytes that Python held at most while a session was opened, split and drawn from."""
    tracemalloc.start()
    try:
        sessions = open_sessions([path], path.parent / "cache")
        training, held_out = split(sessions, 128)
        rng = np.random.default_rng(0)
        for starts in (training[0], held_out[0]):
            windows, usable = sessions[0].windows(starts[rng.integers(len(starts), size=64)], 128)
            assert windows.shape == (64, 96, 128)
            assert usable.all()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_hundreds_of_hours_take_the_memory_of_a_few(tmp_path: Path):
    few, many = (peak_of(sparse_session(tmp_path, hours)) for hours in (3, HOURS))
    batch = 64 * 96 * 128 * 4
    assert many < few + batch  # and z alone would be 400 GB
    assert many < 10 * batch


def test_the_cache_is_made_in_memory_that_does_not_hang_on_the_length(tmp_path: Path):
    peaks = []
    for bins in (30_000, 120_000):
        file = write_mua(tmp_path / f"{bins}.nwb", noise(bins))
        tracemalloc.start()
        cached(file, tmp_path / "cache")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


def test_a_file_is_known_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By its date without being read, under another name by its content; not once it has changed."""
    file, cache = write_mua(tmp_path / "mua.nwb", noise(3000)), tmp_path / "cache"
    made = cached(file, cache)
    monkeypatch.setattr(making, "_digest", None)
    assert cached(file, cache) == made
    monkeypatch.undo()
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.copy(file, moved / "mua.nwb")
    monkeypatch.setattr(making, "_make", None)
    assert cached(moved / "mua.nwb", cache) == made
    monkeypatch.undo()
    assert cached(file, cache, NormaliserSettings("robust_frozen")) != made
    write_mua(file, noise(3000, seed=1))
    assert cached(file, cache) != made
    with pytest.raises(OperatorFault, match="are one recording; name it once"):
        open_sessions([moved / "mua.nwb", moved / "mua.nwb"], cache)


def test_two_that_want_it_at_once_make_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file, made = write_mua(tmp_path / "mua.nwb", noise(3000)), []

    def make(*arguments: object) -> Path:
        made.append(1)
        return make_it(*arguments)

    make_it = making._make
    monkeypatch.setattr(making, "_make", make)
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: cached(file, tmp_path / "cache"), range(4)))
    assert (len(paths), len(made)) == (1, 1)
    assert [one.name for one in (tmp_path / "cache").iterdir()] == [paths.pop().name]


def test_what_a_killed_process_left_is_taken_away(tmp_path: Path):
    file, cache = write_mua(tmp_path / "mua.nwb", noise(3000)), tmp_path / "cache"
    made = cached(file, cache)
    left = cache / f".{made.name}.abc.draft"
    os.rename(made, left)
    (left / "session.json").unlink()
    assert cached(file, cache) == made
    assert [one.name for one in cache.iterdir()] == [made.name]
    read_session(made)


def test_a_full_disk_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file, cache = write_mua(tmp_path / "mua.nwb", noise(30_000)), tmp_path / "cache"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))  # of 480 kB that z needs
    try:
        with pytest.raises(OperatorFault, match=r"cannot be written .*; make room"):
            cached(file, cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("training.sessions.os.fsync", full)
    with pytest.raises(OperatorFault, match=r"the disk is full: found .* GB, mua-.* needs .* GB; make room"):
        cached(file, cache)
    assert [one for one in cache.iterdir() if one.suffix != ".lock"] == []
    monkeypatch.undo()
    assert read_session(cached(file, cache)).stored.shape == (30_000, 4)


def test_a_session_of_another_version_or_cut_short_is_refused(tmp_path: Path):
    path = tmp_path / small_session(tmp_path).header.name
    fields = json.loads((path / "session.json").read_text())
    (path / "session.json").write_text(json.dumps(fields | {"format": 1}))
    with pytest.raises(RigFault, match="found format 1, expected 2; make the cache again"):
        read_session(path)
    (path / "session.json").write_text(json.dumps(fields))
    os.truncate(path / "z.npy", 1000)
    with pytest.raises(RigFault, match="is not a cached session"):
        read_session(path)


BAD = {
    "dead": (noise(3000), {"usable": [0.1] * 4}, "nothing in it is usable: found 3.0 s of 4 channels"),
    "nan": (np.full((3000, 4), np.nan, np.float32), {}, "nothing in it is usable"),
    "short": (noise(900), {}, "nothing in it is usable"),
}


@pytest.mark.parametrize(("data", "columns", "says"), BAD.values(), ids=BAD.keys())
def test_a_session_in_which_nothing_is_usable_is_named(tmp_path: Path, data: np.ndarray, columns: dict, says: str):
    file = write_mua(tmp_path / "bad.nwb", data, **columns)
    with pytest.raises(RigFault, match=says) as fault:
        open_sessions([file], tmp_path / "cache")
    assert "\n" not in str(fault.value)
    assert "bad.nwb" in str(fault.value)


def test_sessions_that_do_not_belong_together_are_named(tmp_path: Path):
    small_session(tmp_path / "a", "s0")
    more = tuple(f"elec{k}" for k in range(CHANNELS))
    for name, changes, says in (
        ("labels", {"labels": more}, "of another array or participant .*found labels or positions"),
        ("rate", {"rate_hz": 24_414.0}, "found 24414 samples and 1000 bins a second, expected 30000 and 1000"),
        ("bins", {"bin_rate_hz": 10.0}, "found 30000 samples and 10 bins a second"),
        ("who", {"participant": "another"}, "found participant another, expected tester"),
        ("chain", {"chain": ChainSettings(clip_uv=1.0).to_dict()}, r"found clip_uv 1\.0, expected 5000\.0"),
    ):
        small_session(tmp_path / name, "s1", seed=1, **changes)
        with pytest.raises((OperatorFault, RigFault), match=says):
            open_sessions([tmp_path / "a", tmp_path / name], tmp_path / "cache")
    write_mua(tmp_path / "three.nwb", noise(3000, 3))
    write_mua(tmp_path / "four.nwb", noise(3000, 4))
    with pytest.raises(OperatorFault, match="found channels 4, expected 3"):
        open_sessions([tmp_path / "three.nwb", tmp_path / "four.nwb"], tmp_path / "cache")
