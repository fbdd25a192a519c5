"""What the repository may hold: our own sources, and nothing that only makes sense on one machine."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[1]
BUILT = {".mo", ".pyc", ".so", ".map", ".whl"}
LOCK_FILES = {"uv.lock", "poetry.lock", "Pipfile.lock", "package-lock.json", "yarn.lock", "pnpm-lock.yaml"}

# Put together from halves, so that this file does not hold what it looks for.
MACHINE_PATH = re.compile(r"(?<![\w.~$}-])/(?:" + "|".join(["wor" + "k", "roo" + "t", "hom" + "e/[a-z]"]) + r")/")
# The shapes in which installers write down where they found a package.
PACKAGE_HOST = re.compile(
    r"\"resolved\"\s*:\s*\"https?:|https?://[^\s\"']*/simple\b|--?(?:extra-)?index-url[ =]|registry\s*=\s*\"?https?:"
)
MARKDOWN_LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
HTML_LINK = re.compile(r"<(?:img|a)\b[^>]*?\b(?:src|href)=[\"']([^\"']+)[\"']")
FENCED_CODE = re.compile(r"^(`{3,}|~{3,}).*?^\1", re.MULTILINE | re.DOTALL)


def repository_files() -> list[Path]:
    """Return what git tracks or would track: a new file is judged before it is committed."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return [ROOT / name for name in sorted(set(filter(None, listing.stdout.split("\0")))) if (ROOT / name).is_file()]


def lines_matching(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in repository_files()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]


def local_targets(page: Path) -> list[str]:
    text = FENCED_CODE.sub("", page.read_text(encoding="utf-8"))
    targets = [*MARKDOWN_LINK.findall(text), *HTML_LINK.findall(text)]
    return [unquote(target.split("#")[0]) for target in targets if not re.match(r"[a-z]+:|#|//", target)]


def pages() -> list[Path]:
    return [path for path in repository_files() if path.suffix == ".md"]


def test_no_file_names_a_path_of_one_machine():
    assert lines_matching(MACHINE_PATH) == []


def test_no_file_names_a_package_host():
    assert lines_matching(PACKAGE_HOST) == []


def test_no_built_file_and_no_lock_file_is_committed():
    names = [path.relative_to(ROOT).as_posix() for path in repository_files()]
    built = [
        name
        for name in names
        if Path(name).suffix in BUILT
        or Path(name).name in LOCK_FILES
        or re.search(r"\.min\.(js|css)$|(^|/)pylock\..*toml$|(^|/)node_modules/", name)
    ]
    assert built == []


def test_every_text_file_ends_with_a_newline_and_has_no_windows_line_ends():
    untidy = []
    for path in repository_files():
        content = path.read_bytes()
        if b"\0" not in content and content and (b"\r\n" in content or not content.endswith(b"\n")):
            untidy.append(path.relative_to(ROOT).as_posix())
    assert untidy == []


@pytest.mark.parametrize(
    "name", ["README.md", "README.ja.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE"]
)
def test_the_page_that_people_look_for_exists(name):
    assert (ROOT / name).is_file()


def test_every_relative_link_of_every_page_leads_somewhere():
    broken = [
        f"{page.relative_to(ROOT)} -> {target}"
        for page in pages()
        for target in local_targets(page)
        if target and not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_path_that_the_dockerfile_copies_exists():
    copies = re.findall(r"^COPY (?!--from)(?:--\S+ )*(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    sources = [source for copy in copies for source in copy.split()[:-1]]
    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_the_makefile_explains_each_of_its_commands():
    helped = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    ).stdout
    for command in ["serve", "test", "check", "bench", "docs", "help"]:
        assert re.search(rf"^  make {command}\s+\S", helped, re.MULTILINE), command


def test_every_extra_that_the_makefile_installs_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    used = set(re.findall(r"\$\(VENV\)/\.(\w+)", (ROOT / "Makefile").read_text(encoding="utf-8")))
    assert used
    assert used <= set(project["optional-dependencies"])


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("see /wor" + "k/main/x", True),
        ("'/roo" + "t/.ssh/'", True),
        ("demo/wor" + "k/x", False),
        ("./wor" + "k/", False),
    ],
)
def test_a_machine_path_is_told_from_a_relative_one(text, is_found):
    assert bool(MACHINE_PATH.search(text)) == is_found
