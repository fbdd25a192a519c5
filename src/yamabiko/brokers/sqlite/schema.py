"""The layout of the log and its versions: each step from one to the next, all in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from yamabiko.brokers.sqlite import sql
from yamabiko.brokers.sqlite.errors import LogTrouble

APPLICATION_ID = int.from_bytes(b"Ymbk", "big")
"""Tells our files from other SQLite databases, such as the site's own."""


def _create(connection: sqlite3.Connection) -> None:
    for table in sql.TABLES:
        connection.execute(table)


def _add_extras(connection: sqlite3.Connection) -> None:
    connection.execute(sql.EXTRAS)


UPGRADES: list[Callable[[sqlite3.Connection], None]] = [_create, _add_extras]
"""What leads from version 0, an empty file, to 1, from 1 to 2, and so on."""


def bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Give an empty file its tables, and an older one those of today. Raises LogTrouble for any other file."""
    version, application = _number(connection, "user_version"), _number(connection, "application_id")
    is_empty = not _number(connection, "schema_version") and not version
    if not is_empty and application != APPLICATION_ID:
        raise LogTrouble("it is a SQLite database of something else: give the rooms a file of their own")
    if version > len(UPGRADES):
        raise LogTrouble(
            f"a newer Yamabiko has written it: its layout is number {version}, and this one knows up to "
            f"{len(UPGRADES)}; upgrade Yamabiko, or give the rooms another file"
        )
    if version < len(UPGRADES):
        _upgrade(connection, version)


def _upgrade(connection: sqlite3.Connection, version: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for step in UPGRADES[version:]:
        step(connection)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {len(UPGRADES)}")
    connection.execute("COMMIT")


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])
