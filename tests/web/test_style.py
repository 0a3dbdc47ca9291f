"""Everything on the page can be read: contrast as WCAG 2 AA has it, in both themes."""

import re
from pathlib import Path

import pytest

import retrieval_draft.web
from retrieval_draft.tree import SOURCES

STYLE = (Path(retrieval_draft.web.__file__).parent / "page" / "style.css").read_text()
TEXT_CONTRAST, GRAPHICS_CONTRAST = 4.5, 3.0
TEXTS = ("text", "soft", "link", "good", "warn", "bad")
GROUNDS = ("page", "card")


def themes() -> dict[str, dict[str, str]]:
    """Each theme's colours by name."""
    light, dark = (
        dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", block))
        for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    )
    assert light.keys() == dark.keys()
    return {"light": light, "dark": dark}


def luminance(colour: str) -> float:
    def linear(value: int) -> float:
        part = value / 255
        return part / 12.92 if part <= 0.04045 else float(((part + 0.055) / 1.055) ** 2.4)

    red, green, blue = (linear(int(colour[i : i + 2], 16)) for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_formula_is_the_standards() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read(theme: str) -> None:
    colours = themes()[theme]
    for text in TEXTS:
        for ground in GROUNDS:
            assert contrast(colours[text], colours[ground]) >= TEXT_CONTRAST, (text, ground)
    assert contrast(colours["text"], colours["tint"]) >= TEXT_CONTRAST


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_marks_of_charts_can_be_seen(theme: str) -> None:
    colours = themes()[theme]
    marks = [name for name in colours if re.fullmatch(r"c\d+", name)]
    assert len(marks) == len(SOURCES), "one for each source"
    for name in [*marks, "axis"]:
        assert contrast(colours[name], colours["card"]) >= GRAPHICS_CONTRAST, name
