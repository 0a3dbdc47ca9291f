"""docs/integrations.md names every setting with its default, and every page that it links to is there."""

import re
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path

from retrieval_draft.adapters.settings import PREFIX, Settings

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "integrations.md").read_text(encoding="utf-8")


def test_the_table_has_every_setting_and_its_default() -> None:
    shown = dict(re.findall(r"^\| `(RETRIEVAL_DRAFT_\w+)` \| (.*?) \|", PAGE, re.MULTILINE))
    assert list(shown) == [f"{PREFIX}{field.name.upper()}" for field in fields(Settings)]
    for field in fields(Settings):
        default, text = field.default, shown[f"{PREFIX}{field.name.upper()}"].strip("`")
        if isinstance(default, bool):
            assert text == str(default).lower(), field.name
        elif isinstance(default, int | float) and re.fullmatch(r"[\d.]+", text):
            assert float(text) == default, field.name
        elif isinstance(default, str) and default:
            assert text == default, field.name


def test_links_lead_to_pages() -> None:
    for page in DOCS.glob("*.md"):
        for name in re.findall(r"\]\(([\w-]+\.md)", page.read_text(encoding="utf-8")):
            assert (DOCS / name).exists(), f"{page.name}: {name}"


def test_the_version_of_transformers_is_the_one_that_tests_run_with() -> None:
    assert f"| transformers | {version('transformers')} |" in PAGE
