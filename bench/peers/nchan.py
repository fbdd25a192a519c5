"""nchan: publish and subscribe in C, a module of nginx. Members read at /sub/, publishers write at /pub/."""

from __future__ import annotations

import getpass
import os
import shutil
from pathlib import Path

from bench.peers.peer import DEFLATE, PLAIN, Peer, Place, version_line

FOLDERS = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules", "/etc/nginx/modules")
SAYS = ["--path", "/sub/{room}", "--publish-path", "/pub/{room}"]
CONFIGURATION = """\
load_module {module};
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 65000; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    nchan_shared_memory_size 128M;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location ~ ^/sub/(.+)$ {{
            nchan_subscriber websocket;
            nchan_channel_id $1;
            nchan_subscriber_first_message newest;
            nchan_websocket_ping_interval 25;
        }}
        location ~ ^/pub/(.+)$ {{
            nchan_publisher websocket;
            nchan_channel_id $1;
            nchan_message_buffer_length 100;
            nchan_message_timeout 60s;
            {deflate}
        }}
    }}
}}
"""


def module() -> Path | None:
    paths = (Path(folder) / "ngx_nchan_module.so" for folder in FOLDERS)
    return next((path for path in paths if path.exists()), None)


def nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def server(place: Place) -> list[str]:
    configuration = place.folder / "nginx.conf"
    configuration.write_text(
        CONFIGURATION.format(
            module=module(),
            user=f"user {getpass.getuser()};" if os.geteuid() == 0 else "",
            folder=place.folder,
            port=place.port,
            deflate="nchan_deflate_message_for_websocket on;" if place.kind == DEFLATE else "",
        ),
        encoding="utf-8",
    )
    return [
        nginx() or "nginx",
        "-c",
        str(configuration),
        "-p",
        str(place.folder),
        "-e",
        str(place.folder / "error.log"),
    ]


def lacks() -> str | None:
    if nginx() is None or module() is None:
        return "nginx with nchan is missing (Debian: apt install nginx libnginx-mod-nchan)"
    return None


PEER = Peer(
    name="nchan",
    title="nchan (C, in nginx)",
    server=server,
    says={PLAIN: SAYS, DEFLATE: SAYS},
    missing=lacks,
    version=lambda: version_line(nginx() or "nginx", "-v").removeprefix("nginx version: "),
)
