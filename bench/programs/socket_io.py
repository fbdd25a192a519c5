"""A Socket.IO server with rooms, in Python. Usage: socket_io.py PORT DEFLATE"""

import sys

import socketio
import uvicorn

server = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*")


@server.on("join")
async def join(sid: str, room: int) -> None:
    await server.enter_room(sid, str(room))
    await server.emit("joined", to=sid)


@server.on("say")
async def say(sid: str, room: int, text: str) -> None:
    await server.emit("said", text, room=str(room))


uvicorn.run(
    socketio.ASGIApp(server),
    host="127.0.0.1",
    port=int(sys.argv[1]),
    log_level="warning",
    ws_per_message_deflate=sys.argv[2] == "1",
)
