"""Yamabiko alone."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bench.site.settings")
django_application = get_asgi_application()

from yamabiko import with_rooms  # noqa: E402

application = with_rooms(django_application)
