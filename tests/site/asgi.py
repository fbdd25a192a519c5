import os

from django.core.asgi import get_asgi_application

from yamabiko import with_rooms

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django_application = get_asgi_application()
application = with_rooms(django_application)
