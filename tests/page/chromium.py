"""Debian's chromium without a window, spoken to through its own protocol over two pipes.

In:  a folder for its profile.   Out: `Browser`, whose pages run JavaScript of the test, take keys and pictures.
Guarantee: no network of its own; what a page asks for, logs or violates is kept; the browser ends with its block. The
page's policy forbids its own scripts: what the test evaluates is not the page's.

    with Browser.start(folder) as browser:
        page = browser.page("file:///report.html", width=390, theme="dark")
        page.evaluate("document.title")
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # tests run as root in containers
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--remote-debugging-pipe",
)
SECONDS = 60.0
KEYS = {"Tab": 9, "Enter": 13, "ArrowRight": 39}


def chromium() -> str:
    """The program; without it tests are skipped, and fail in CI."""
    found = shutil.which("chromium")
    if found is None and os.environ.get("CI") == "true":
        pytest.fail("chromium is not installed: apt-get install chromium")
    if found is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    return found


class Browser:
    """A running chromium."""

    def __init__(self, process: subprocess.Popen[bytes], commands: int, answers: int) -> None:
        self._process, self._commands, self._answers = process, commands, answers
        self._last = 0
        self._pending = b""
        self.events: list[dict[str, Any]] = []

    @classmethod
    @contextmanager
    def start(cls, profile: Path) -> Iterator[Browser]:
        """Start it; it ends when the block does."""
        (theirs_in, commands), (answers, theirs_out) = os.pipe(), os.pipe()
        words = (chromium(), *FLAGS, f"--user-data-dir={profile}", "about:blank")
        process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "chromium", *words],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        browser = cls(process, commands, answers)
        try:
            yield browser
        finally:
            browser.call("Browser.close")
            os.close(commands)
            process.wait(SECONDS)
            os.close(answers)

    def call(self, method: str, session: str | None = None, **params: Any) -> Any:
        """The result of a command; events that come before it are kept."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._commands, data) :]
        while True:
            answer = self._receive()
            if answer.get("id") == self._last:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self.events.append(answer)

    def wait_for(self, session: str, event: str) -> None:
        """Until it has come."""
        while not any(one["method"] == event and one.get("sessionId") == session for one in self.events):
            self.events.append(self._receive())

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + SECONDS
        while b"\0" not in self._pending:
            assert select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))[0], (
                "chromium is silent"
            )
            data = os.read(self._answers, 1 << 20)
            assert data, "chromium ended"
            self._pending += data
        message, _, self._pending = self._pending.partition(b"\0")
        value: dict[str, Any] = json.loads(message)
        return value

    def page(self, url: str, *, width: int = 1100, height: int = 900, theme: str = "light") -> Tab:
        """A page, loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, target, session)
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            tab.call(f"{domain}.enable")
        phone = width < 600
        tab.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        tab.call(
            "Emulation.setEmulatedMedia",
            features=[
                {"name": "prefers-color-scheme", "value": theme},
                {"name": "prefers-reduced-motion", "value": "reduce"},
            ],
        )
        tab.call("Page.navigate", url=url)
        self.wait_for(session, "Page.loadEventFired")
        return tab


class Tab:
    """One page."""

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self._browser, self._target, self._session = browser, target, session

    def call(self, method: str, **params: Any) -> Any:
        """A command for this page."""
        return self._browser.call(method, self._session, **params)

    def evaluate(self, expression: str) -> Any:
        """The value of JavaScript, as JSON has it."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def press(self, key: str, *, shift: bool = False) -> None:
        """A key, down and up."""
        text = {"text": "\r"} if key == "Enter" else {}
        same: dict[str, Any] = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key], "modifiers": 8 * shift}
        self.call("Input.dispatchKeyEvent", type="keyDown", **same, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **same)

    def happened(self, *events: str) -> list[dict[str, Any]]:
        """What came of these events, of this page."""
        self.evaluate("0")  # what has happened by now has been told before the answer to this
        found = [one for one in self._browser.events if one.get("sessionId") == self._session]
        return [one["params"] for one in found if one["method"] in events]

    def picture(self, path: Path) -> None:
        """A PNG of all of it, for people who look at what they changed."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        """Close it."""
        self._browser.call("Target.closeTarget", targetId=self._target)
