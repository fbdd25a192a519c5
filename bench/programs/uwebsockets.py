"""uWebSockets' own publish and subscribe: a topic is a path. Usage: uwebsockets.py PORT DEFLATE"""

import sys

from socketify import App, AppListenOptions, CompressOptions, OpCode


def upgrade(response, request, context):
    response.upgrade(
        request.get_header("sec-websocket-key"),
        request.get_header("sec-websocket-protocol"),
        request.get_header("sec-websocket-extensions"),
        context,
        request.get_url(),
    )


def opened(socket):
    socket.subscribe(socket.get_user_data())


def received(socket, message, opcode):
    app.publish(socket.get_user_data(), message, OpCode.TEXT, is_deflated)


is_deflated = sys.argv[2] == "1"
app = App()
app.ws(
    "/*",
    {
        "compression": CompressOptions.SHARED_COMPRESSOR if is_deflated else CompressOptions.DISABLED,
        "max_payload_length": 1 << 20,
        "max_backpressure": 1 << 20,
        "idle_timeout": 60,
        "upgrade": upgrade,
        "open": opened,
        "message": received,
    },
)
app.listen(AppListenOptions(port=int(sys.argv[1]), host="127.0.0.1"))
app.run()
