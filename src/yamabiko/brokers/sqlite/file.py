"""The log's file: opened for this process alone, made private, and looked after while it is open."""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from pathlib import Path

from yamabiko.brokers.sqlite.errors import LogTrouble
from yamabiko.brokers.sqlite.schema import bring_up_to_date

WAIT_SECONDS = 2.0
"""How long to wait for another process that has the file."""
AGAIN_MILLISECONDS = 50
WAL_BYTES = 4 * 1024 * 1024
CACHE_KIB = 8 * 1024

_BEFORE_TABLES = ("auto_vacuum = INCREMENTAL", "locking_mode = EXCLUSIVE")
_AFTER_TABLES = (
    "journal_mode = WAL",
    "synchronous = FULL",
    f"journal_size_limit = {WAL_BYTES}",
    f"cache_size = -{CACHE_KIB}",
)

Identity = tuple[tuple[int, int], ...]


class LogFile:
    """An open connection to the file at `path`, which is made if there is none.

    Raises LogTrouble or sqlite3.Error.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wal = Path(f"{path}-wal")
        _make(path)
        self._connection = self._connected_in_time()
        self.execute = self._connection.execute
        self._identity = self._identity_now()

    @property
    def is_there(self) -> bool:
        """Whether the path still leads to what is open; else nobody would find again what is written."""
        return bool(self._identity) and self._identity_now() == self._identity

    def can_go_on(self) -> bool:
        """Take back the transaction under way, if there is one, and tell whether the connection is still of use."""
        try:
            self._connection.rollback()
        except sqlite3.Error:
            return False
        return self.is_there and not self._connection.in_transaction

    def close(self) -> None:
        was_replaced = self._was_replaced()
        self._connection.close()
        if was_replaced:
            # SQLite would write what belongs to the old file over the new one.
            self._wal.replace(f"{self._wal}-of-replaced-file")

    def _was_replaced(self) -> bool:
        """Tell whether another file is where ours was, beside our write-ahead log."""
        now = self._identity_now()
        return bool(now and self._identity) and now[0] != self._identity[0] and now[1] == self._identity[1]

    def _connected_in_time(self) -> sqlite3.Connection:
        """Try until nobody else has the file. SQLite's own patience keeps a shared lock, and two would wait in vain."""
        until = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                return self._connected()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                    raise
            time.sleep(secrets.randbelow(AGAIN_MILLISECONDS) / 1000)

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=0, isolation_level=None, cached_statements=256)
        try:
            for pragma in _BEFORE_TABLES:
                connection.execute(f"PRAGMA {pragma}")
            bring_up_to_date(connection)
            for pragma in _AFTER_TABLES:
                connection.execute(f"PRAGMA {pragma}")
            # From the first transaction on nobody else can open the file.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except (sqlite3.Error, LogTrouble):
            connection.close()
            raise
        return connection

    def _identity_now(self) -> Identity:
        try:
            return _identity(self._path.stat()), _identity(self._wal.stat())
        except OSError:
            return ()


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _make(path: Path) -> None:
    """Make an empty file that only its owner can read, unless there is one."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if path.is_dir():
            raise LogTrouble("it is a folder: give the path of a file in it") from None
        if not os.access(path, os.R_OK | os.W_OK):
            raise LogTrouble("it may not be read and written by this user") from None
    except FileNotFoundError as error:
        raise LogTrouble("its folder does not exist: create it") from error
    except OSError as error:
        raise LogTrouble(f"it cannot be made in its folder: {error.strerror}") from error
