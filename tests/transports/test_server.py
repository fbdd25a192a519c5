"""What our server adds to uvicorn's."""

from __future__ import annotations

import gc
import logging
import logging.config
from collections.abc import Iterator
from typing import Any

import pytest

from yamabiko.transports.server import RoomServer, config, listening_socket, log_config


@pytest.fixture
def access_log(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that logs a request as uvicorn does, and returns the line."""
    logger = logging.getLogger("uvicorn.access")
    before = logger.handlers[:], logger.level, logger.propagate

    def log(path: str) -> str:
        logging.config.dictConfig(log_config())
        logger.info('%s - "%s %s HTTP/%s" %d', "127.0.0.1:5", "GET", path, "1.1", 200)
        return capsys.readouterr().out

    yield log
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.mark.parametrize("path", ["/connection/sse?cf_connect=s3cret", "/api/info?a=b&api_key=s3cret&c=d"])
def test_a_secret_in_a_query_reaches_no_log(access_log: Any, path: str) -> None:
    line = access_log(path)
    assert path.partition("?")[0] in line
    assert "s3cret" not in line


def test_other_queries_are_logged_as_they_are(access_log: Any) -> None:
    assert "/rooms/?number=7&broken=1" in access_log("/rooms/?number=7&broken=1")


@pytest.fixture
def _unfrozen() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("_unfrozen")
async def test_what_is_loaded_at_the_start_is_spared_the_collector() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"

    server = RoomServer(config(application, log_config=None))
    server.should_exit = True
    with listening_socket("127.0.0.1", 0) as listener:
        await server.serve(sockets=[listener])
    loaded = gc.get_freeze_count()
    assert loaded > len(gc.get_objects()), "nearly all there is, is there since the start"
