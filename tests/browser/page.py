"""What a visitor does on the page of a room, and what is seen there."""

from typing import Any

from playwright.sync_api import BrowserContext, Locator, Page, expect


class RoomPage:
    def __init__(self, visitor: BrowserContext, room: str) -> None:
        self.page: Page = visitor.new_page()
        self.room = room
        self.page.goto(f"/rooms/{room}/")

    def live(self) -> "RoomPage":
        expect(self.state).to_have_attribute("data-state", "live")
        return self

    @property
    def state(self) -> Locator:
        return self.page.locator("#state")

    @property
    def composer(self) -> Locator:
        return self.page.locator("#text")

    @property
    def texts(self) -> Locator:
        """The messages that the room has given back."""
        return self.page.locator(".message:not(.pending, .refused) .text")

    def say(self, text: str) -> None:
        self.composer.fill(text)
        self.composer.press("Enter")

    def shows(self, *texts: str) -> None:
        """Wait until exactly these messages are shown, in this order."""
        expect(self.texts).to_have_text(list(texts))

    def log_scrolls_sideways(self) -> bool:
        return self.page.locator("#log").evaluate("log => log.scrollWidth > log.clientWidth")

    def evaluate(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)
