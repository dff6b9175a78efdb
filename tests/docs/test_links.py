"""Links between the pages, and from them to files of the repository, lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOPS = ("docs", "recipes", "upstream", "downstream", "tests", "speechssl", "benchmarks")
PAGES = [*sorted(ROOT.glob("*.md")), *(page for top in TOPS for page in sorted((ROOT / top).rglob("*.md")))]
LINK = r"\[[^\]]*\]\(([^)\s]+)\)"


def links(text: str) -> list[str]:
    """Return the targets of a page's links that are no addresses, without those in code."""
    plain = re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    return [target for target in re.findall(LINK, plain) if not re.match(r"[a-z]+:", target)]


def headings(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page.read_text(encoding="utf-8")):
        place, _, anchor = target.partition("#")
        path = (page.parent / place).resolve() if place else page
        assert path.exists(), f"{page.relative_to(ROOT)} links to {target}, which is not there"
        if anchor:
            assert anchor in headings(path.read_text(encoding="utf-8")), (
                f"{page.relative_to(ROOT)}: no heading {target}"
            )


def test_every_guide_is_in_the_index() -> None:
    listed = links((ROOT / "docs" / "README.md").read_text(encoding="utf-8"))
    missing = [page.name for page in (ROOT / "docs").glob("*.md") if page.name not in {"README.md", *listed}]
    assert not missing


def test_links_are_found() -> None:
    assert links("[a](b.md) `[c](d)` [e](https://f) [g](#h)") == ["b.md", "#h"]
    assert headings("# The protocol, and so\n## Two") == {"the-protocol-and-so", "two"}
