"""Speakers on the web page: a session played by the test at the page's own connection, and one of a real daemon."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from daemon.sessions_api import SessionChange

LABELS = "#log .speaker:visible .name"


class Stage:
    """A session that the test plays to a page which follows it, and the daemon's answers to names."""

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.seq = 0
        self.snapshot: dict[str, Any] = {"utterances": [], "live": True}
        self.patched: list[dict[str, Any]] = []
        self.answers: list[tuple[int, dict[str, Any]]] = []  # refusals, before names are taken
        self._socket: Any = None
        page.route_web_socket(re.compile("/v1/sessions/play/events"), self._open)
        page.route(re.compile("/v1/sessions/play$"), self._patch)
        page.goto(f"{url}/web?session=play")
        self.until(lambda: self._socket is not None)

    def _open(self, socket: Any) -> None:
        self._socket = socket
        message = {"type": "snapshot", "session": "play", "title": "A play", "seq": self.seq} | self.snapshot
        socket.send(json.dumps(message))

    def _patch(self, route: Any) -> None:
        if route.request.method != "PATCH":
            route.fulfill(json={})
            return
        self.patched.append(route.request.post_data_json)
        if self.answers:
            status, error = self.answers.pop(0)
            route.fulfill(status=status, json={"error": error})
            return
        ((speaker, name),) = self.patched[-1]["speakers"].items()
        label = {"id": speaker, "name": name, "confidence": None, "settled": True, "seconds": 1.0}
        route.fulfill(json={"session": "play", "speakers": [label]})

    def say(self, kind: str, **fields: Any) -> None:
        """One message, and what it makes of the page is there afterwards."""
        if kind != "partial":
            self.seq += 1
            fields["seq"] = self.seq
        self._socket.send(json.dumps({"type": kind, **fields}))
        self.page.evaluate("() => new Promise((done) => setTimeout(done, 50))")

    def final(self, number: int, text: str, speaker: dict[str, Any] | None = None, **fields: Any) -> None:
        """An utterance from second `number` to the next."""
        self.say("final", **_utterance(number, text, speaker), **fields)

    def until(self, what: Callable[[], bool]) -> None:
        """Waits for something that the page does in its own time."""
        end = time.monotonic() + 10
        while not what():
            assert time.monotonic() < end, self.page.inner_text("body")
            self.page.wait_for_timeout(50)


def _utterance(number: int, text: str, speaker: dict[str, Any] | None = None) -> dict[str, Any]:
    said = {"utterance": number, "start": float(number), "end": number + 1.0, "text": text, "language": "en"}
    return said | ({"speaker": speaker} if speaker else {})


def _label(id: str, settled: bool = False, **fields: Any) -> dict[str, Any]:
    return {"id": id, "settled": settled, **fields}


@pytest.fixture
def stage(scripted_daemon: Any, open_page: Any) -> Callable[..., Stage]:
    """`stage(reduced_motion="reduce")`: a page that follows the session which the test plays."""

    def raise_curtain(**options: Any) -> Stage:
        page = open_page(f"{scripted_daemon.url}/web", **options)
        return Stage(page, scripted_daemon.url)

    return raise_curtain


@pytest.mark.parametrize("type_key", ["-", "+"])
@pytest.mark.parametrize("size", [(1280, 800), (360, 640)])
def test_a_label_that_comes_late(stage, size, type_key: str) -> None:
    """Nothing moves when it comes, changes or settles, and its line is not read out again."""
    s = stage()
    s.page.set_viewport_size({"width": size[0], "height": size[1]})
    for _ in range(5):
        s.page.keyboard.press(type_key)
    s.final(1, "The first thing that is said, and it is rather long, so that it takes more than a line.")
    s.final(2, "The second.")
    row = s.page.locator("#log .line").first.element_handle()
    places = "() => [...document.querySelectorAll('#log .text')].map((t) => JSON.stringify(t.getBoundingClientRect()))"
    before = s.page.evaluate(places)
    for rev, label in enumerate(
        [_label("S1"), _label("S2"), _label("S2", name="A name that is much longer than its place")], 1
    ):
        s.say("revise", utterance=1, rev=rev, reason="labelled", speaker=label)
        assert s.page.evaluate(places) == before
        assert row.evaluate("(row) => row.isConnected && row.classList.contains('provisional')")
    assert s.page.locator(LABELS).all_inner_texts() == ["A name that is much longer than its place"]
    s.final(40, "The last.")  # so much later that labels are settled
    assert row.evaluate("(row) => !row.classList.contains('provisional') && row.ariaLive !== 'off'")
    assert row.evaluate("(row) => row.querySelector('.speaker').ariaLive") == "off"
    s.until(lambda: s.page.locator("#log").get_attribute("aria-live") == "polite")
    assert s.page.evaluate("document.documentElement.scrollWidth") == size[0]


def test_runs_of_lines(stage) -> None:
    """A speaker is named once for a run of lines, and again when a revision breaks or joins runs."""
    s = stage()
    for number, who in enumerate(["S1", "S1", "S1", "S2"], 1):
        s.final(number, f"line {number}", _label(who, settled=True))
    shown = s.page.locator(LABELS).all_inner_texts
    assert shown() == ["Speaker 1", "Speaker 2"]
    s.say("revise", utterance=2, rev=1, reason="voices_told_apart", speaker=_label("S3"))
    assert shown() == ["Speaker 1", "Speaker 3", "Speaker 1", "Speaker 2"]
    s.say("revise", utterance=4, rev=1, reason="voices_joined", speaker=_label("S1"))
    assert shown() == ["Speaker 1", "Speaker 3", "Speaker 1"]
    signs = s.page.locator("#log .speaker:visible .sign").all_inner_texts()
    hues = [line.get_attribute("data-hue") for line in s.page.locator("#log .line").all()]
    assert signs == ["1", "3", "1"] and hues == ["1", "3", "1", "1"]
    assert s.page.locator(".chip .name").all_inner_texts() == ["Speaker 1", "Speaker 3"]


def test_the_line_that_is_open(stage) -> None:
    """Shows who is probably speaking, in the line and in the legend, and whose name changes."""
    s = stage()
    s.final(1, "Before.", _label("S1", settled=True))
    s.final(2, "And then.", _label("S2", settled=True))
    partial = _utterance(3, "I", _label("S1")) | {"tentative": " am"}
    s.say("partial", **partial)
    assert s.page.locator("#open .provisional .name").inner_text() == "Speaker 1"
    assert s.page.locator(".speaking .name").inner_text() == "Speaker 1"
    s.say("revise", reason="recognised", speaker=_label("S1", name="Ada", confidence=0.9))
    assert s.page.locator("#open .name").inner_text() == "Ada"
    s.say("partial", **partial | {"speaker": _label("S2")})
    assert s.page.locator("#open .speaker").is_hidden(), "the line before is theirs as well"
    assert s.page.locator(".speaking .name").inner_text() == "Speaker 2"


def test_an_utterance_of_two_speakers(stage) -> None:
    """Becomes two lines in their place; the second is not read out, for it was in the first."""
    s = stage()
    s.final(1, "Shall we? Yes.", _label("S1"))
    s.final(5, "Then let us go.", _label("S1"))
    s.say("partial", **_utterance(6, "Wait") | {"tentative": ""})
    s.say(
        "revise",
        utterance=1,
        rev=1,
        reason="voices_told_apart",
        text="Shall we?",
        end=1.5,
        split=[_utterance(9, "Yes.", _label("S2")) | {"start": 1.5, "end": 2.0, "rev": 0}],
    )
    assert s.page.locator("#log .settled").all_inner_texts() == ["Shall we?", "Yes.", "Then let us go."]
    assert s.page.locator(LABELS).all_inner_texts() == ["Speaker 1", "Speaker 2", "Speaker 1"]
    assert s.page.locator("#log .line").nth(1).get_attribute("aria-live") == "off"
    assert s.page.locator("#open .settled").inner_text() == "Wait", "it is still open"


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_what_moves(stage, motion: str) -> None:
    """A label that changes fades in; for readers who want less motion it is simply there."""
    s = stage(reduced_motion=motion)
    s.final(1, "Well.")
    s.say("revise", utterance=1, rev=1, reason="labelled", speaker=_label("S1"))
    moving = s.page.evaluate("document.querySelector('#log .speaker').getAnimations().length")
    assert moving == (1 if motion == "no-preference" else 0)


def test_naming_with_the_mouse(stage) -> None:
    """A press on a label asks who it is and shows what they said; the name is on all their lines at once."""
    s = stage()
    s.final(1, "I am Ada.", _label("S1"))
    s.final(2, "Hello.", _label("S2"))
    s.final(3, "As I said.", _label("S1"))
    s.page.locator("#log .speaker").first.click()
    assert s.page.locator("#speaker-title").inner_text().endswith("Who is Speaker 1?")
    assert s.page.locator("#speaker-said q").all_inner_texts() == ["I am Ada.", "As I said."]
    s.page.fill("#speaker-name", " Ada ")
    s.page.click("#speaker-save")
    s.until(lambda: s.page.locator(LABELS).all_inner_texts() == ["Ada", "Speaker 2", "Ada"])
    assert s.page.locator(".chip .name").all_inner_texts() == ["Ada", "Speaker 2"]
    assert s.patched == [{"speakers": {"S1": "Ada"}}] and not s.page.locator("dialog[open]").count()
    s.page.locator(".chip").first.click()
    assert s.page.input_value("#speaker-name") == "Ada"
    s.page.click("#speaker-clear")
    s.until(lambda: s.page.locator(LABELS).all_inner_texts() == ["Speaker 1", "Speaker 2", "Speaker 1"])
    assert s.patched[-1] == {"speakers": {"S1": None}}


def test_naming_with_the_keyboard(stage) -> None:
    """Enter or F2 on a speaker asks; arrows go from label to label; F2 elsewhere means who spoke last."""
    s = stage()
    for number, who in enumerate(["S1", "S2", "S3"], 1):
        s.final(number, f"line {number}", _label(who))
    keyboard, title = s.page.keyboard, s.page.locator("#speaker-title .name")

    def asks(name: str) -> None:
        assert title.inner_text() == name
        keyboard.press("Escape")

    keyboard.press("F2")
    asks("Speaker 3")
    s.page.locator(".chip").first.focus()
    keyboard.press("Enter")
    asks("Speaker 1")
    for _ in range(20):
        keyboard.press("Tab")
        if s.page.evaluate("document.activeElement.matches('#log .speaker')"):
            break
    keyboard.press("Enter")
    asks("Speaker 3")
    assert s.page.evaluate("document.activeElement.matches('#log .speaker')"), "the focus is back"
    keyboard.press("ArrowUp")
    keyboard.press("F2")
    assert title.inner_text() == "Speaker 2"
    keyboard.type("Ada")
    keyboard.press("Enter")
    s.until(lambda: "Ada" in s.page.locator(LABELS).all_inner_texts())


def test_a_label_that_has_the_focus(stage) -> None:
    """Keeps it when it changes; when its line joins another's run, the captions have it."""
    s = stage()
    s.final(1, "line 1", _label("S1"))
    s.final(2, "line 2", _label("S2"))
    focused = "document.activeElement.textContent"
    s.page.locator("#log .speaker").nth(1).focus()
    s.say("revise", utterance=2, rev=1, reason="voices_told_apart", speaker=_label("S3"))
    assert s.page.evaluate(focused) == "3Speaker 3"
    s.say("revise", utterance=2, rev=2, reason="voices_joined", speaker=_label("S1"))
    assert s.page.evaluate("document.activeElement.id") == "captions"


def test_a_name_that_is_refused(stage) -> None:
    """A sentence in the dialog says why, what was typed stays, and the next try may succeed."""
    s = stage()
    s.final(1, "I am Ada.", _label("S1"))
    s.answers = [
        (400, {"code": "bad_message", "message": "speakers: S1 is not known."}),
        (401, {"code": "unauthorized", "message": "no"}),
    ]
    s.page.locator("#log .speaker").click()
    s.page.fill("#speaker-name", "Ada")
    s.page.keyboard.press("Enter")
    s.page.get_by_text("The name was not saved. speakers: S1 is not known.").wait_for()
    assert s.page.locator("#speaker-problem").get_attribute("role") == "alert"
    s.page.click("#speaker-save")
    s.page.locator("#token-dialog").wait_for()
    s.page.fill("#token", "open-sesame")
    s.page.keyboard.press("Enter")
    s.until(lambda: s.page.locator(LABELS).all_inner_texts() == ["Ada"])
    s.page.unroute(re.compile("/v1/sessions/play$"))
    s.page.route(re.compile("/v1/sessions/play$"), lambda route: route.abort())
    s.page.locator("#log .speaker").click()
    s.page.click("#speaker-clear")
    s.page.get_by_text("The daemon does not answer, so the name is not saved yet.").wait_for()


def test_names_after_a_reload(stage) -> None:
    """They come with the snapshot, and the room for labels is there at once."""
    s = stage()
    said = [_utterance(1, "I am Ada.", _label("S1", settled=True, name="Ada")), _utterance(2, "So?")]
    s.snapshot = {"utterances": said, "live": False}
    s.page.reload()
    s.until(lambda: s.page.locator(LABELS).all_inner_texts() == ["Ada"])
    assert s.page.locator(".chip").inner_text().split() == ["Ad", "Ada", "0:01"]


def test_a_reader_who_comes_late(stage) -> None:
    """Sees the gaps where they are, and what the daemon settles early as settled."""
    s = stage()
    said = [_utterance(1, "Long ago.", _label("S1")), _utterance(9, "Just now.", _label("S1"))]
    gap = {"type": "gap", "seq": 2, "start": 4.0, "end": 6.0, "reason": "overload"}
    s.snapshot = {"utterances": said, "gaps": [gap], "live": True, "settle_after_s": 5.0}
    s.page.reload()
    s.until(lambda: s.page.locator("#log .settled").count() == 2)
    rows = s.page.locator("#log > *").all_inner_texts()
    (at,) = [at for at, row in enumerate(rows) if "2 seconds" in row]
    assert "Long ago." in "".join(rows[:at]) and "Just now." in "".join(rows[at:])
    assert s.page.locator("#log .provisional").count() == 1


def test_a_session_without_labels(stage) -> None:
    """Over, or well under way, it has no room for them and no legend."""
    s = stage()
    s.snapshot = {"utterances": [_utterance(n, "Well.") for n in range(1, 8)], "live": True}
    s.page.reload()
    s.until(lambda: s.page.locator("#log .settled").count() == 7)
    assert s.page.locator("#speakers-bar").is_hidden()
    assert s.page.evaluate("document.documentElement.dataset.labels") == "none"


def test_label_speakers_is_switched_off(scripted_daemon, open_page) -> None:
    """The daemon is told so with the next start, labels are not shown, and both outlast a reload."""
    page = open_page(f"{scripted_daemon.url}/web")
    starts: list[Any] = []

    def note(frame: Any) -> None:
        if isinstance(frame, str) and (message := json.loads(frame))["type"] == "start":
            starts.append(message["diarize"])

    page.on("websocket", lambda socket: socket.on("framesent", note))
    page.click("#record")
    page.get_by_text("Listening", exact=True).wait_for()
    assert page.locator("#speakers-bar").is_visible()
    page.click("#record")
    page.get_by_text("Finished.").wait_for()
    page.click("#display")
    page.uncheck("#speakers")
    assert page.locator("#speakers-bar").is_hidden()
    page.goto(f"{scripted_daemon.url}/web")
    page.click("#record")
    page.get_by_text("Listening", exact=True).wait_for()
    assert page.locator("#speakers-bar").is_hidden()
    page.click("#record")
    assert starts == [True, False]


@pytest.mark.skipif("speakers" not in SessionChange.model_fields, reason="this daemon cannot name speakers")
def test_two_people_at_the_microphone(real_daemon, open_page) -> None:
    """Both are told apart; a viewer names one, and the name is on both pages, in the transcript, after a reload."""
    page = open_page(f"{real_daemon.url}/web", "endgame_nagg_nell.wav")
    page.click("#record")
    page.get_by_text("Listening", exact=True).wait_for()
    page.wait_for_url("**session=*")
    page.locator(".chip").nth(1).wait_for(timeout=60_000)
    viewer = open_page(page.url)
    viewer.locator(".chip").nth(1).click()
    named = viewer.locator("#speaker-title .name").inner_text()
    viewer.fill("#speaker-name", "Nell")
    viewer.keyboard.press("Enter")
    for reader in (page, viewer):
        reader.locator(".chip .name", has_text="Nell").wait_for()
        assert named not in reader.locator(LABELS).all_inner_texts()
    page.click("#record")
    page.get_by_text("Finished. The transcript is kept under Sessions.").wait_for()
    viewer.get_by_text("This session has ended.").wait_for()
    assert page.locator("#log .provisional").count() == 0, "the end settles everything"
    assert page.locator(LABELS).all_inner_texts() == viewer.locator(LABELS).all_inner_texts()
    viewer.reload()
    viewer.locator(LABELS, has_text="Nell").first.wait_for()
    viewer.locator(".chip .name", has_text="Nell").click()
    viewer.fill("#speaker-name", "Nell of the ashbin")
    viewer.keyboard.press("Enter")  # a session that is over can be named in as well
    viewer.locator(LABELS, has_text="Nell of the ashbin").first.wait_for()
