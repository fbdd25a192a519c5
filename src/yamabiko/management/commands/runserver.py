"""`manage.py runserver`, over ASGI."""

from yamabiko.django.runserver import Command

__all__ = ["Command"]
