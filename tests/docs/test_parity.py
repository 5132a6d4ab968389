"""Pages in two languages say the same: the same headings, blocks and code."""

import re

import pytest

from docs.pages import ROOT, WRITTEN
from docs.snippets import blocks

PAIRS = [(ROOT / "README.md", ROOT / "README.es.md")] + [
    (page.with_name(page.name.replace(".es.md", ".md")), page)
    for page in WRITTEN
    if page.name.endswith(".es.md")
]
TRANSLATED = {"index.md", "start.md"}


def outline(page):
    """Levels of headings, tables, and kinds of blocks in the order in which they stand."""
    found, fenced = [], False
    for line in page.read_text("utf-8").splitlines():
        if line.startswith("```"):
            fenced = not fenced
            if fenced:
                found.append(line)
        elif not fenced and line.startswith("#"):
            found.append(line.split(" ")[0])
        elif not fenced and re.match(r"\|[-|]+\|$", line):
            found.append(line)
        elif not fenced and line.startswith("- "):
            found.append("-")
    return found


def code(page):
    """The lines that Python reads, without comments and texts."""
    lines = []
    for block in blocks(page):
        if block.language in ("pycon", "python"):
            plain = re.sub(r'"[^"]*"', '""', re.sub(r"\s*#.*", "", block.text))
            lines += [line for line in plain.replace(', lang=""', "").splitlines() if line.strip()]
    return lines


def named(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize(("english", "spanish"), PAIRS, ids=map(named, dict(PAIRS)))
def test_both_have_the_same_outline(english, spanish):
    assert outline(english) == outline(spanish)


@pytest.mark.parametrize(("english", "spanish"), PAIRS[1:], ids=map(named, dict(PAIRS[1:])))
def test_both_run_the_same_code(english, spanish):
    assert code(english) == code(spanish)


def test_what_is_promised_in_spanish_is_there():
    for page in WRITTEN:
        below = page.relative_to(ROOT / "docs")
        if not page.name.endswith(".es.md") and (
            str(below) in TRANSLATED or below.parts[0] == "concepts"
        ):
            assert page.with_name(page.name.replace(".md", ".es.md")) in WRITTEN, below


def test_decimals_of_spanish_prose_have_commas():
    """Outside code; figures of the English README have points there."""
    for _, page in PAIRS:
        text = re.sub(
            r"```.*?```|`[^`]*`|arXiv [\d.]+", "", page.read_text("utf-8"), flags=re.DOTALL
        )
        text = re.sub(r"^    .*$", "", text, flags=re.MULTILINE)
        assert not re.findall(
            r"(?<![\w.])\d+\.\d+(?![\w.])",
            text.replace("3.11", "").replace("3.3", "").replace("3.2.1", ""),
        ), page
