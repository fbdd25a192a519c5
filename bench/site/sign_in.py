"""Fill BENCH_DATABASE with signed-in users: python -m bench.site.sign_in COUNT COOKIE_FILE"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path

import django


def sign_in(count: int) -> list[str]:
    """Make users with sessions; return one Cookie header each."""
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.auth.models import User
    from django.contrib.sessions.backends.db import SessionStore
    from django.contrib.sessions.models import Session
    from django.utils import timezone

    users = User.objects.bulk_create(User(username=f"user{number}", password="!") for number in range(count))
    store, expires = SessionStore(), timezone.now() + timedelta(days=1)
    sessions = [
        Session(
            session_key=f"{user.pk:032}",
            expire_date=expires,
            session_data=store.encode(
                {
                    SESSION_KEY: str(user.pk),
                    BACKEND_SESSION_KEY: settings.AUTHENTICATION_BACKENDS[0],
                    HASH_SESSION_KEY: user.get_session_auth_hash(),
                }
            ),
        )
        for user in users
    ]
    Session.objects.bulk_create(sessions)
    return [f"{settings.SESSION_COOKIE_NAME}={session.session_key}" for session in sessions]


def main(count: int, cookie_file: Path) -> None:
    from django.core.management import call_command

    os.environ["DJANGO_SETTINGS_MODULE"] = "bench.site.settings"
    django.setup()
    call_command("migrate", verbosity=0)
    cookie_file.write_text("\n".join(sign_in(count)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
