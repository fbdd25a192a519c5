# The demo site, ready to serve. Built in one stage, run in another that holds no build tool and no root.
FROM python:3.13-slim AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /site/venv
ENV PATH=/site/venv/bin:$PATH
WORKDIR /build

COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip wheel --quiet --no-cache-dir --wheel-dir wheels '.[demo]' \
    && pip install --quiet --no-cache-dir --no-index wheels/*.whl

COPY demo /site/demo
WORKDIR /site/demo
# The key is only for this command; the site gets its own when it starts.
RUN pybabel --quiet compile --directory webapp1/locale --domain django \
    && DEBUG=0 SECRET_KEY=build DATA_DIR=/build/data python manage.py collectstatic --no-input --verbosity 0 \
    && python -m compileall -q .


FROM python:3.13-slim

RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin yamabiko \
    && install --directory --owner yamabiko --mode 700 /data
COPY --from=build /site /site

ENV PATH=/site/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DEBUG=0 \
    DATA_DIR=/data \
    WORKERS=1
WORKDIR /site/demo
USER 10001
VOLUME /data
EXPOSE 8000

HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health/', timeout=4)"]

# `exec`: the server itself gets the signal to stop, and says goodbye to its rooms.
CMD ["sh", "-c", "python manage.py migrate --verbosity 0 && exec yamabiko serve webapp1.asgi:application --host 0.0.0.0 --port 8000 --workers $WORKERS"]
