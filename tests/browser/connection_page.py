"""A page that has nothing but the module: what it is told is written down, in order."""

from typing import Any

from playwright.sync_api import BrowserContext, Page

MODULE = "/static/yamabiko/connection.js"
BEGIN = """async (module) => {
    Object.assign(globalThis, await import(module));
    globalThis.told = [];
    globalThis.hear = (target, ...types) => {
        for (const type of types) target.addEventListener(type, ({ detail }) => told.push([type, detail]));
        return target;
    };
    globalThis.fate = (promise) => promise.then(
        (done) => ({ done: done ?? null }),
        ({ name, code, message, isTemporary }) => ({ name, code, message, isTemporary }),
    );
    globalThis.enter = (name, options) =>
        hear(connection.join(name, options), "message", "members", "gap", "joined", "left");
}"""


class ConnectionPage:
    def __init__(self, visitor: BrowserContext, options: str = "", path: str = "/sign-in/") -> None:
        self.page: Page = visitor.new_page()
        self.page.goto(path)
        self.page.evaluate(BEGIN, MODULE)
        self.run(f"globalThis.connection = hear(connect({options}), 'state', 'message')")

    def run(self, script: str) -> None:
        self.page.evaluate(f"() => {{ {script} }}")

    def get(self, expression: str) -> Any:
        """Return the value of an expression, or of its promise."""
        return self.page.evaluate(f"async () => ({expression})")

    def fate(self, promise: str) -> Any:
        """Return {"done": value} or what a refusal says."""
        return self.get(f"fate({promise})")

    def until(self, condition: str) -> None:
        self.page.wait_for_function(f"() => {condition}")

    def until_state(self, name: str) -> "ConnectionPage":
        self.until(f"connection.state.name === '{name}'")
        return self

    def enter(self, room: str = "room1", options: str = "{}") -> "ConnectionPage":
        """Join a room as `room` of the page, and wait until it is joined."""
        self.run(f"globalThis.room = enter('{room}', {options})")
        self.until("room.state === 'joined'")
        return self

    def told(self, kind: str) -> list[Any]:
        """Return the details of all events of this type so far."""
        return self.get(f"told.filter(([type]) => type === '{kind}').map(([, detail]) => detail)")

    def messages(self) -> list[Any]:
        return [detail["data"] for detail in self.told("message")]

    def until_messages(self, *expected: Any) -> None:
        """Wait for so many messages; they are these, in this order."""
        self.until(f"told.filter(([type]) => type === 'message').length >= {len(expected)}")
        assert self.messages() == list(expected)
