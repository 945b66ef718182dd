"""A page opened in Chromium, all that it did beyond showing itself, and the time that it took."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from shutil import which
from typing import Any

CHROMIUM = which("chromium") or which("chromium-browser") or which("google-chrome")


class Visit:
    """An open page, and all that it did beyond showing itself."""

    def __init__(self, browser: Any, path: Path, fragment: str = "", **options: Any) -> None:
        self.misdeeds: list[str] = []
        self.page = browser.new_page(**options)
        self.spent = main_thread(self.page)
        self.page.on("console", lambda message: self.misdeeds.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.misdeeds.append(f"error: {error}"))
        self.page.on("dialog", self._dialog)
        self.page.on("request", self._request)
        self.page.goto(path.as_uri() + fragment)

    def _dialog(self, dialog: Any) -> None:
        self.misdeeds.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:")) or request.url.endswith((".js", ".css")):
            self.misdeeds.append(f"request: {request.url}")

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)


def main_thread(page: Any) -> Callable[[], float]:
    """A clock of the CPU milliseconds that the page's main thread has spent; start it before the page is opened."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return 1000 * next(metric["value"] for metric in metrics if metric["name"] == "ThreadTime")

    return spent
