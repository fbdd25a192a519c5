"""The least that a project with signed-in users needs; BENCH_* variables come from bench/peers."""

import os

SECRET_KEY = "only for measuring on loopback"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "bench.site.urls"
INSTALLED_APPS = [
    "yamabiko",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "bench.site",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("BENCH_DATABASE", ":memory:")}}
USE_TZ = True
STATIC_URL = "static/"

LAYERS = {
    "memory": {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 10_000}},
    "redis": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [os.environ.get("BENCH_REDIS", "")], "capacity": 10_000},
    },
    "pubsub": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [os.environ.get("BENCH_REDIS", "")]},
    },
}
CHANNEL_LAYERS = {"default": LAYERS[os.environ.get("BENCH_LAYER", "memory")]}
YAMABIKO = {"BROKER": os.environ.get("BENCH_BROKER", "memory://")}
