"""Finding rows by one field, where Django's query compiler would cost several times the query itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Any

from django.db import connections, router
from django.db.models import Manager
from django.db.models.expressions import RawSQL


def rows_with(model: Any, field_name: str, values: Collection[Any]) -> Iterable[Any]:
    """Return the model's instances whose field is one of `values`, as its default manager finds them.

    A single value, the usual case, is looked up by a statement that is compiled once.
    """
    manager: Manager[Any] = model._default_manager
    if len(values) == 1 and is_plain(model):
        (value,) = values
        field = model._meta.pk if field_name == "pk" else model._meta.get_field(field_name)
        alias = router.db_for_read(model)
        statement = statement_for_one(model, field_name, alias)
        return manager.raw(statement, [field.get_db_prep_value(value, connections[alias])], using=alias)
    return manager.filter(**{f"{field_name}__in": values})


@lru_cache
def is_plain(model: Any) -> bool:
    """Return whether a lookup is always the same statement: one table, and a manager that adds nothing to a query."""
    return type(model._default_manager).get_queryset is Manager.get_queryset and not model._meta.parents


@lru_cache
def statement_for_one(model: Any, field_name: str, alias: str) -> str:
    """Return the SQL for one value, with one placeholder."""
    query = model._default_manager.db_manager(alias).filter(**{field_name: RawSQL("%s", [None])}).query
    statement: str = query.get_compiler(alias).as_sql()[0]
    return statement
