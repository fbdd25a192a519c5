"""A broadcast server on the `websockets` library: a room is a path. Usage: broadcast.py PORT DEFLATE"""

import sys
from collections import defaultdict

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

rooms: defaultdict[str, set[ServerConnection]] = defaultdict(set)


async def visit(connection: ServerConnection) -> None:
    members = rooms[connection.request.path]
    members.add(connection)
    try:
        async for message in connection:
            broadcast(members, message)
    except ConnectionClosed:
        pass
    finally:
        members.discard(connection)


async def main(port: int, is_deflated: bool) -> None:
    compression = "deflate" if is_deflated else None
    async with serve(visit, "127.0.0.1", port, compression=compression, backlog=4096) as server:
        await server.serve_forever()


uvloop.run(main(int(sys.argv[1]), sys.argv[2] == "1"))
