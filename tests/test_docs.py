"""What the documentation says is true: names, defaults and codes are those of the source, and its examples run."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from babel.messages.catalog import Message
from babel.messages.pofile import read_po

import yamabiko
from bench.__main__ import arguments as bench_arguments
from tests.sdk import javascript
from yamabiko.core import errors
from yamabiko.django import settings
from yamabiko.django.api.methods import METHODS
from yamabiko.django.brokers import make_broker
from yamabiko.transports.asgi import TOO_BIG_FOR_DAPHNE

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "yamabiko"
DOCS = ROOT / "docs"
JAPANESE = DOCS / "locale" / "ja" / "LC_MESSAGES"
README = ROOT / "README.md"
README_JA = ROOT / "README.ja.md"
SPEED = DOCS / "explanation" / "speed.md"
HTTP_API = DOCS / "how-to" / "http-api.md"
SDKS = DOCS / "how-to" / "client-sdks.md"
SDK_PYTHON = DOCS / "how-to" / "sdk-python.md"
SDK_JAVASCRIPT = DOCS / "how-to" / "sdk-javascript.md"

CODE_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#+) ", re.MULTILINE)
CODE_SPAN = re.compile(r"`[^`]+`")
LINK_TARGET = re.compile(r"\]\(([^)]+)\)")
CHECK_ID = re.compile(r"yamabiko\.[EW]\d{3}")
SUBSCRIPTION_END = re.compile(r"\.end\((\d{4}), \"([^\"]+)\"\)")
WITH_ROOMS = "application = with_rooms("
START_TIMEOUT_SECONDS = 30


def text_of(*path: str) -> str:
    return DOCS.joinpath(*path).read_text(encoding="utf-8")


def pages() -> list[Path]:
    return sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)


def code_blocks(page: Path, language: str) -> list[str]:
    return [code for written_in, code in CODE_BLOCK.findall(page.read_text(encoding="utf-8")) if written_in == language]


def block_with(page: Path, words: str) -> str:
    return next(code for code in code_blocks(page, "python") if words in code)


def translations() -> list[tuple[Path, Message]]:
    found = []
    for catalogue in sorted(JAPANESE.rglob("*.po")):
        with catalogue.open("rb") as file:
            found += [(catalogue, message) for message in read_po(file, locale="ja") if message.id]
    return found


def test_every_setting_is_documented_with_its_default():
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| `([^`]+)` \|", text_of("reference", "settings.md"), re.MULTILINE))
    assert {key: ast.literal_eval(default) for key, default in rows.items()} == {
        name: list(key.default) if isinstance(key.default, tuple) else key.default
        for name, key in settings.KEYS.items()
    }


def test_every_url_of_a_broker_in_the_reference_is_one(settings):
    placeholders = {"USER": "site", "PASSWORD": "secret", "HOST": "localhost", "PORT": "6379", "ALIAS": "default"}
    placeholders |= {"DB": "0", "SERVICE": "main", "PATH": "/run/redis.sock"}
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    reference = text_of("reference", "settings.md").partition("## The URLs of BROKER")[2]
    rows = re.findall(r"^\| (`\S+:.*?) \|", reference, re.MULTILINE)
    urls = [url for row in rows for url in re.findall(r"`([^`]+)`", row)]
    assert len(urls) > 8
    for url in urls:
        filled = re.sub("|".join(placeholders), lambda found: placeholders[found[0]], url)
        if filled.endswith("://"):
            filled += "localhost/main" if "sentinel" in filled else "localhost"
        settings.YAMABIKO = {"BROKER": filled}
        make_broker()


def test_every_system_check_is_documented_and_no_other():
    raised = {found for module in SOURCE.rglob("*.py") for found in CHECK_ID.findall(module.read_text("utf-8"))}
    assert raised
    assert set(CHECK_ID.findall(text_of("reference", "checks.md"))) == raised


def test_every_public_name_is_in_the_reference():
    reference = text_of("reference", "python.md")
    assert [name for name in yamabiko.__all__ if not re.search(rf"\b{name}\b", reference)] == []


def test_every_error_and_close_code_is_in_the_reference():
    reference = text_of("reference", "sdk-protocol.md")
    refusals = {
        kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.Refusal)
    }
    assert len(refusals) > 10
    assert [code for code in refusals - {errors.Refused.code} if f"\n| {code} | " not in reference] == []
    assert len(closes()) > 10
    assert [str(close) for close in closes() if f"\n| {close.code} | `{close.reason}` | " not in reference] == []


def test_every_reason_why_a_subscription_ends_is_in_the_reference():
    reference = text_of("reference", "sdk-protocol.md").partition("## Why a subscription ends")[2]
    ends = {end for module in (SOURCE / "core").rglob("*.py") for end in SUBSCRIPTION_END.findall(module.read_text())}
    assert len(ends) > 2
    assert [end for end in ends if "\n| {} | `{}` | ".format(*end) not in reference] == []


def test_the_reference_of_the_room_protocol_names_no_code_that_does_not_exist():
    reference = text_of("reference", "room-protocol.md")
    codes = {kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.Refusal)}
    assert {int(code) for code in re.findall(r"^\| (1\d\d) \| ", reference, re.MULTILINE)} <= codes
    known = {(str(close.code), close.reason) for close in [*closes(), TOO_BIG_FOR_DAPHNE]} | {("1000", "bye")}
    assert set(re.findall(r"^\| (\d{4}) \| `([^`]+)` \| ", reference, re.MULTILINE)) <= known


def closes() -> list[errors.Close]:
    return [close for close in vars(errors).values() if isinstance(close, errors.Close)]


def test_every_method_of_the_http_api_is_on_its_page():
    rows = "".join(re.findall(r"^\| (`.*?) \| ", text_of("how-to", "http-api.md"), re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", rows)) == METHODS.keys() - {"rpc"}


def test_every_bench_command_on_the_page_about_speed_can_be_typed():
    typed = [line.partition("python -m bench")[2] for block in code_blocks(SPEED, "sh") for line in block.splitlines()]
    options = [words.split() for words in typed if words]
    assert len(options) > 2
    for words in options:
        bench_arguments(words)


@pytest.mark.parametrize("page", [README, README_JA, *pages()], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_python_on_a_page_compiles(page):
    for code in code_blocks(page, "python"):
        compile(textwrap.dedent(code), str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_both_readmes_have_the_same_headings_and_the_same_code():
    english, japanese = README.read_text(encoding="utf-8"), README_JA.read_text(encoding="utf-8")
    assert CODE_BLOCK.findall(japanese) == CODE_BLOCK.findall(english)
    assert HEADING.findall(CODE_BLOCK.sub("", japanese)) == HEADING.findall(CODE_BLOCK.sub("", english))
    assert len(re.findall(r"^\|", japanese, re.MULTILINE)) == len(re.findall(r"^\|", english, re.MULTILINE))


def test_the_tutorial_and_the_readme_show_the_same_site():
    tutorial = DOCS / "tutorial.md"
    for words in ("@register", WITH_ROOMS):
        assert block_with(tutorial, words) == block_with(README, words)


@pytest.mark.server
def test_the_four_steps_of_the_readme_make_a_site_with_a_room(tmp_path):
    follow_the_four_steps(tmp_path)
    with served(tmp_path) as port:
        said = run(tmp_path, "yamabiko", "connect", "--port", port, "--room", "chat/lobby", lines="hello\n")
        assert said.stdout == '{"text":"hello","by":"a guest"}\n', said.stderr
        refused = run(tmp_path, "yamabiko", "connect", "--port", port, "--room", "chat/news-today", lines="hello\n")
        assert refused.returncode == 1
        assert "you may not publish" in refused.stderr


@pytest.mark.server
def test_rooms_outlive_the_server_with_the_setting_of_the_tutorial(tmp_path):
    follow_the_four_steps(tmp_path)
    with (tmp_path / "mysite" / "settings.py").open("a") as own_settings:
        own_settings.write(block_with(DOCS / "tutorial.md", "sqlite:///"))
    with served(tmp_path) as port:
        run(tmp_path, "yamabiko", "connect", "--port", port, "--room", "chat/lobby", lines="hello\n")
    with served(tmp_path):
        kept = run(tmp_path, "yamabiko", "history", "chat/lobby", "--settings", "mysite.settings")
        assert kept.stdout.endswith('\t{"text":"hello","by":"a guest"}\n'), kept.stderr


@pytest.mark.server
def test_the_program_on_the_page_about_python_talks_in_a_room(tmp_path, monkeypatch):
    follow_the_page_about_sdks(tmp_path, monkeypatch)
    with served(tmp_path) as port:
        program = tmp_path / "program.py"
        program.write_text(block_with(SDK_PYTHON, "asyncio.run(main())").replace("127.0.0.1:8000", f"127.0.0.1:{port}"))
        ended = run(tmp_path, "program")
    said = ended.stdout.splitlines()
    assert "1 robot: hello" in said, ended.stderr
    assert "came {'name': 'robot'}" in said
    assert said[-5:-3] == ["[{'name': 'robot'}]", "['hello']"]
    assert re.fullmatch(r"rolled ([1-9]|1\d|20)", said[-3])
    assert said[-2] == "400 a message is a text of at most 500 characters"
    assert said[-1].startswith("disconnected 0 ")


@pytest.mark.server
def test_the_view_for_programs_gives_a_token_for_its_key_alone(tmp_path, monkeypatch):
    follow_the_page_about_sdks(tmp_path, monkeypatch)
    answered = run(tmp_path, "manage", "shell", "--no-imports", "-c", ASK_WITH_KEYS)
    assert answered.stdout.split() == ["200", "401", "401", "401", "405"], answered.stderr


@pytest.mark.server
def test_the_program_on_the_page_about_python_says_why_it_has_no_connection(tmp_path, monkeypatch):
    follow_the_page_about_sdks(tmp_path, monkeypatch)
    with served(tmp_path) as port:
        monkeypatch.setenv("APP_KEY", "another")
        program = block_with(SDK_PYTHON, "asyncio.run(main())").replace("127.0.0.1:8000", f"127.0.0.1:{port}")
        (tmp_path / "program.py").write_text(program)
        ended = run(tmp_path, "program")
    assert "HTTP Error 401" in ended.stdout
    assert ended.returncode == 1


@pytest.mark.server
def test_the_program_on_the_page_about_the_http_api_publishes(tmp_path, monkeypatch):
    follow_the_page_about_sdks(tmp_path, monkeypatch)
    monkeypatch.setenv("API_KEY", "for-tests-only-and-long-enough")
    with (tmp_path / "mysite" / "settings.py").open("a") as own_settings:
        own_settings.write(block_with(HTTP_API, '"API_KEY": os.environ'))
    with served(tmp_path) as port:
        code = block_with(HTTP_API, "from cent").replace("https://rooms.example.org", f"http://127.0.0.1:{port}")
        (tmp_path / "program.py").write_text(f"import os\nAPI_KEY = os.environ['API_KEY']\n{code}")
        ended = run(tmp_path, "program")
    assert re.fullmatch(r"1 \S+\n", ended.stdout), ended.stderr


@pytest.mark.server
def test_the_code_on_the_page_about_javascript_talks_in_a_room(tmp_path, monkeypatch):
    javascript.install()
    (tmp_path / "node_modules").symlink_to(javascript.FOLDER / "node_modules")
    follow_the_page_about_sdks(tmp_path, monkeypatch)
    session = run(tmp_path, "manage", "shell", "--no-imports", "-c", SIGN_IN).stdout.strip()
    with served(tmp_path) as port:
        said = {name: in_node(tmp_path, name, port, session) for name in programs_in_javascript()}
    assert {"1 alice: hello", "[ 'alice' ]", "[ 'hello' ]"} <= set(said["with_session"])
    assert any(line.startswith("came alice ") for line in said["with_session"])
    assert any(re.fullmatch(r"rolled ([1-9]|1\d|20)", line) for line in said["with_session"])
    assert "400 a message is a text of at most 500 characters" in said["with_session"]
    assert "connected" in said["with_token"]
    assert "connected" in said["from_node"]
    assert "{ text: 'hello', by: 'alice' }" in said["in_protobuf"]
    assert {"http_stream", "connected"} <= set(said["over_http"])


def in_node(folder: Path, name: str, port: str, session: str) -> list[str]:
    """Run one of the programs made of the page's code, as a page of the site at `port`; return what it says."""
    code = PAGE_OF_A_SITE.replace("SESSION", session) + "\n".join(programs_in_javascript()[name])
    code = code.replace('fetch("/', 'fetch("http://HOST/').replace("s://rooms.example.org", "://HOST")
    program = folder / f"{name}.mjs"
    program.write_text(code.replace("HOST", f"127.0.0.1:{port}"))
    ended = subprocess.run(
        ["node", program.name], cwd=folder, capture_output=True, encoding="utf-8", timeout=START_TIMEOUT_SECONDS
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def programs_in_javascript() -> dict[str, list[str]]:
    """Return the code on the page about JavaScript, put together so that it can run."""
    connects = "{0}.connect(); await {0}.ready(); console.log('connected'); {0}.disconnect();"
    import_sdk = 'import { Centrifuge } from "centrifuge";'
    from_node = javascript_with("fromNode").replace("import WebSocket", "import NodeSocket")
    return {
        "with_session": [javascript_with("room.presence"), javascript_with("refused.code"), "client.disconnect();"],
        "with_token": [import_sdk, javascript_with("withToken"), connects.format("withToken")],
        "from_node": [import_sdk, from_node.replace("WebSocket }", "SessionSocket }"), connects.format("fromNode")],
        "in_protobuf": [
            javascript_with("centrifuge/build/protobuf"),
            "const kept = await room.history({ limit: 1 });",
            "console.log(JSON.parse(new TextDecoder().decode(kept.publications[0].data)));",
            "client.disconnect();",
        ],
        "over_http": [
            import_sdk,
            "globalThis.WebSocket = undefined;",
            javascript_with("http_stream"),
            "client.on('connected', ({ transport }) => console.log(transport));",
            connects.format("client"),
        ],
    }


def javascript_with(words: str) -> str:
    return next(code for code in code_blocks(SDK_JAVASCRIPT, "js") if words in code)


PAGE_OF_A_SITE = """
import PageSocket from "ws";
globalThis.location = { protocol: "http:", host: "HOST" };
globalThis.SessionSocket = class extends PageSocket {
  constructor(url, protocols) {
    super(url, protocols, { headers: { Cookie: "sessionid=SESSION", Origin: "http://HOST" } });
  }
};
globalThis.WebSocket = SessionSocket;
"""
SIGN_IN = """
from django.contrib.auth.models import User
from django.test import Client
client = Client()
client.force_login(User.objects.get(username="alice"))
print(client.cookies["sessionid"].value)
"""


def follow_the_page_about_sdks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the site of the page, with its user robot and one more, alice."""
    monkeypatch.setenv("TOKEN_SECRET", "for tests only, and of more than thirty-two bytes")
    monkeypatch.setenv("APP_KEY", "of the robot")
    follow_the_four_steps(folder)
    (folder / "chat" / "rooms.py").write_text(block_with(SDKS, "@register"))
    with (folder / "mysite" / "settings.py").open("a") as own_settings:
        own_settings.write(block_with(SDKS, "TOKEN_SECRET"))
    (folder / "chat" / "views.py").write_text(block_with(SDKS, "def app_token"))
    (folder / "mysite" / "urls.py").write_text(block_with(SDKS, "yamabiko.urls"))
    run(folder, "manage", "migrate")
    _, makes_robot = shlex.split(code_blocks(SDKS, "sh")[0].splitlines()[0].partition(" shell ")[2])
    run(folder, "manage", "shell", "-c", makes_robot)
    run(folder, "manage", "shell", "--no-imports", "-c", MAKE_ALICE)


ASK_WITH_KEYS = """
import os
from django.test import Client
client = Client(enforce_csrf_checks=True, SERVER_NAME="localhost")
for key, sent in (("its", "its"), ("its", "another"), ("its", ""), ("", "")):
    os.environ["APP_KEY"] = key
    print(client.post("/app-token/", headers={"Authorization": f"Bearer {sent}"}).status_code)
print(client.get("/app-token/").status_code)
"""
MAKE_ALICE = "from django.contrib.auth.models import User; User.objects.create_user('alice')"


def follow_the_four_steps(folder: Path) -> None:
    run(folder, "django", "startproject", "mysite", ".")
    run(folder, "django", "startapp", "chat")
    own_settings = folder / "mysite" / "settings.py"
    apps = own_settings.read_text().replace("INSTALLED_APPS = [", 'INSTALLED_APPS = ["yamabiko", "chat",', 1)
    own_settings.write_text(apps)
    (folder / "chat" / "rooms.py").write_text(block_with(README, "@register"))
    (folder / "mysite" / "asgi.py").write_text(block_with(README, WITH_ROOMS))
    checked = run(folder, "manage", "check")
    assert "no issues" in checked.stdout, checked.stderr


def environment() -> dict[str, str]:
    """Return the environment without the settings of these tests."""
    return {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}


def run(folder: Path, module: str, *words: str, lines: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=folder,
        env=environment(),
        input=lines,
        capture_output=True,
        encoding="utf-8",
        timeout=START_TIMEOUT_SECONDS,
    )


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve the site in `folder`, and yield the port."""
    command = [sys.executable, "-u", "-m", "yamabiko", "serve", "mysite.asgi:application", "--port", "0"]
    with (folder / "errors").open("w") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=log, encoding="utf-8"
        )
    try:
        assert server.stdout
        greeting = server.stdout.readline()
        assert greeting.startswith("Open"), (folder / "errors").read_text()
        yield re.search(r":(\d+)/", greeting)[1]
    finally:
        server.terminate()
        server.communicate(timeout=START_TIMEOUT_SECONDS)


def test_every_page_has_a_japanese_translation_and_no_other_exists():
    translated = {file.relative_to(JAPANESE).with_suffix("") for file in JAPANESE.rglob("*.po")}
    assert translated == {page.relative_to(DOCS).with_suffix("") for page in pages()}


def test_nothing_is_left_untranslated_or_unsure():
    messages = translations()
    assert len(messages) > 100
    assert [str(message.id) for _, message in messages if not message.string or message.fuzzy] == []


def test_a_translation_keeps_the_code_and_the_links_of_its_original():
    changed = [
        f"{catalogue.name}: {message.id}"
        for catalogue, message in translations()
        for pattern in (CODE_SPAN, LINK_TARGET)
        if sorted(pattern.findall(message.id)) != sorted(pattern.findall(message.string))
    ]
    assert changed == []
