"""Whom the house knows by which id."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from yamabiko.django.auth import users_of_ids


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice")


@pytest.mark.django_db
def test_users_are_found_by_their_primary_keys_many_at_once(alice: User) -> None:
    bob = User.objects.create_user("bob")
    assert users_of_ids([str(alice.pk), str(bob.pk)]) == {str(alice.pk): alice, str(bob.pk): bob}


@pytest.mark.django_db
@pytest.mark.parametrize("spelling", ["0{}", "{} ", "+{}", "{}.0"])
def test_another_spelling_of_a_key_is_nobodys(alice: User, spelling: str) -> None:
    """Orders for the user would not find such a connection."""
    other = spelling.format(alice.pk)
    assert users_of_ids([str(alice.pk), other]) == {str(alice.pk): alice, other: None}


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["nobody", "999999", "1" * 400])
def test_keys_that_no_user_has_are_nobodys(key: str) -> None:
    assert users_of_ids([key]) == {key: None}


@pytest.mark.django_db
def test_who_was_deactivated_is_nobody_any_more(alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert users_of_ids([str(alice.pk)]) == {str(alice.pk): None}
