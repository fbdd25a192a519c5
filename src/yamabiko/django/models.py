"""The outbox: what transactions have published and nobody has sent yet."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

LONGEST_ERROR = 500
"""Characters that are kept of why a publication was not sent."""


class ExactText(models.CharField):  # type: ignore[type-arg]  # which takes none at run time
    """Takes every character and tells all of them apart, in MySQL too, whose own default may do neither."""

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        declared = super().db_type(connection)
        return f"{declared} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin" if connection.vendor == "mysql" else declared


class OutboxEntry(models.Model):
    """A publication of a committed transaction, until it is sent: then its row is deleted.

    `data` is JSON in UTF-8, `due_at` the Unix time in milliseconds from which a relay may take the row up. One that was
    refused again and again is parked: it has no `due_at`, `error` says why, and its room goes on without it. Have it
    tried again with `OutboxEntry.objects.filter(due_at=None).update(due_at=0, tries=0)`.
    """

    id: models.BigAutoField[int, int] = models.BigAutoField(primary_key=True)
    room = ExactText(max_length=255)
    data: models.BinaryField[bytes, bytes] = models.BinaryField()
    key = ExactText(max_length=300)
    created_at: models.DateTimeField[datetime, datetime] = models.DateTimeField(auto_now_add=True)
    due_at: models.BigIntegerField[int | None, int | None] = models.BigIntegerField(null=True)
    tries: models.PositiveIntegerField[int, int] = models.PositiveIntegerField(default=0)
    error = ExactText(max_length=LONGEST_ERROR, blank=True, default="")

    class Meta:
        app_label = "yamabiko"
        db_table = "yamabiko_outbox"
        verbose_name = "outbox entry"
        verbose_name_plural = "outbox entries"
        indexes = (
            models.Index(fields=["room", "id"], name="yamabiko_outbox_room"),
            models.Index(fields=["due_at"], name="yamabiko_outbox_due_at"),
        )

    def __str__(self) -> str:
        return f"{self.room} {self.key}"
