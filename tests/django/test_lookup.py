"""Rows by one field: what the default manager would find, whatever stands in its way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection, models
from django.test.utils import CaptureQueriesContext, isolate_apps

from yamabiko.django.lookup import is_plain, rows_with

pytestmark = pytest.mark.django_db


@pytest.fixture
def people() -> list[User]:
    return [User.objects.create_user(name, last_name="Liddell") for name in ("alice", "bob", "carol")]


@pytest.mark.parametrize("wanted", [[], ["alice"], ["nobody"], ["alice", "carol", "nobody"]])
def test_those_with_one_of_the_values_are_found(people: list[User], wanted: list[str]) -> None:
    assert {user.username for user in rows_with(User, "username", wanted)} == set(wanted) - {"nobody"}


def test_one_row_is_a_whole_instance(people: list[User], django_assert_num_queries: Callable[[int], Any]) -> None:
    with django_assert_num_queries(1):
        (found,) = rows_with(User, "pk", [people[1].pk])
        assert (found.pk, found.username, found.last_name, found.date_joined) == (
            people[1].pk, "bob", "Liddell", people[1].date_joined,
        )  # fmt: skip
    assert found._state.db == "default"
    found.refresh_from_db()


def test_a_value_is_no_sql(people: list[User]) -> None:
    assert list(rows_with(User, "username", ["' OR '1'='1"])) == []
    assert list(rows_with(User, "username", ["100%s"])) == []


def test_a_value_of_another_type_is_converted_as_the_field_does(people: list[User]) -> None:
    assert [user.username for user in rows_with(User, "pk", [str(people[0].pk)])] == ["alice"]


def test_the_statement_for_one_is_compiled_once(people: list[User], monkeypatch: pytest.MonkeyPatch) -> None:
    list(rows_with(User, "pk", [people[0].pk]))

    def compile_again(*_: Any, **__: Any) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr("django.db.models.sql.compiler.SQLCompiler.as_sql", compile_again)
    assert [user.username for user in rows_with(User, "pk", [people[2].pk])] == ["carol"]


@isolate_apps("tests.site")
def test_a_manager_or_table_of_the_projects_own_is_asked_each_time() -> None:
    class Living(models.Manager[Any]):
        def get_queryset(self) -> Any:
            return super().get_queryset().filter(is_active=True)

    class Cautious(User):
        objects = Living()

        class Meta:
            proxy = True
            app_label = "site"

    class Child(User):
        class Meta:
            app_label = "site"

    assert is_plain(User)
    assert is_plain(Session)
    assert not is_plain(Cautious)
    assert not is_plain(Child)


def test_a_filter_of_the_default_manager_holds(people: list[User], monkeypatch: pytest.MonkeyPatch) -> None:
    User.objects.filter(username="bob").update(is_active=False)
    manager = type(User._default_manager)
    everybody = manager.get_queryset
    monkeypatch.setattr(manager, "get_queryset", lambda self: everybody(self).filter(is_active=True))
    is_plain.cache_clear()
    with CaptureQueriesContext(connection) as asked:
        assert list(rows_with(User, "pk", [people[1].pk])) == []
    assert "is_active" in asked.captured_queries[0]["sql"]
    is_plain.cache_clear()
