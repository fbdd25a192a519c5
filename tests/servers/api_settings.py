"""The servers' settings for a site that is the HTTP API and no pages."""

from tests.servers.settings import *  # noqa: F403

ROOT_URLCONF = "yamabiko.urls"
