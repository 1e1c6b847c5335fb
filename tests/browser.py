"""A headless Chromium for tests of pages and notebooks, driven over WebDriver by the standard library alone."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1300,900")


def there() -> bool:
    """Whether this machine has Chromium and its driver."""
    return bool(shutil.which("chromedriver") and shutil.which("chromium"))


class Browser:
    """One window. Commands of https://www.w3.org/TR/webdriver2/."""

    def __init__(self) -> None:
        command = ["chromedriver", "--port=0"]
        self._driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        said = (re.search(r"started successfully on port (\d+)", line) for line in self._driver.stdout)
        port = next(found[1] for found in said if found)
        self._base = f"http://127.0.0.1:{port}/session"
        wanted = {"goog:chromeOptions": {"args": [*OPTIONS]}, "goog:loggingPrefs": {"browser": "ALL"}}
        self._base += "/" + self._ask("", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]

    def close(self) -> None:
        """End the session, and the processes behind it."""
        try:
            self._ask("", method="DELETE")
        finally:
            self._driver.terminate()
            self._driver.wait()

    def open(self, page: Path | str) -> None:
        """Load a page from a file or an address."""
        self._ask("/url", {"url": page if isinstance(page, str) else page.as_uri()})

    def do(self, script: str, *arguments: Any) -> Any:
        """What the body of a function gives in the page."""
        return self._ask("/execute/sync", {"script": script, "args": arguments})

    def key(self, name: str) -> None:
        """Press a key, as "Enter", where the focus is."""
        code, text = {"Enter": (13, "\r")}[name]
        for kind in ("keyDown", "keyUp"):
            self._cdp("Input.dispatchKeyEvent", type=kind, key=name, windowsVirtualKeyCode=code, text=text)

    def errors(self) -> list[str]:
        """What the console has said since this was last asked."""
        return [entry["message"] for entry in self._ask("/se/log", {"type": "browser"})]

    def media(self, scheme: str, width: int, height: int = 900) -> None:
        """The preferred colours, light or dark, and the size of the window."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._cdp("Emulation.setEmulatedMedia", features=features)
        self._cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def picture(self, path: Path) -> None:
        """Write what is seen as PNG."""
        path.write_bytes(base64.b64decode(self._ask("/screenshot", method="GET")))

    def _cdp(self, command: str, **parameters: Any) -> Any:
        return self._ask("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def _ask(self, path: str, body: Any = None, method: str = "POST") -> Any:
        content = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(self._base + path, content, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return json.load(answer)["value"]
