"""A real server takes up what a killed process has committed and not sent."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.django.outbox_bench import run_elsewhere
from tests.servers.running import PATIENCE_SECONDS, SERVE, Servers

pytestmark = pytest.mark.server

COMMIT_AND_DIE = """
from signal import SIGKILL
from django.db import transaction
with transaction.atomic():
    transaction.on_commit(lambda: os.kill(os.getpid(), SIGKILL))
    for number in range(3):
        yamabiko.publish('kept/a', number)
"""


def test_members_hear_what_a_killed_process_had_committed(tmp_path: Path) -> None:
    file = tmp_path / "site.sqlite3"
    with (
        Servers(file).new(SERVE) as server,
        connect(f"ws://127.0.0.1:{server.port}/rooms/kept/a/") as member,
    ):
        ended = run_elsewhere(COMMIT_AND_DIE, tmp_path, {"ENGINE": "django.db.backends.sqlite3", "NAME": str(file)})
        assert (ended.returncode, ended.stderr) == (-signal.SIGKILL, "")
        frames = [json.loads(member.recv(PATIENCE_SECONDS)) for _ in range(3)]
    assert [frame["payload"]["message"] for frame in frames] == [0, 1, 2]
    assert not any("Traceback" in line for line in server.printed), "\n".join(server.printed)
