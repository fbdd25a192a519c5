"""The demo site's settings. What differs from machine to machine comes from the environment."""

import os
from pathlib import Path

from django.utils.translation import gettext_lazy as _

from webapp1.environment import broker, channel_layers, flag, secret_key, token_secret, words

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("DATA_DIR") or BASE_DIR / "data")
DATA_DIR.mkdir(parents=True, exist_ok=True)

DEBUG = flag("DEBUG", default=True)
MAY_MAKE_OWN = DEBUG or bool(os.environ.get("DATA_DIR"))
SECRET_KEY = secret_key(DATA_DIR, may_make_own=MAY_MAKE_OWN)

# The machine's own names are always allowed: a container's health check asks by them.
ALLOWED_HOSTS = [*words("ALLOWED_HOSTS"), "localhost", "127.0.0.1", "[::1]"]
CSRF_TRUSTED_ORIGINS = words("TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "yamabiko",  # above staticfiles: its `runserver` speaks ASGI
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "servestatic",
    "channels",
    "webapp1",
    "webapp1.websock1",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "webapp1.middleware.content_security_policy",
    "servestatic.middleware.ServeStaticMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "webapp1.urls"
ASGI_APPLICATION = "webapp1.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        # Before the apps' own: the admin brings sign-in pages of the same names.
        "DIRS": [BASE_DIR / "webapp1" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATA_DIR / "db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# What numbers, keeps and carries the messages. Left out, it is a file in DATA_DIR, which one process has to itself:
#   BROKER=redis://USER:PASSWORD@HOST:PORT/0   for several processes or machines
#   CHANNEL_LAYER=...                          the article's three methods, which keep no history:
#       hosted   a Redis elsewhere: REDIS_URL=rediss://:PASSWORD@HOST:PORT/0
#       local    a Redis on this machine, at 127.0.0.1:6379
#       memory   no Redis at all
BROKER = broker(DATA_DIR)
CHANNEL_LAYERS = channel_layers()
YAMABIKO = {
    "BROKER": BROKER,
    "ALLOWED_ORIGINS": CSRF_TRUSTED_ORIGINS,
    "TOKEN_SECRET": token_secret(DATA_DIR, may_make_own=MAY_MAKE_OWN),
    "API_KEY": os.environ.get("API_KEY", ""),  # without one there is no HTTP API
}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{validator}"}
    for validator in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = LOGOUT_REDIRECT_URL = "room1"

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("ja", _("Japanese"))]
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = Path(os.environ.get("STATIC_ROOT", BASE_DIR / "staticfiles"))
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "servestatic.storage.CompressedStaticFilesStorage"
    },
}
SERVESTATIC_ALLOW_ALL_ORIGINS = False

SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

# HTTPS=1 where a proxy that ends TLS stands in front, and sets X-Forwarded-Proto itself.
HTTPS = flag("HTTPS", default=False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^health/$"]  # asked from inside the container
SECURE_HSTS_SECONDS = 30 * 24 * 3600 if HTTPS else 0
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
