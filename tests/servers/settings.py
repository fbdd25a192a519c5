"""The test site's settings in a server's process: a database that others can fill, and what a test sets by JSON."""

import json
import os

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.servers"]
ASGI_APPLICATION = "tests.servers.asgi.application"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["SITE_DATABASE"]}}
# Who is lost is gone at once here, and who stalls may do so for long, unless a test asks for other times.
YAMABIKO = {"PRESENCE_LINGER_SECONDS": 0, "WRITE_TIMEOUT_SECONDS": 60}
YAMABIKO |= json.loads(os.environ.get("SITE_YAMABIKO", "{}"))
