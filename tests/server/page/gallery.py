"""The pictures of the page in docs/pictures, of the real service with a simulated participant:

    python -m tests.server.page.gallery docs/pictures

About three minutes. Needs Chromium, and Pillow where it is there (it makes the files a third as large).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.server.page.chromium import Chromium, Tab

PORT = 8137
NAME = f"Gallery-{os.getpid()}"
LIMITS = Path(__file__).parents[3] / "server" / "demo_limits.toml"
PHOSPHENE = (sys.executable, "-m", "server.cli")
MOST_KB = 200
CONFIG = """
[thresholds]
p_on = 0.53
p_off = 0.505
dwell_hops = 3
smoothing_s = 0.5
[plan]
arms = ["favourable", "random"]
trials_per_arm = 2000
sham_fraction = 0.1
"""
RUNS = "!document.body.classList.contains('stale') && document.getElementById('value').textContent !== '–'"


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([*PHOSPHENE, *arguments])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def serve(folder: str, *more: str) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    config = Path(folder) / "gallery.toml"
    config.write_text(CONFIG)
    return running(
        *("serve", f"--config={config}", f"--source=lsl:name='{NAME}'", f"--events=name='{NAME}-events'"),
        *(f"--port={PORT}", f"--limits={LIMITS}", f"--journal={folder}/gallery-{time.time()}.journal"),
        *(f"--stimulator=lsl?simulated=true&name={NAME}-triggers", *more),
    )


def simulate() -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    return running("simulate", f"--name={NAME}", f"--events={NAME}-events", f"--triggers={NAME}-triggers")


def answers() -> bool:
    with contextlib.suppress(OSError):
        return urllib.request.urlopen(f"http://127.0.0.1:{PORT}/healthz", timeout=1).status == 200
    return False


def opened(chromium: Chromium) -> Tab:
    until = time.monotonic() + 60
    while not answers():
        assert time.monotonic() < until, "the service did not come up"
        time.sleep(0.1)
    return chromium.tab(f"http://127.0.0.1:{PORT}/")


def picture(tab: Tab, folder: Path, name: str) -> None:
    path = folder / f"page-{name}.png"
    tab.screenshot(path)
    with contextlib.suppress(ImportError):
        from PIL import Image

        Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB, {tab.errors()}", flush=True)
    assert path.stat().st_size < MOST_KB * 1000


def arm(tab: Tab) -> None:
    tab.until("!document.getElementById('t-arm').disabled", 20)
    tab.click("#t-arm")
    tab.until("!document.getElementById('t-confirm').hidden", 5)


def main(folder: Path, armed_s: float) -> None:
    with Chromium() as chromium, tempfile.TemporaryDirectory() as work, serve(work) as service:
        tab = opened(chromium)
        tab.until("document.getElementById('stale').textContent.startsWith('WAITING')", 30)
        picture(tab, folder, "waiting")
        with simulate():
            tab.until(RUNS, 60)
            time.sleep(32)
            picture(tab, folder, "disarmed")
            arm(tab)
            time.sleep(0.3)
            picture(tab, folder, "confirm")
            tab.click("#t-confirm")
            tab.until("document.getElementById('t-word').textContent === 'ARMED'", 5)
            time.sleep(armed_s)
            tab.until("document.getElementById('t-word').textContent === 'ARMED'", 5)
            picture(tab, folder, "armed")
            tab.click("#t-disarm")
            tab.until("!document.getElementById('t-shadow').disabled", 5)
            tab.click("#t-shadow")
            tab.until("document.getElementById('t-word').textContent === 'SHADOW'", 5)
            tab.evaluate("document.getElementById('th-p_on').value = '0.55'")
            tab.evaluate("document.getElementById('th-form').dispatchEvent(new Event('input'))")
            tab.click("#th-preview")
            tab.until("document.getElementById('th-result').textContent.startsWith('would')", 20)
            tab.click("#tab-bundle")
            tab.click("#b-shadow")
            tab.until("document.getElementById('b-facts').textContent.includes('correlation')", 40)
            time.sleep(15)
            picture(tab, folder, "shadow")
            tab.click("#tab-latency")
            tab.key(" ")
            tab.until("document.getElementById('t-word').textContent === 'FAULT'", 5)
            time.sleep(0.5)
            picture(tab, folder, "fault")
            tab.evaluate("document.getElementById('t-reason').value = 'a rehearsal'")
            tab.evaluate("document.getElementById('t-reason').dispatchEvent(new Event('input'))")
            tab.click("#t-clear")
            arm(tab)
            tab.click("#t-confirm")
            tab.until("document.getElementById('t-word').textContent === 'ARMED'", 5)
            service.kill()
            tab.until("document.body.classList.contains('silent')", 5)
            time.sleep(1.5)
            tab.key("Escape")
            time.sleep(0.5)
            picture(tab, folder, "stale")
            tab.close()
    with Chromium() as chromium, tempfile.TemporaryDirectory() as work, serve(work, "--mode=evoked"), simulate():
        tab = opened(chromium)
        tab.until(RUNS, 60)
        time.sleep(45)  # a trial every few seconds
        picture(tab, folder, "evoked")


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 45.0)
