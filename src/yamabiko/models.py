"""Where Django looks for models."""

from yamabiko.django.models import OutboxEntry

__all__ = ["OutboxEntry"]
