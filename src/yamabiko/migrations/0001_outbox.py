"""The outbox table."""

from django.db import migrations, models

import yamabiko.django.models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="OutboxEntry",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("room", yamabiko.django.models.ExactText(max_length=255)),
                ("data", models.BinaryField()),
                ("key", yamabiko.django.models.ExactText(max_length=300)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("due_at", models.BigIntegerField(null=True)),
                ("tries", models.PositiveIntegerField(default=0)),
                ("error", yamabiko.django.models.ExactText(blank=True, default="", max_length=500)),
            ],
            options={
                "verbose_name": "outbox entry",
                "verbose_name_plural": "outbox entries",
                "db_table": "yamabiko_outbox",
                "indexes": [
                    models.Index(fields=["room", "id"], name="yamabiko_outbox_room"),
                    models.Index(fields=["due_at"], name="yamabiko_outbox_due_at"),
                ],
            },
        ),
    ]
