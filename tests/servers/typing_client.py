"""A terminal program on websocket-client: a thread sends what is typed, line by line, while messages are printed."""

import sys
import threading

import websocket


def send_typed_lines(link: websocket.WebSocketApp) -> None:
    while line := sys.stdin.readline():
        link.send(line.rstrip("\n"))


websocket.WebSocketApp(
    sys.argv[1],
    on_open=lambda link: threading.Thread(target=send_typed_lines, args=[link], daemon=True).start(),
    on_message=lambda link, message: print("received:", message, flush=True),
    on_error=lambda link, error: print("error:", error, flush=True),
    on_close=lambda link, code, reason: print("closed:", code, reason, flush=True),
).run_forever()
