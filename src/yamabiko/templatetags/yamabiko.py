"""For templates: `{% load yamabiko %}`, then `import { connect } from "{% yamabiko_module %}"`."""

from __future__ import annotations

from django import template
from django.templatetags.static import static

register = template.Library()


@register.simple_tag
def yamabiko_module() -> str:
    """Return the URL of the JavaScript module with which a page joins rooms, as STORAGES serves it."""
    return static("yamabiko/connection.js")
