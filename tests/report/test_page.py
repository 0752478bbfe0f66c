"""The HTML report in a real browser: it opens silently, sorts, filters, prints, fits a phone, obeys the keyboard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bhpe_compile.report.advice import WASTED, Advice
from bhpe_compile.report.compare import Limits, Subject, compare
from bhpe_compile.report.html import MOST_BYTES, compare_page, report_page
from bhpe_compile.report.report import report_network
from tests.browsers import PATIENCE
from tests.report.made_up import HOSTILE, hostile_report

Open = Callable[..., Any]

A4 = 688
"""Pixels between the margins of a printed page."""

CONTRAST = """
() => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = numbers(color).slice(0, 3).map((c) => c / 255)
      .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = getComputedStyle(e).backgroundColor;
      if ((numbers(color)[3] ?? 1) > 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const weak = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || element.closest("script") || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const ink = element.namespaceURI.endsWith("svg") ? style.fill : style.color;
    const [a, b] = [light(ink), light(behind(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) weak.push(`${element.tagName} ${element.textContent.slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return weak;
}
"""


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(report_page(hostile_report()), encoding="utf-8")
    return file


@pytest.fixture
def opened(browser: Any, page_file: Path) -> Iterator[Open]:
    """Opens a page in a context of its own; at the end nothing may have been logged or asked of the network."""
    contexts, trouble = [], []

    def open_page(file: Path = page_file, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on(
            "request", lambda request: trouble.append(request.url) if "file:" not in request.url else None
        )
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert trouble == []


def column(page: Any, index: int) -> list[str]:
    """The sort keys of the rows that are shown."""
    return page.evaluate(
        "(k) => [...document.querySelectorAll('#layers tbody tr:not([hidden])')].map((r) => r.cells[k].dataset.key)",
        index,
    )


def headings(page: Any) -> list[str]:
    return page.eval_on_selector_all("#layers thead th", "all => all.map((h) => h.ariaSort)")


def test_names_are_text_and_never_markup(opened: Open) -> None:
    page = opened()
    assert page.evaluate("window.hit") is None
    assert page.locator("h1").inner_text() == HOSTILE
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("#layers tbody th").first.inner_text() == HOSTILE


def test_sorts(opened: Open) -> None:
    page = opened()
    macs = page.get_by_role("button", name="MACs")
    macs.click()
    found = [float(key) for key in column(page, 5)]
    assert found == sorted(found, reverse=True)
    assert len(set(found)) > 10
    assert headings(page)[5] == "descending"
    macs.click()
    assert [float(key) for key in column(page, 5)] == sorted(found)
    page.get_by_role("button", name="layer", exact=True).click()
    assert column(page, 0) == sorted(column(page, 0))
    assert [h for h in headings(page) if h != "none"] == ["ascending"]


def test_filters(opened: Open) -> None:
    page = opened()
    everything = len(column(page, 0))
    page.get_by_label("Precision").select_option("binary")
    page.get_by_label("Name").fill("LAYER2")
    shown = column(page, 0)
    assert 0 < len(shown) < everything
    assert all("layer2" in name for name in shown)
    assert set(column(page, 2)) == {"binary"}
    assert page.locator("output").inner_text() == f"{len(shown)} of {everything} layers"
    page.get_by_label("Name").fill("no such layer")
    assert column(page, 0) == []
    assert page.get_by_text("Nothing matches").is_visible()
    page.get_by_role("button", name="Show all").click()
    assert len(column(page, 0)) == everything
    assert not page.get_by_text("Nothing matches").is_visible()


def test_keyboard(opened: Open) -> None:
    """From the filters by Tab into the headings; Enter and Space sort; the skip link comes first."""
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.get_by_role("button", name="Show all").focus()
    page.keyboard.press("Tab")  # the table scrolls, so it takes the focus
    assert page.evaluate("document.activeElement.getAttribute('role')") == "region"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "layer"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert headings(page)[0] == "ascending"
    page.keyboard.press("Space")
    assert headings(page)[0] == "descending"
    summary = page.locator(".passes summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator(".passes details").first.get_attribute("open") is not None


def test_prints(opened: Open) -> None:
    page = opened()
    page.get_by_label("Name").fill("conv1")
    assert page.pdf(format="A4").startswith(b"%PDF-")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": A4, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") == A4
    assert not page.locator(".controls").is_visible()
    assert not page.locator(".passes").is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('.tall')).maxHeight") == "none"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


@pytest.mark.parametrize("media", ["screen", "print"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(opened: Open, scheme: str, media: str) -> None:
    """WCAG 2 AA for text: 4.5 to 1."""
    page = opened(color_scheme=scheme)
    page.emulate_media(media=media, color_scheme=scheme)
    assert page.evaluate(CONTRAST) == []


def test_dark_is_dark(opened: Open) -> None:
    colors = {
        scheme: opened(color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    }
    assert colors == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 28)"}


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_never_scrolls_sideways(opened: Open, width: int) -> None:
    page = opened(viewport={"width": width, "height": 740})
    for details in page.locator("details").all():
        details.evaluate("(one) => { one.open = true; }")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    box = page.locator("svg").first.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width


def test_the_chart_tells_its_values_to_those_who_cannot_see_it(opened: Open) -> None:
    label = opened().get_by_role("img").first.get_attribute("aria-label")
    assert label.startswith("Bytes of weights. ")
    assert "hands: original " in label


def test_comparison(opened: Open, tmp_path: Path) -> None:
    report = report_network("hand4whole:tiny", "bidrn", "x86", None)
    sides = [
        Subject("A", Path(HOSTILE), "checkpoint", "", report.before, 8_000_000),
        Subject("B", Path("b"), "artefact", "x86", report.after, 1_500_000),
    ]
    file = tmp_path / "compare.html"
    file.write_text(compare_page(compare(sides, Limits(nbytes=1_000_000))), encoding="utf-8")
    page = opened(file, viewport={"width": 360, "height": 740})
    assert page.evaluate("window.hit") is None
    assert page.get_by_role("heading", name="Limits missed").is_visible()
    assert "more than --max-size 1 MB" in page.locator(".missed li").inner_text()
    page.get_by_role("button", name="B bytes").click()
    found = [float(key) for key in column(page, 4)]
    assert found == sorted(found, reverse=True)
    assert len(set(found)) > 10
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.emulate_media(media="print")
    page.set_viewport_size({"width": A4, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") == A4


def test_the_largest_report_is_below_two_megabytes() -> None:
    """The full network with as many notes as compiling it makes (1600) and much advice; a large picture is left out."""
    report = report_network("hand4whole:full", "bidrn", "x86", None)
    name = "hand_roi_net.backbone.layer3.5.conv3"
    note = {"pass_name": "select-kernels", "site": name, "applied": True, "reason": "computed by " + 80 * "x"}
    advice = tuple(Advice(WASTED, name, 100 * "x", 0.5, "do", "counted") for _ in range(150))
    large = replace(report, notes=(note,) * 2000, advice=advice)
    page = report_page(large, overlay=bytes(2_000_000))
    assert len(page.encode()) < MOST_BYTES
    assert "The picture is left out" in page
    assert "data:image/png" in report_page(report, overlay=bytes(1000))
