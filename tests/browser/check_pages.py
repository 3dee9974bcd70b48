"""Reports and the manual, opened in a real browser: `make test-browser`.

Not collected by `make test`: it needs Debian's chromium and chromium-driver, and the manual built
into site/. Screenshots are left in build/screenshots/; two of them are in docs/images/.
"""

from __future__ import annotations

import base64
import functools
import json
import shutil
import threading
from collections.abc import Iterator, Mapping
from datetime import timedelta
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from apigw_canary import Observation, Report, RolloutPolicy, Step
from apigw_canary.testing import Backend, rehearsal

ROOT = Path(__file__).parent.parent.parent
SITE = ROOT / "site"
BUILD = ROOT / "build"
SHOTS = BUILD / "screenshots"
BAKE = timedelta(minutes=10)
POLICY = RolloutPolicy([Step(5, BAKE), Step(25, BAKE), Step(50, BAKE), Step(100, BAKE)])
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--disable-dev-shm-usage"
)
# The last address is no host's: nothing but this machine can be reached.
NO_HOSTS = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"
WIDE, PHONE = 1400, 390
SCHEMES = ("light", "dark")

HOSTILE = (
    '<img src=x onerror="window.owned=1"><script>window.owned=1</script>',
    "</title></style><svg onload='window.owned=1'>",
    '" onmouseover="window.owned=1" style="background:url(http://evil.example/x.png)" x="',
    "javascript:window.owned=1 https://evil.example/ \u202egnp.exe\x1b[31m",
    "<link rel=stylesheet href=//evil.example/x.css><iframe src=//evil.example></iframe>",
    "<meta http-equiv=refresh content='0;url=http://evil.example/'><base href=//evil.example/>",
    "W" * 3000,
)


class Looks(NamedTuple):
    """How a page is looked at."""

    scheme: str
    width: int

    def __str__(self) -> str:
        return f"{self.scheme}-{'phone' if self.width == PHONE else 'wide'}"


every_look = pytest.mark.parametrize(
    "looks", [Looks(scheme, width) for scheme in SCHEMES for width in (WIDE, PHONE)], ids=str
)


@pytest.fixture(autouse=True)
def _no_network() -> None:
    """The browser is driven through this machine's own network; it reaches nothing beyond."""


class Browser:
    """Chromium, and what it says of the pages it is shown."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def show(self, address: str, looks: Looks) -> None:
        self.tell("Emulation.setDeviceMetricsOverride", **_screen(looks))
        scheme = {"name": "prefers-color-scheme", "value": looks.scheme}
        self.tell("Emulation.setEmulatedMedia", features=[scheme])
        self.said()
        self.requested()
        self.driver.get(address)

    def tell(self, command: str, **parameters: Any) -> Any:
        return self.driver.execute_cdp_cmd(command, parameters)

    def ask(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def said(self) -> list[str]:
        """What it wrote to its console since asked last: errors, blocked contents."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requested(self) -> set[str]:
        """The addresses it asked for since asked last, without what the page's policy stopped."""
        asked, stopped = {}, set()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            told = message["params"]
            if message["method"] == "Network.requestWillBeSent":
                asked[told["requestId"]] = told["request"]["url"]
            elif message["method"] == "Network.loadingFailed" and told.get("blockedReason"):
                stopped.add(told["requestId"])
        return {address for request, address in asked.items() if request not in stopped}

    def picture(self, name: str, looks: Looks, height: int | None = None) -> Path:
        whole = self.ask("return document.documentElement.scrollHeight")
        clip = {"x": 0, "y": 0, "width": looks.width, "height": height or whole, "scale": 1}
        taken = self.tell("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path = SHOTS / f"{name}.png"
        path.write_bytes(base64.b64decode(taken["data"]))
        return path


def _screen(looks: Looks) -> dict[str, Any]:
    phone = looks.width == PHONE
    return {
        "width": looks.width,
        "height": 800,
        "deviceScaleFactor": 2 if phone else 1,
        "mobile": phone,
    }


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert chromium, "chromium is missing: apt-get install chromium"
    assert driver, "chromedriver is missing: apt-get install chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS.split(), NO_HOSTS, f"--user-data-dir={tmp_path_factory.mktemp('user')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    shutil.rmtree(SHOTS, ignore_errors=True)
    SHOTS.mkdir(parents=True)
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield Browser(chrome)
    finally:
        chrome.quit()


@functools.cache
def _rehearsed(errors_5xx: float) -> tuple[Observation, ...]:
    seen = []
    with rehearsal(backends={"alias=v2": Backend(errors_5xx=errors_5xx)}) as aws:
        canary = aws.stage.enable_canary(5, release="2026-11-23.1", variables={"alias": "v2"})
        while True:
            seen.append(canary.observe(POLICY))
            decision = POLICY.decide(seen[-1])
            canary.apply(decision)
            if decision.final:
                return tuple(seen)
            aws.sleep(decision.wait.total_seconds())


def _hostile(text: str) -> tuple[Observation, RolloutPolicy]:
    """A look at a rollout in which all that others name is named like this."""
    look = _rehearsed(0.02)[-1]
    assert look.basis is not None
    name = "".join(char if char.isprintable() else "?" for char in text)[:200].strip()
    policy = attrs.evolve(
        POLICY, signals=[attrs.evolve(POLICY.signals[0], name=name), POLICY.signals[1]]
    )
    minutes = {name: look.minutes["errors_5xx"], "errors_4xx": look.minutes["errors_4xx"]}
    return (
        attrs.evolve(
            look,
            minutes=minutes,
            basis=attrs.evolve(look.basis, stage=text, rest_api_id=text, region=text),
            failure=text,
            changed={text: text},
            notes=[text],
        ),
        policy,
    )


@functools.cache
def _pages() -> Mapping[str, str]:
    good, bad = _rehearsed(0.001), _rehearsed(0.02)
    pages = {
        "report-good": Report(good, POLICY).html(),
        "report-bad": Report(bad, POLICY).html(),
        "report-first-look": Report(good[0], POLICY).html(),
        "decision": Report(POLICY.decide(bad[-1])).html(),
        "analysis": Report(POLICY.analyze(good[20])).html(),
    }
    folder = BUILD / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    addresses = {}
    for i, text in enumerate(HOSTILE):
        pages[f"hostile-{i}"] = Report(*_hostile(text)).html()
    for name, source in pages.items():
        path = folder / f"{name}.html"
        path.write_text(source, encoding="utf-8")
        addresses[name] = path.as_uri()
    return addresses


REPORTS = ("report-good", "report-bad", "report-first-look", "decision", "analysis")

CONTRASTS = (Path(__file__).parent / "contrasts.js").read_text(encoding="utf-8")


def _low_contrasts(browser: Browser, within: str) -> list[str]:
    found: list[str] = browser.driver.execute_script(CONTRASTS, within)
    return found


def _fits(browser: Browser) -> bool:
    """Whether nothing sticks out of the window, which a table may do within its own frame."""
    return bool(browser.ask("return document.documentElement.scrollWidth <= window.innerWidth"))


def _cut(browser: Browser, looks: Looks) -> list[str]:
    """What does not fit: the page in the window, and on a wide one code and tables in their frames.

    On a phone code and wide tables scroll within their frames.
    """
    found: list[str] = [] if _fits(browser) else ["wider than the window"]
    if looks.width == WIDE:
        found += browser.ask(
            "return [...document.querySelectorAll('article :is(pre, pre code, img, svg, p,"
            " .md-typeset__scrollwrap, h1, h2, h3, h4)')]"
            ".filter((e) => e.scrollWidth > e.clientWidth + 8"
            " && getComputedStyle(e).display !== 'inline')"
            ".map((e) => `${e.tagName} is cut: ${e.textContent.trim().slice(0, 60)}`)"
        )
    return found


@pytest.mark.parametrize("name", REPORTS)
@every_look
def test_report(browser: Browser, name: str, looks: Looks) -> None:
    """Each report loads nothing, complains of nothing, fits the window and can be read."""
    address = _pages()[name]
    browser.show(address, looks)
    browser.picture(f"{name}-{looks}", looks)

    assert browser.said() == []
    assert browser.requested() == {address}
    assert _fits(browser)
    browser.ask("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert _fits(browser)
    assert _low_contrasts(browser, "body *") == []


@pytest.mark.parametrize("name", ["report-good", "report-bad"])
@every_look
def test_charts(browser: Browser, name: str, looks: Looks) -> None:
    """Every chart is large enough, and its labels too, with no two of them in one place."""
    browser.show(_pages()[name], looks)
    boxes = browser.ask(
        "return [...document.querySelectorAll('svg.chart')].map((svg) => ({"
        " width: svg.getBoundingClientRect().width, height: svg.getBoundingClientRect().height,"
        " lines: svg.querySelectorAll('.line').length,"
        " labels: [...svg.querySelectorAll('text')].map((t) => {"
        "  const b = t.getBoundingClientRect(), f = svg.getBoundingClientRect();"
        "  return [b.left - f.left, b.top - f.top, b.right - f.left, b.bottom - f.top]; }) }))"
    )
    assert len(boxes) == 6
    for box in boxes:
        assert box["width"] >= 300
        assert box["height"] >= 150
        assert box["lines"] >= 1
        assert len(box["labels"]) >= 6
        for i, (left, top, right, bottom) in enumerate(box["labels"]):
            assert bottom - top >= 10, "too small to read"
            assert left >= -1
            assert right <= box["width"] + 1
            for other in box["labels"][:i]:
                apart = left >= other[2] or other[0] >= right or top >= other[3] - 4
                assert apart or other[1] >= bottom - 4, "two labels in one place"


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_texts_stay_text(browser: Browser, number: int) -> None:
    """Whatever others name their things: nothing runs, nothing loads, and the page keeps its
    shape.
    """
    address = _pages()[f"hostile-{number}"]
    looks = Looks("light", PHONE)
    browser.show(address, looks)
    browser.picture(f"hostile-{number}", looks)

    assert browser.ask("return window.owned") is None
    assert (
        browser.ask("return document.querySelectorAll('script,img,link,iframe,base,a').length") == 0
    )
    assert browser.driver.current_url == address
    assert browser.requested() == {address}
    assert browser.said() == []
    assert _fits(browser)
    assert browser.ask("return document.querySelectorAll('svg.chart').length") == 5
    assert "evil" not in HOSTILE[number] or "evil" in browser.ask("return document.body.innerText")


def test_policy_is_in_force(browser: Browser) -> None:
    """Should a text ever become markup after all, the page's policy still lets it do nothing."""
    browser.show(_pages()["decision"], Looks("light", WIDE))
    browser.requested()
    browser.ask(
        "document.querySelector('main').innerHTML += '<img src=\"http://127.0.0.1:9/x.png\">"
        '<p style="color:red" onclick="window.owned=1" id=p>x</p>\';'
        "document.getElementById('p').click()"
    )
    assert browser.ask("return window.owned") is None
    assert any("Content Security Policy" in line for line in browser.said())
    assert not any("127.0.0.1" in address for address in browser.requested())


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The manual, served from this machine: its search needs a server."""
    assert (SITE / "index.html").exists(), "build the manual first: make docs"

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing: requests are the browser's to tell."""

    handler = functools.partial(Quiet, directory=str(SITE))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def _manual() -> list[str]:
    return [
        path.parent.relative_to(SITE).as_posix().removeprefix(".")
        for path in sorted(SITE.rglob("index.html"))
    ]


@every_look
def test_manual(browser: Browser, site: str, looks: Looks) -> None:
    """Each page of the manual loads from its own site only, complains of nothing, and its text can
    be read in either scheme.
    """
    troubles: list[str] = []
    for name in _manual():
        browser.show(f"{site}{name}/" if name else site, looks)
        scheme = browser.ask("return document.body.dataset.mdColorScheme")
        assert scheme == {"light": "default", "dark": "slate"}[looks.scheme]
        outside = {a for a in browser.requested() if not a.startswith((site, "data:", "blob:"))}
        troubles += [f"{name}: asked for {address}" for address in outside]
        troubles += [f"{name}: {message}" for message in browser.said()]
        troubles += [f"{name}: {cut}" for cut in _cut(browser, looks)]
        troubles += [
            f"{name}: {low}"
            for low in _low_contrasts(
                browser, "article :is(p, li, h1, h2, h3, td, th, summary, figcaption)"
            )
        ]
        if name in {"", "tutorial"}:
            browser.picture(f"manual-{name or 'home'}-{looks}", looks, height=1600)
    assert not troubles, "\n".join(troubles)


def test_pictures_of_the_readme(browser: Browser) -> None:
    """The two pictures that README shows are taken anew; the ones it has are small files."""
    for name, scheme in (("report-good", "light"), ("report-bad", "dark")):
        looks = Looks(scheme, WIDE)
        browser.show(_pages()[name], looks)
        legend = "document.querySelector('.legend').getBoundingClientRect()"
        taken = browser.picture(name, looks, height=browser.ask(f"return {legend}.bottom") + 8)
        assert 0 < (ROOT / "docs" / "images" / taken.name).stat().st_size < 120 * 1024
