"""The demo site, really served, and a Chromium to look at it with."""

import itertools
import os
import selectors
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

DEMO = Path(__file__).parents[2] / "demo"
START_TIMEOUT_SECONDS = 30
STOP_TIMEOUT_SECONDS = 25
LOUD = {"error", "warning"}
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
]


@pytest.fixture
def _fail_on_a_blocked_loop() -> None:
    """Playwright runs the lines of a test inside steps of its own loop: how long they take says nothing."""


class Site:
    """The demo site as a subprocess, with a database of its own."""

    def __init__(self, data: Path, **environment: str) -> None:
        own = {"DATA_DIR": str(data), "DJANGO_SETTINGS_MODULE": "webapp1.settings"}
        self.environment = os.environ | own | environment
        self.url = ""
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Site":
        self.manage("migrate", "--verbosity", "0")
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def manage(self, *arguments: str, **environment: str) -> None:
        command = [sys.executable, str(DEMO / "manage.py"), *arguments]
        subprocess.run(command, env=self.environment | environment, check=True, timeout=60)

    def start(self, port: int = 0) -> None:
        """Start and wait for the line that says where the site is."""
        command = [sys.executable, "-m", "yamabiko", "serve", "webapp1.asgi:application"]
        self.process = subprocess.Popen(
            [*command, "--app-dir", str(DEMO), "--port", str(port), "--no-access-log"],
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        line = first_line(self.process)
        if not line.startswith("Open  http"):
            self.stop()
            pytest.fail(f"the site says where it is in its first line; this came: {line!r}")
        self.url = line.split()[1].rstrip("/")

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def stop(self) -> None:
        """Ask the site to end and wait until it has; one that does not is a failure, and is killed."""
        if self.process is None:
            return
        process, self.process = self.process, None
        process.terminate()
        try:
            process.communicate(timeout=STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise

    def kill(self) -> None:
        """End the site as a crash would."""
        assert self.process is not None
        process, self.process = self.process, None
        process.kill()
        process.communicate()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(START_TIMEOUT_SECONDS):
            process.kill()
            process.communicate()
            pytest.fail(f"the site did not start within {START_TIMEOUT_SECONDS} s")
    return process.stdout.readline()


@pytest.fixture(scope="session")
def translations() -> None:
    """Compile the Japanese of the site, where it is newer than what is compiled."""
    for source in (DEMO / "webapp1" / "locale").rglob("django.po"):
        compiled = source.with_suffix(".mo")
        if compiled.exists() and compiled.stat().st_mtime > source.stat().st_mtime:
            continue
        draft = compiled.with_suffix(f".{os.getpid()}")  # other workers may read the one that is there
        with source.open("rb") as texts, draft.open("wb") as file:
            write_mo(file, read_po(texts))
        draft.replace(compiled)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, translations: None) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser for one file of tests: while Playwright runs, no other event loop can, so no async test either."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, CHROMIUM_NAMES)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def visitor(chromium: Any, site: Site) -> Iterator[Callable[..., Any]]:
    """Return a function that opens a new visitor's browser; options are those of Playwright's `new_context`.

    When the test ends, none of its pages may have logged an error or thrown one.
    """
    contexts, complaints = [], []

    def new_visitor(*, expects_errors: bool = False, **options: Any) -> Any:
        context = chromium.new_context(**({"base_url": site.url, "locale": "en-US"} | options))
        context.set_default_timeout(15_000)
        contexts.append(context)
        if not expects_errors:
            context.on("console", lambda line: line.type in {"error", "warning"} and complaints.append(line.text))
            context.on("weberror", lambda error: complaints.append(str(error.error)))
        return context

    yield new_visitor
    for context in contexts:
        context.close()
    assert complaints == []


rooms = itertools.count(1)


@pytest.fixture
def room() -> str:
    """Name a room that no other test has used on this site."""
    return f"room{next(rooms) + 100}"
