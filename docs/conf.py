"""How Sphinx builds the documentation, in English and, with -D language=ja, in Japanese."""

import gettext
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.nodes import extract_messages

from yamabiko.cli import main

project = "Yamabiko"
author = "Yamabiko contributors"
copyright = "Yamabiko contributors"
version = release = version_of("yamabiko")

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
nitpicky = True

locale_dirs = ["locale"]
gettext_compact = False
gettext_location = False
gettext_uuid = False

html_theme = "furo"
html_title = "Yamabiko"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_copy_source = False
html_show_sphinx = False
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/search.html",
        "sidebar/languages.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}

logger = logging.getLogger(__name__)


class CommandHelp(Directive):
    """`{command-help}` with the words of a subcommand: what `yamabiko ... --help` says, asked at build time."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        words = [*self.arguments, "--help"]
        answer = CliRunner().invoke(main, words, prog_name="yamabiko", terminal_width=80)
        return [nodes.literal_block(answer.output, answer.output, language="text")]


class TellUntranslated(SphinxTransform):
    """Warn of each sentence of a page that its translation does not have: with -W, a stale translation fails."""

    default_priority = 19  # the next one up, 20, puts the translations in

    def apply(self, **_: Any) -> None:
        if self.config.language == "en" or self.app.builder.name == "gettext":
            return
        known = catalogue(Path(self.app.srcdir), self.config.language, self.env.docname)
        for node, message in extract_messages(self.document):
            if not known.get(message):
                logger.warning("not translated: %s", message, location=node)


def catalogue(source: Path, language: str, page: str) -> dict[str, str]:
    """Return the translations of a page, as Sphinx has compiled them from its .po just before."""
    file = source / "locale" / language / "LC_MESSAGES" / f"{page}.mo"
    if not file.exists():
        return {}
    with file.open("rb") as compiled:
        return gettext.GNUTranslations(compiled)._catalog  # type: ignore[attr-defined]


def setup(app: Sphinx) -> None:
    app.add_directive("command-help", CommandHelp)
    app.add_transform(TellUntranslated)
