"""The doorbell: INSTALLED_APPS = ["yamabiko", ...]."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class YamabikoConfig(AppConfig):
    name = "yamabiko"
    verbose_name = "Yamabiko"

    def ready(self) -> None:
        from yamabiko.django import checks, service  # noqa: F401  (both register themselves)

        autodiscover_modules("rooms")
