"""The web page in a real Chromium, with a real recording at its microphone and a real daemon behind it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.request import Request, urlopen

import pytest

OPENING = ("best of times", "worst of times", "wisdom", "foolishness", "belief", "incredulity")


def _text(page: Any) -> list[str]:
    """The finished captions on the page."""
    return page.locator("#log .settled").all_inner_texts()


def _session(page: Any) -> str:
    page.wait_for_url("**session=*")
    return page.url.rpartition("session=")[2]


def _get(url: str, **headers: str) -> Any:
    with urlopen(Request(url, headers=headers), timeout=10) as response:
        return json.load(response)


def _transcript(url: str, session: str) -> list[str]:
    """The finished captions in the daemon's journal."""
    return [line["text"] for line in _get(f"{url}/v1/sessions/{session}")["utterances"]]


def _until(what: Callable[[], bool], page: Any, timeout_s: float = 20.0) -> None:
    end = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < end, (page.inner_text("#status"), _text(page))
        page.wait_for_timeout(100)


def _until_words(page: Any, words: str, timeout_s: float = 20.0) -> None:
    """Waits for words in the finished captions, whatever their case and punctuation."""
    _until(lambda: words in " ".join(_text(page)).lower(), page, timeout_s)


def _stop(page: Any) -> None:
    page.click("#record")
    page.get_by_text("Finished. The transcript is kept under Sessions.").wait_for()


def test_a_recording_is_spoken_into_the_microphone(real_daemon, open_page) -> None:
    """Its words appear; a viewer by link reads the same; the list names it; every format downloads."""
    page = open_page(f"{real_daemon.url}/web", "beckett.wav")
    assert page.locator("#welcome").is_visible()
    page.fill("#title", "A reading")
    page.click("#record")
    page.get_by_text("Listening", exact=True).wait_for()
    session = _session(page)
    viewer = open_page(f"{real_daemon.url}/web?session={session}")
    viewer.get_by_text("Following live").wait_for()
    _until(lambda: viewer.input_value("#title") == "A reading", viewer)
    assert not viewer.locator("#record").is_visible()
    _until(lambda: bool(page.locator("#open").inner_text()), page)
    _until(lambda: page.evaluate("document.getElementById('meter').ariaValueNow > 20"), page)
    _until_words(page, "no matter")
    _until_words(page, "better")
    _stop(page)
    viewer.get_by_text("This session has ended.").wait_for()
    said = _text(page)
    assert said == _transcript(real_daemon.url, session) == _text(viewer)
    assert not page.locator("#open").inner_text()
    page.click("#list")
    assert page.locator("#sessions [aria-current]").inner_text().startswith("A reading")
    page.keyboard.press("Escape")
    for kind, mark in {"txt": said[0], "srt": "-->", "vtt": "WEBVTT", "md": "A reading", "json": '"'}.items():
        viewer.click("#save")
        with viewer.expect_download() as waiting:
            viewer.click(f"[data-format={kind}]")
        assert waiting.value.suggested_filename == f"A-reading.{kind}"
        assert mark in waiting.value.path().read_text()


def test_a_reload_in_the_middle(real_daemon, open_page) -> None:
    """The same session goes on: nothing that was shown is missing, and what was not heard is marked."""
    page = open_page(f"{real_daemon.url}/web")
    page.click("#record")
    _until_words(page, "foolishness")
    before, session = _text(page), _session(page)
    page.reload()
    page.get_by_text("Listening", exact=True).wait_for()
    assert _text(page)[: len(before)] == before, "the text is there before anything else is said"
    _until(lambda: " ".join(_text(page)).lower().count("best of times") == 2, page)  # the file starts anew
    _stop(page)
    assert _session(page) == session
    assert _text(page)[: len(before)] == before and _text(page) == _transcript(real_daemon.url, session)
    gaps = "\n".join(page.locator("#log .gap").all_inner_texts())
    assert re.search(r"\d+ seconds? not heard: the page or its connection was away", gaps)


def test_a_reload_after_which_the_microphone_is_refused(scripted_daemon, open_page) -> None:
    """The text is there, the page says what is wrong, and Continue goes on with the same session."""
    script = """
        const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (wish) => {
          if (sessionStorage.getItem("refused")) throw new DOMException("", "NotAllowedError");
          return ask(wish);
        };
    """
    page = open_page(f"{scripted_daemon.url}/web", init_script=script)
    page.click("#record")
    _until(lambda: bool(_text(page)), page)
    before, session = _text(page), _session(page)
    page.evaluate("sessionStorage.setItem('refused', '1')")
    page.reload()
    page.get_by_text("The browser did not allow the microphone.").wait_for()
    assert _text(page)[: len(before)] == before
    page.evaluate("sessionStorage.removeItem('refused')")
    page.get_by_role("button", name="Continue").click()
    page.get_by_text("Listening", exact=True).wait_for()
    _stop(page)
    assert _session(page) == session and _text(page)[: len(before)] == before


def test_a_connection_that_is_cut_for_seconds(real_daemon, open_page, proxy) -> None:
    """Producer and viewer come back by themselves: no word lost, none doubled, no gap."""
    proxy.mend(real_daemon.port)
    page = open_page(f"http://127.0.0.1:{proxy.port}/web")
    page.click("#record")
    _until_words(page, "worst of times")
    session = _session(page)
    viewer = open_page(f"http://127.0.0.1:{proxy.port}/web?session={session}")
    viewer.get_by_text("Following live").wait_for()
    proxy.cut()
    page.get_by_text("Connection lost. Trying again; nothing is lost").wait_for()
    viewer.get_by_text("Connection lost. Trying again; no text will be missing.").wait_for()
    page.wait_for_timeout(4_000)
    proxy.mend(real_daemon.port)
    _until_words(page, "incredulity")
    _stop(page)
    viewer.get_by_text("This session has ended.").wait_for()
    said = " ".join(_text(page)).lower()
    assert [said.count(words) for words in OPENING] == [1] * len(OPENING), said
    assert sorted(OPENING, key=said.index) == list(OPENING)
    assert not [gap for gap in page.locator("#log .gap").all_inner_texts() if "without words" not in gap]
    assert _text(page) == _text(viewer) == _transcript(real_daemon.url, session)


def test_a_daemon_that_is_killed_and_started_again(start_daemon, open_page, proxy, tmp_path) -> None:
    """The session goes on in the other one, out of its journal and the page's ring: nothing lost or doubled."""
    first = start_daemon(scripted=True, folder=tmp_path)
    proxy.mend(first.port)
    page = open_page(f"http://127.0.0.1:{proxy.port}/web")
    page.click("#record")
    _until(lambda: len(_text(page)) >= 2, page)
    first.kill()
    page.get_by_text("Connection lost.").wait_for()
    before = _text(page)
    second = start_daemon(scripted=True, folder=tmp_path)
    proxy.mend(second.port)
    _until(lambda: len(_text(page)) >= len(before) + 2, page)
    _stop(page)
    words = [int(word) for word in re.findall(r"word(\d+)", " ".join(_text(page)))]
    assert _text(page)[: len(before)] == before
    assert words == sorted(set(words)), "each word once and in order"
    assert _text(page) == _transcript(second.url, _session(page))


def test_a_keyboard_and_nothing_else(scripted_daemon, open_page) -> None:
    """Skip link, start and stop, and the shortcuts work; what has the focus can be seen."""
    page = open_page(f"{scripted_daemon.url}/web")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(20):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", page.evaluate("document.activeElement.outerHTML")
        if page.evaluate("document.activeElement.id") == "record":
            break
    page.keyboard.press("Enter")
    page.get_by_text("Listening", exact=True).wait_for()
    page.keyboard.press("r")
    page.get_by_text("Finished.").wait_for()
    size = page.evaluate("getComputedStyle(document.querySelector('.page')).getPropertyValue('--type')")
    page.keyboard.press("+")
    assert size != page.evaluate(
        "getComputedStyle(document.querySelector('.page')).getPropertyValue('--type')"
    )
    page.keyboard.press("d")
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"
    page.keyboard.press("?")
    assert page.locator("#help-dialog").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#help-dialog").is_visible()
    page.reload()
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark", "it is kept"


def test_a_screen_reader(scripted_daemon, open_page) -> None:
    """Finals are announced politely, tentative words never, states by role=status; every control has a name."""
    page = open_page(f"{scripted_daemon.url}/web")
    log = page.locator("#log")
    assert (log.get_attribute("role"), log.get_attribute("aria-live")) == ("log", "polite")
    assert page.locator("#open").get_attribute("aria-hidden") == "true"
    assert page.locator("#status").get_attribute("role") == "status"
    assert page.locator("#notice").get_attribute("role") == "alert"
    assert page.evaluate("document.documentElement.lang") == "en"
    page.click("#record")
    _until(lambda: bool(_text(page)), page)
    assert log.get_attribute("aria-live") == "polite", "and it still is while captions come"
    page.click("#record")
    devtools = page.context.new_cdp_session(page)
    for name in ("", "list", "save", "display", "help"):
        if name:
            page.click(f"#{name}")
            assert page.locator(f"#{name}-dialog").is_visible()
        for node in devtools.send("Accessibility.getFullAXTree")["nodes"]:
            role = node.get("role", {}).get("value")
            if role in (
                "button",
                "link",
                "textbox",
                "checkbox",
                "radio",
                "slider",
                "combobox",
                "dialog",
                "meter",
            ):
                assert node.get("name", {}).get("value"), node
        page.keyboard.press("Escape")


@pytest.mark.parametrize("contrast", ["normal", "more"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_colours(scripted_daemon, open_page, theme: str, contrast: str) -> None:
    """Text has a contrast of 4.5 or more (high contrast: 7), speakers' too, borders of controls 3."""
    page = open_page(f"{scripted_daemon.url}/web")
    page.evaluate(
        "([theme, contrast]) => Object.assign(document.documentElement.dataset, {theme, contrast})",
        [theme, contrast],
    )
    hues = tuple(f"hue-{number}" for number in range(1, 9))
    roles = ("paper", "panel", "ink", "dim", "edge", "accent", "on-accent", "live", "warn-paper", "warn-ink")
    colours = page.evaluate(
        "(names) => { const s = getComputedStyle(document.documentElement);"
        " return Object.fromEntries(names.map((n) => [n, s.getPropertyValue('--' + n).trim()])) }",
        [*roles, *hues],
    )
    assert len({colours[hue] for hue in hues}) == len(hues)
    least = 7.0 if contrast == "more" else 4.5
    for paper in ("paper", "panel"):
        for text in ("ink", "dim", "accent", "live", *hues):
            assert _contrast(colours[text], colours[paper]) >= least, (text, paper)
        assert _contrast(colours["edge"], colours[paper]) >= 3.0
    assert _contrast(colours["on-accent"], colours["accent"]) >= least
    assert _contrast(colours["warn-ink"], colours["warn-paper"]) >= least


def _contrast(a: str, b: str) -> float:
    """Contrast of two #rrggbb colours, 1..21 (WCAG 2.2)."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_a_daemon_that_asks_for_a_token(start_daemon, open_page) -> None:
    """The page asks, goes on with it, and follows by ticket; the token is in no address."""
    daemon = start_daemon(scripted=True, auth={"tokens": ["open-sesame"]})
    page = open_page(f"{daemon.url}/web")
    asked: list[str] = []
    page.on("websocket", lambda socket: asked.append(socket.url))
    page.click("#record")
    page.locator("#token-dialog").wait_for()
    page.fill("#token", "open-sesame")
    page.keyboard.press("Enter")
    page.get_by_text("Listening", exact=True).wait_for()
    _until(lambda: bool(_text(page)), page)
    viewer = open_page(page.url)
    viewer.on("websocket", lambda socket: asked.append(socket.url))
    viewer.locator("#token-dialog").wait_for()
    viewer.fill("#token", "open-sesame")
    viewer.click("#token-go")
    viewer.get_by_text("Following live").wait_for()
    _until(lambda: _text(viewer)[:1] == _text(page)[:1], viewer)
    page.click("#record")
    assert any("ticket=" in url for url in asked) and not any("open-sesame" in url for url in asked)


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("NotAllowedError", "The browser did not allow the microphone."),
        ("NotFoundError", "No microphone was found."),
        ("NotReadableError", "another program may hold it"),
        ("", "only to pages opened over https or on the same computer"),
    ],
)
def test_a_microphone_that_cannot_be_had(scripted_daemon, open_page, script: str, sentence: str) -> None:
    """A sentence says why and what to do, and Start is there to try again."""
    refuse = f"navigator.mediaDevices.getUserMedia = async () => {{ throw new DOMException('', '{script}') }}"
    insecure = "Object.defineProperty(window, 'isSecureContext', {value: false})"
    page = open_page(f"{scripted_daemon.url}/web", init_script=refuse if script else insecure)
    page.click("#record")
    page.get_by_text(sentence).wait_for()
    assert page.locator("#record").inner_text() == "Start captions"


def test_a_microphone_that_goes_away(scripted_daemon, open_page) -> None:
    """The page says so and takes the next one by itself; the session goes on."""
    script = """
        const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (wish) => {
          if (window.unplugged) throw new DOMException("", "NotFoundError");
          window.plugged = await ask(wish);
          return window.plugged;
        };
    """
    page = open_page(f"{scripted_daemon.url}/web", init_script=script)
    page.click("#record")
    page.get_by_text("Listening", exact=True).wait_for()
    session = _session(page)
    page.evaluate(
        "window.unplugged = true; window.plugged.getTracks().forEach((track) => {"
        " track.stop(); track.dispatchEvent(new Event('ended')) })"
    )
    page.get_by_text("The microphone went away.").wait_for()
    page.evaluate("window.unplugged = false; navigator.mediaDevices.dispatchEvent(new Event('devicechange'))")
    page.get_by_text("Listening", exact=True).wait_for()
    _stop(page)
    assert _session(page) == session


def test_a_session_that_does_not_exist(scripted_daemon, open_page) -> None:
    """The page says so and where to look."""
    page = open_page(f"{scripted_daemon.url}/web?session=nobody")
    page.get_by_text("There is no such session here").wait_for()


def test_a_small_window(scripted_daemon, open_page) -> None:
    """Nothing is cut off on a phone, and what is pressed is large enough to be hit."""
    page = open_page(f"{scripted_daemon.url}/web")
    page.set_viewport_size({"width": 360, "height": 640})
    page.click("#record")
    page.get_by_text("Listening", exact=True).wait_for()
    _until(lambda: bool(_text(page)), page)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    for button in page.locator("button:visible").all():
        box = button.bounding_box()
        assert box["width"] >= 44 and box["height"] >= 44, button.inner_text()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 360
    page.click("#record")
