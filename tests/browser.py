"""Headless Chromium through chromedriver's WebDriver protocol (w3.org/TR/webdriver2); needs no library."""

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MISSING = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,1000",
)


class Browser:
    """One page. Elements are chosen in JavaScript."""

    def __init__(self, session: str) -> None:
        self._session = session

    def open(self, url: str) -> None:
        """Load a page."""
        _post(f"{self._session}/url", {"url": url})

    def run(self, script: str) -> Any:
        """Return what the body of a JavaScript function returns, inside the current frame."""
        return _post(f"{self._session}/execute/sync", {"script": script, "args": []})

    def wait(self, script: str, seconds: float = 30) -> Any:
        """Run `script` until it returns something true, and return that."""
        deadline = time.monotonic() + seconds
        while not (found := self.run(script)):
            assert time.monotonic() < deadline, f"still not true: {script}"
            time.sleep(0.1)
        return found

    def enter_frame(self, number: int) -> None:
        """Run later scripts inside an iframe of the page."""
        _post(f"{self._session}/frame", {"id": number})

    def leave_frame(self) -> None:
        """Run later scripts in the page again."""
        _post(f"{self._session}/frame", {"id": None})

    def console_errors(self) -> list[str]:
        """Return what the page logged as severe since the last call."""
        entries = _post(f"{self._session}/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def screenshot(self, target: Path) -> None:
        """Write a PNG of the window."""
        with urllib.request.urlopen(f"{self._session}/screenshot") as answer:
            target.write_bytes(base64.b64decode(json.load(answer)["value"]))


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start Chromium with the fresh profile folder `profile`; end it and its driver in every case."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen(
        ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        root = f"http://127.0.0.1:{port}"
        _wait_for(f"{root}/status")
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"], "binary": shutil.which("chromium")}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = _post(f"{root}/session", {"capabilities": {"alwaysMatch": wanted}})
        address = f"{root}/session/{session['sessionId']}"
        try:
            yield Browser(address)
        finally:
            urllib.request.urlopen(urllib.request.Request(address, method="DELETE")).close()
    finally:
        driver.terminate()
        driver.wait()


def _post(url: str, body: dict) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(error.read().decode()) from None


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "chromedriver does not answer"
            time.sleep(0.1)
