"""What can be wrong with the log, in words for people."""

from __future__ import annotations

import sqlite3

from yamabiko.core.errors import YamabikoError

_REASONS = {
    sqlite3.SQLITE_BUSY: (
        "another process is using it: one process at a time can; for several processes set BROKER to redis://..."
    ),
    sqlite3.SQLITE_LOCKED: "another connection of this process is using it",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_PERM: "it may not be written",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_IOERR: "the disk cannot be read or written",
    sqlite3.SQLITE_CORRUPT: "it is damaged: put a backup in its place, or move it away to begin anew",
    sqlite3.SQLITE_NOTADB: "it is no SQLite database, or it is damaged: give the rooms another file",
}
_LASTING = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN}


class LogTrouble(YamabikoError):
    """The log cannot be used now; the text goes on after the file's name.

    `needs_reopening` says that the connection is not to be trusted any more.
    """

    def __init__(self, reason: str, *, needs_reopening: bool = True) -> None:
        super().__init__(reason)
        self.needs_reopening = needs_reopening


def trouble_of(error: Exception) -> LogTrouble:
    """Return what an error means for the log."""
    if isinstance(error, LogTrouble):
        return error
    if not isinstance(error, sqlite3.Error):
        return LogTrouble(f"an error that nobody expected: {error!r}")
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    reason = _REASONS.get(code)
    return LogTrouble(f"{reason} ({error})" if reason else str(error), needs_reopening=code in _LASTING)
