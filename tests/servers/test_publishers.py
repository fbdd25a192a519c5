"""Processes that serve nobody: WSGI workers, task queues, shells. They publish through Redis from any thread."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.redis_server import RedisServer
from tests.redis_server import redis_server as redis_server
from tests.servers.running import PATIENCE_SECONDS, ROOT, environment

pytestmark = [pytest.mark.server, pytest.mark.redis]


def run(program: str, redis_server: RedisServer) -> str:
    """Run a program in a process of the site; return what it prints."""
    warnings = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")
    ended = subprocess.run(
        [sys.executable, *warnings, "-c", f"import django; django.setup(); import yamabiko\n{program}"],
        cwd=ROOT,
        env=environment(SITE_DATABASE=":memory:", SITE_YAMABIKO=json.dumps({"BROKER": redis_server.url})),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def test_many_threads_of_one_process_publish_at_once(redis_server: RedisServer, request: pytest.FixtureRequest):
    room = f"kept/{request.node.name}"
    program = f"""
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(8) as threads:
    offsets = sorted(position.offset for position in threads.map(lambda n: yamabiko.publish({room!r}, n), range(50)))
print(offsets == list(range(1, 51)), len(yamabiko.history({room!r}).messages))
"""
    assert run(program, redis_server) == "True 50\n"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_process_that_forks_after_it_has_published_goes_on_in_both(
    redis_server: RedisServer, request: pytest.FixtureRequest
):
    room = f"kept/{request.node.name}"
    program = f"""
import os
yamabiko.publish({room!r}, "before")
child = os.fork()
yamabiko.publish({room!r}, "child" if child == 0 else "parent")
if child:
    os.waitpid(child, 0)
    print(sorted(kept.message for kept in yamabiko.history({room!r}).messages))
else:
    os._exit(0)
"""
    assert run(program, redis_server) == "['before', 'child', 'parent']\n"


def test_async_code_publishes_in_one_loop_after_another(redis_server: RedisServer, request: pytest.FixtureRequest):
    room = f"kept/{request.node.name}"
    program = f"""
import asyncio
for number in range(3):
    asyncio.run(yamabiko.apublish({room!r}, number))
yamabiko.publish({room!r}, 3)
print([kept.message for kept in asyncio.run(yamabiko.ahistory({room!r})).messages])
"""
    assert run(program, redis_server) == "[0, 1, 2, 3]\n"
