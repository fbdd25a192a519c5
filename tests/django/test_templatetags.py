"""What templates load of us: where the JavaScript module is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.template import Context, Template
from django.test import override_settings

TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
HASHED = {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"}}


@pytest.fixture(autouse=True)
def _templates() -> Iterator[None]:
    with override_settings(TEMPLATES=TEMPLATES):
        yield


def rendered(template: str) -> str:
    return Template("{% load yamabiko %}" + template).render(Context())


def test_module_is_named_by_its_url() -> None:
    assert rendered('import { connect } from "{% yamabiko_module %}";') == (
        'import { connect } from "/static/yamabiko/connection.js";'
    )


def test_url_can_be_kept_in_a_variable() -> None:
    assert rendered("{% yamabiko_module as url %}({{ url }})") == "(/static/yamabiko/connection.js)"


def test_module_is_where_the_url_says() -> None:
    file = finders.find("yamabiko/connection.js")
    assert file is not None
    assert "export function connect(" in Path(file).read_text(encoding="utf-8")


def test_storage_of_the_project_names_the_module(tmp_path: Path) -> None:
    from django.contrib.staticfiles.storage import staticfiles_storage
    from django.core.management import call_command

    with override_settings(STORAGES=HASHED, STATIC_ROOT=tmp_path):
        call_command("collectstatic", "--no-input", verbosity=0)
        url = rendered("{% yamabiko_module %}")
        assert url == staticfiles_storage.url("yamabiko/connection.js")
    assert url != "/static/yamabiko/connection.js"
    assert (tmp_path / url.removeprefix("/static/")).is_file()


@pytest.mark.parametrize("module", ["import ", "from "])
def test_module_needs_no_other_file(module: str) -> None:
    file = finders.find("yamabiko/connection.js")
    assert file is not None
    lines = Path(file).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith((module, f"export * {module}"))] == []
