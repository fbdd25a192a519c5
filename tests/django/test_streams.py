"""The secrets by which requests are known to be a peer's, and the node that made them is known to all."""

from __future__ import annotations

from django.test import override_settings

from yamabiko.django.streams import is_session_of, new_session


def test_every_node_sees_which_one_has_made_a_session() -> None:
    session = new_session("here")
    assert is_session_of("here", session)
    assert not is_session_of("there", session)
    assert new_session("here") != session


def test_a_session_lasts_while_its_key_is_kept() -> None:
    with override_settings(SECRET_KEY="old"):
        session = new_session("here")
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["older", "old"]):
        assert is_session_of("here", session)
    with override_settings(SECRET_KEY="new"):
        assert not is_session_of("here", session)


def test_what_is_no_session_is_no_nodes() -> None:
    for text in ("", ".", "guessed", "guessed.", "山彦.こだま"):
        assert not is_session_of("here", text)
