"""A headless Chromium, spoken to over its DevTools protocol: as much of it as these tests need."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# No sandbox: the pages are ours, and as root or in a container there is none to be had.
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--mute-audio",
)
KEYS = {" ": ("Space", 32), "Escape": ("Escape", 27), "Enter": ("Enter", 13), "Tab": ("Tab", 9)}


class Chromium:
    """The browser; `tab` opens a page of its own."""

    def __init__(self, width: int = 1366, height: int = 768) -> None:
        assert PROGRAM is not None
        self.width, self.height = width, height
        self._folder = tempfile.TemporaryDirectory(prefix="page-test-", ignore_cleanup_errors=True)
        options = (*OPTIONS, f"--user-data-dir={self._folder.name}", "--remote-debugging-port=0")
        self._process = subprocess.Popen([PROGRAM, *options, "about:blank"], stderr=subprocess.DEVNULL)
        told = Path(self._folder.name) / "DevToolsActivePort"
        until = time.monotonic() + 30
        while not (told.exists() and len(told.read_text().split()) == 2):
            assert self._process.poll() is None, "Chromium did not start"
            assert time.monotonic() < until, "Chromium did not say its port"
            time.sleep(0.02)
        self.port, path = told.read_text().split()
        self.browser = Speaker(f"ws://127.0.0.1:{self.port}{path}")

    def tab(self, url: str) -> Tab:
        target = self.browser.command("Target.createTarget", url="about:blank")["targetId"]
        return Tab(self, target, url)

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        self.browser.close()
        self._process.terminate()
        self._process.wait(10)
        self._folder.cleanup()


class Speaker:
    """One DevTools socket: commands and their answers; events are kept in `events`."""

    def __init__(self, url: str) -> None:
        self._socket: ClientConnection = connect(url, max_size=None, open_timeout=20)
        self._ids = itertools.count(1)
        self.events: list[dict[str, Any]] = []

    def command(self, method: str, **params: Any) -> Any:
        sent = next(self._ids)
        self._socket.send(json.dumps({"id": sent, "method": method, "params": params}))
        while True:
            told = json.loads(self._socket.recv(timeout=30))
            if told.get("id") == sent:
                assert "error" not in told, f"{method}: {told['error']}"
                return told["result"]
            self.events.append(told)

    def close(self) -> None:
        self._socket.close()


class Tab(Speaker):
    def __init__(self, chromium: Chromium, target: str, url: str) -> None:
        super().__init__(f"ws://127.0.0.1:{chromium.port}/devtools/page/{target}")
        self._chromium, self.target = chromium, target
        for domain in ("Page", "Runtime", "Log"):
            self.command(f"{domain}.enable")
        size = {"width": chromium.width, "height": chromium.height, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", **size)
        self.opened = time.monotonic()
        self.command("Page.navigate", url=url)
        self.until("location.protocol !== 'about:' && document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        told = self.command("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def until(self, expression: str, seconds: float = 10.0) -> float:
        """Wait until the expression is true; the moment at which it was found to be."""
        end = time.monotonic() + seconds
        while not self.evaluate(expression):
            assert time.monotonic() < end, (
                f"not within {seconds:g} s: {expression}\n{self.text('body')}\n{self.errors()}"
            )
            time.sleep(0.01)
        return time.monotonic()

    def text(self, selector: str) -> str:
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def click(self, selector: str) -> None:
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def key(self, key: str) -> None:
        code, number = KEYS[key]
        told = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        self.command("Input.dispatchKeyEvent", type="keyDown", **told, **({"text": key} if key == " " else {}))
        self.command("Input.dispatchKeyEvent", type="keyUp", **told)

    def errors(self) -> list[str]:
        """What the console has of errors, exceptions and refusals by the content policy."""
        self.evaluate("1")  # so that what was under way has come
        found = []
        for event in self.events:
            told = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(str(told["exceptionDetails"].get("exception", {}).get("description")))
            elif event.get("method") == "Log.entryAdded" and told["entry"]["level"] == "error":
                found.append(told["entry"]["text"])
        return found

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        self._chromium.browser.command("Target.closeTarget", targetId=self.target)
        super().close()
