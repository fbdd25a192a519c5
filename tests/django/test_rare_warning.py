"""What strangers do fills no log."""

from __future__ import annotations

import pytest

from yamabiko.django.rare_warning import RareWarning


def test_it_is_told_once_a_minute_with_how_often_it_happened(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    warning = RareWarning("refused", lambda: now[0])
    for now[0] in (0.0, 1.0, 59.0, 60.0):
        warning.tell(f"from {now[0]:.0f}")
    warning.tell("never seen")
    assert [record.getMessage() for record in caplog.records] == [
        "refused: from 0",
        "refused: from 60 (3 since the last such line)",
    ]


def test_the_words_of_a_stranger_take_one_line_and_not_a_long_one(caplog: pytest.LogCaptureFixture) -> None:
    RareWarning("refused").tell("x\nERROR all is lost" * 99)
    (record,) = caplog.records
    assert len(record.getMessage().splitlines()) == 1
    assert len(record.getMessage()) < 250
