"""Networks of many kinds in one real page: how they are laid out, and what their panels tell."""

import os
from itertools import product
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from lab import change_theme, notebook_of, opened
from page_layout import SEE, WIDTHS, faults
from page_networks import NETWORKS, notebook_cells
from playwright.sync_api import expect
from widget_page import SCROLL, control, frames, row_of, violations

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PICTURES = os.environ.get("NNMAGIC_PICTURES")

HEIGHT = 3600 if PICTURES else 1000
"""A picture is of what is in view."""

STATES = [*product(WIDTHS, ("Light",)), *product(reversed(WIDTHS), ("Dark",))]
"""Widths and themes, in such an order that one time the theme changes alone."""

READ_BY_AXE = ((640, "Dark"), (1300, "Light"))


class Visit:
    """The open page, and the widget of each network in it."""

    def __init__(self, lab, page, seen):
        self.lab, self.page, self.seen = lab, page, seen
        self.violations = {}

    def __getitem__(self, name):
        return self.page.locator(".nnmagic").nth(list(NETWORKS).index(name))

    def open(self, name, row):
        """Open the panel of a row, the first one of its name, and return it."""
        widget = self[name]
        self.bring(widget, row)
        row_of(widget, row).first.locator(".nm-label").click()
        expect(widget.locator(".nm-panel-title")).to_contain_text(f"{row} · ")
        control(widget, "panel").locator("dl").wait_for(state="attached")
        return control(widget, "panel")

    def bring(self, widget, row):
        """Unfold a row, and scroll it into the document."""
        grid = control(widget, "grid")
        for step in range(40):
            if not step or not grid.evaluate(SCROLL):
                if step:
                    control(widget, "depth").press("End")
                grid.evaluate("grid => { grid.scrollTop = 0; }")
            frames(self.page)
            if row_of(widget, row).count():
                return
        raise ValueError(f"no row {row}")

    def resize(self, width, theme="Light"):
        self.page.set_viewport_size({"width": width, "height": HEIGHT})
        change_theme(self.lab, self.page, theme)
        frames(self.page)
        frames(self.page)


@pytest.fixture(scope="module")
def visit(lab, tmp_path_factory):
    notebook = notebook_of(tmp_path_factory.mktemp("networks"), *notebook_cells())
    with opened(lab, notebook, width=1300, height=1000) as (page, seen):
        visit = Visit(lab, page, seen)
        visit["params"].wait_for()
        yield visit


@pytest.fixture(scope="module")
def layouts(visit):
    """What is seen at each width, in each theme, of each widget without its panel and with it."""
    found = {}
    for has_panel in (False, True):
        if has_panel:
            for name, network in NETWORKS.items():
                visit.open(name, network.row)
        for width, theme in STATES:
            visit.resize(width, theme)
            found[width, theme, has_panel] = visit.page.evaluate(SEE)
            if PICTURES:
                take_pictures(visit, f"{'panel' if has_panel else 'table'} {width} {theme}")
            if has_panel and (width, theme) in READ_BY_AXE:
                axe = Axe().run(visit.page, context=".nnmagic")
                visit.violations[width, theme] = violations(axe)
    visit.resize(1300)
    return found


def take_pictures(visit, state):
    for name in NETWORKS:
        file = f"{name} {state}.png".lower().replace(" ", "-")
        visit[name].screenshot(path=Path(PICTURES) / file)


@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_is_laid_out_well_at_every_width_in_both_themes(name, layouts):
    place = list(NETWORKS).index(name)

    for state, seen in layouts.items():
        assert faults(seen["widgets"][place], NETWORKS[name].red) == [], state


def test_the_notebook_never_scrolls_sideways(layouts):
    for state, seen in layouts.items():
        assert seen["page"] == [0, 0], state


@pytest.mark.parametrize("state", READ_BY_AXE)
def test_axe_finds_no_violation_with_all_panels_open(state, visit, layouts):
    assert visit.violations[state] == []


def test_the_console_stays_quiet(visit):
    assert visit.seen.errors == []
    assert visit.seen.foreign == []
