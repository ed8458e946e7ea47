"""The system's Chromium, and the desk on a port where it can look."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from desk.config import DeskConfig
from desk.server.application import create_application
from tests.support.waiting import wait_until

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def chromium_path() -> str:
    """The program. It is installed where that is possible; otherwise the test fails and says what is missing."""
    for program in _PROGRAMS:
        if found := shutil.which(program):
            return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"]
        subprocess.run(install, env=environment, check=False, capture_output=True)
        if found := shutil.which("chromium"):
            return found
    pytest.fail("a browser is missing: apt-get install chromium", pytrace=False)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window."""
    with sync_playwright() as playwright:
        # The sandbox does not work for root in a container; the only pages are ours.
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def listening(config: DeskConfig) -> Iterator[str]:
    """The desk on a free port; its address."""
    server = uvicorn.Server(
        uvicorn.Config(create_application(config), port=0, ws="none", log_config=None, access_log=False)
    )
    thread = threading.Thread(target=server.run, name="desk")
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), "the desk")
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


class Watched:
    """A page with everything that went wrong in it."""

    def __init__(self, context: BrowserContext) -> None:
        self.page: Page = context.new_page()
        self.problems: list[str] = []
        self.page.on("console", lambda message: self._note(message.type, message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("requestfailed", lambda request: self._note_failure(request.url, request.failure or ""))

    def _note_failure(self, url: str, failure: str) -> None:
        # A page that is left does not load the rest of its files.
        if failure != "net::ERR_ABORTED":
            self.problems.append(f"{url}: {failure}")

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.problems.append(text)


def save_screenshot(page: Page, name: str) -> None:
    """Saves a picture if the variable ``DESK_SCREENSHOTS`` names a folder for it."""
    if folder := os.environ.get("DESK_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)
