"""A page of its own in a real browser, for the tests of several files."""

from contextlib import contextmanager

import pytest


@pytest.fixture(scope="module")
def browser(lab_folder):
    from lab import CHROMIUM, FLAGS  # takes a second
    from playwright.sync_api import sync_playwright

    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS) as browser,
    ):
        yield browser


@pytest.fixture
def exported(browser, tmp_path):
    """Gives the widget of a record's page; nothing goes wrong in it, and nothing is fetched."""
    heard, fetched = [], []

    @contextmanager
    def exported(record, **options):
        path = tmp_path / "page.html"
        record.to_html(path)
        context = browser.new_context(**options)
        context.set_offline(True)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        context.on("request", lambda request: fetched.append(request.url))
        page = context.new_page()
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("console", lambda message: heard.append(message.text))
        page.goto(path.as_uri())
        yield page.locator(".nnmagic") if options.get("java_script_enabled", True) else page
        context.close()
        assert heard == []
        assert all(url.startswith(("file:", "blob:", "data:")) for url in fetched)

    return exported
