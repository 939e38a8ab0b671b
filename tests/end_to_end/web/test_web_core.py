"""The page's modules that know no page: ring, transcript, connection. And the captions, with ten thousand of them."""

from __future__ import annotations

import json
from typing import Any

import pytest


@pytest.fixture
def run(scripted_daemon: Any, open_page: Any) -> Any:
    """`run(script)`: the value of an async function's body inside the page; `load("ring.js")` is a module."""
    page = open_page(f"{scripted_daemon.url}/web")

    def evaluate(script: str) -> Any:
        return page.evaluate(f"async () => {{ const load = (n) => import('/web/' + n); {script} }}")

    return evaluate


def test_a_ring_that_overflows(run) -> None:
    """Keeps the newest samples, addressed by position; what it no longer has is an error."""
    assert run("""
        const { Ring } = await load("ring.js");
        const ring = new Ring(10, 100);
        const seen = [];
        for (let i = 0; i < 7; i++) ring.push(Int16Array.from([0, 1, 2, 3], (k) => 100 + 4 * i + k));
        seen.push(ring.start, ring.end, [...ring.read(118, 128)], [...ring.read(121, 124)]);
        ring.push(Int16Array.from({ length: 25 }, (_, k) => 128 + k));
        seen.push(ring.start, ring.end, [...ring.read(143, 153)]);
        try { ring.read(142, 150); } catch (error) { seen.push(error.name); }
        ring.moveTo(500);
        seen.push(ring.start, ring.end);
        return seen;
    """) == [
        118,
        128,
        list(range(118, 128)),
        [121, 122, 123],
        143,
        153,
        list(range(143, 153)),
        "RangeError",
        500,
        500,
    ]


_SAID = """
    const { Transcript } = await load("transcript.js");
    const t = new Transcript();
    const final = (seq, utterance, text, more) =>
      ({ type: "final", seq, utterance, start: utterance, end: utterance + 1, text, language: "en", ...more });
    const partial = (utterance, text, tentative = "") =>
      ({ type: "partial", utterance, start: utterance, end: utterance + 1, text, tentative });
    const texts = () => t.lines.map((line) => line.text ?? line.reason);
"""


def test_messages_that_come_twice(run) -> None:
    """Replayed durable messages change nothing; one that is missing is reported as a hole."""
    assert run(
        _SAID
        + """
        const kinds = [final(1, 0, "a"), final(1, 0, "a"), final(3, 2, "c"), final(2, 1, "b"), final(3, 2, "c")]
          .map((message) => t.apply(message).kind);
        return [kinds, texts(), t.seq];
    """
    ) == [["changed", "none", "hole", "changed", "changed"], ["a", "b", "c"], 3]


def test_what_closes_an_open_utterance(run) -> None:
    """Its own final, a gap, or the end; not the final of another, which may have any number."""
    assert run(
        _SAID
        + """
        const open = () => [...t.open.keys()];
        t.apply(partial(1, "a")); t.apply(partial(2, "b"));
        t.apply(final(1, 3, "c."));
        const seen = [open()];
        t.apply(final(2, 1, "a."));
        seen.push(open(), t.apply(partial(1, "a")).kind, texts());
        t.apply({ type: "gap", seq: 3, start: 2, end: 3, reason: "suppressed:no_words" });
        seen.push(open());
        t.apply(partial(4, "d"));
        t.apply({ type: "stopped", seq: 4, audio_end: 9 });
        return [...seen, open()];
    """
    ) == [[1, 2], [2], "none", ["a.", "c."], [], []]


def test_a_revision(run) -> None:
    """Changes text or speaker of its line; an older one does not."""
    assert run(
        _SAID
        + """
        t.apply(final(1, 7, "helo"));
        const first = t.apply({ type: "revise", seq: 2, utterance: 7, rev: 2, text: "hello" });
        const old = t.apply({ type: "revise", seq: 3, utterance: 7, rev: 1, text: "hullo" });
        t.apply({ type: "revise", seq: 4, utterance: 7, rev: 3, speaker: { id: "S1", settled: true } });
        return [first, old.kind, texts(), t.lines[0].speaker.id, t.seq];
    """
    ) == [{"kind": "changed", "added": [], "split": [], "revised": [0]}, "none", ["hello"], "S1", 4]


def test_a_final_that_comes_late(run) -> None:
    """Stands in its place by time, and by number where the time is the same; a gap is before such text."""
    assert run(
        _SAID
        + """
        t.apply(final(1, 5, "e")); t.apply(final(2, 9, "i"));
        const late = t.apply(final(3, 7, "g"));
        t.apply(final(4, 6, "g again", { start: 7 }));
        t.apply({ type: "gap", seq: 5, start: 9, end: 9.5, reason: "overload" });
        t.apply({ type: "revise", seq: 6, utterance: 7, rev: 1, text: "g!" });
        return [late.added, texts()];
    """
    ) == [[1], ["e", "g again", "g!", "overload", "i"]]


def test_an_utterance_of_two_speakers(run) -> None:
    """Is split: the first keeps its number, the others are lines of their own between it and the next."""
    assert run(
        _SAID
        + """
        t.apply(final(1, 1, "Shall we? Yes. Good.", { end: 4, speaker: { id: "S1" } }));
        t.apply(final(2, 5, "Next."));
        const line = (utterance, start, text, id) =>
          ({ utterance, start, end: start + 1, text, language: "en", rev: 0, speaker: { id } });
        const change = t.apply({ type: "revise", seq: 3, utterance: 1, rev: 1, reason: "voices_told_apart", end: 2,
          text: "Shall we?", speaker: { id: "S1" }, split: [line(8, 2, "Yes.", "S2"), line(9, 3, "Good.", "S1")] });
        t.apply({ type: "revise", seq: 4, utterance: 8, rev: 1, reason: "named", speaker: { id: "S2", name: "Ada" } });
        return [change, texts(), t.lines.map(({ speaker }) => speaker?.name ?? speaker?.id), t.lines[0].end,
          t.roster.speakers.map(({ label, seconds }) => [label.id, seconds])];
    """
    ) == [
        {"kind": "changed", "added": [], "split": [1, 2], "revised": [0]},
        ["Shall we?", "Yes.", "Good.", "Next."],
        ["S1", "Ada", "S1", None],
        2,
        [["S1", 2], ["S2", 1]],
    ]


def test_a_speaker_who_is_named(run) -> None:
    """All that is labelled so, open or finished, is labelled anew, and keeps it that it is settled."""
    assert run(
        _SAID
        + """
        t.apply(final(1, 1, "a", { speaker: { id: "S1", settled: true } }));
        t.apply(final(2, 2, "b", { speaker: { id: "S2", settled: false } }));
        t.apply(final(3, 3, "c", { speaker: { id: "S1", settled: false } }));
        t.apply({ ...partial(4, "d"), speaker: { id: "S1", settled: false } });
        const change = t.apply({ type: "revise", seq: 4, reason: "named", speaker: { id: "S1", name: "Ada", settled: false } });
        const named = t.lines.map(({ speaker }) => [speaker.name ?? "", speaker.settled]);
        const open = t.open.get(4).speaker.name;
        t.apply({ type: "revise", seq: 5, reason: "named", speaker: { id: "S1", settled: false } });
        return [change.revised, named, open, t.roster.label("S1").name ?? ""];
    """
    ) == [[0, 2], [["Ada", True], ["", False], ["Ada", False]], "Ada", ""]


def test_labels_settle(run) -> None:
    """Once the audio has come as far as the server says, and all of them at the end."""
    assert run(
        _SAID
        + """
        const settled = () => t.lines.map(({ speaker }) => speaker.settled);
        t.apply({ type: "started", session: "s", limits: { settle_after_s: 10 } });
        t.apply(final(1, 1, "a", { speaker: { id: "S1", settled: false } }));
        t.apply(final(2, 9, "b", { speaker: { id: "S2", settled: false } }));
        const seen = [settled()];
        const change = t.apply({ ...partial(10, "c"), end: 12 });
        seen.push(settled(), change.revised);
        t.apply({ type: "stopped", seq: 3, audio_end: 12 });
        return [...seen, settled()];
    """
    ) == [[False, False], [True, False], [0], [True, True]]


def test_who_has_spoken(run) -> None:
    """Speakers are in order of their numbers; one whose last line turns out to be another's is gone."""
    assert run(
        _SAID
        + """
        [10, 2, 1].forEach((id, i) => t.apply(final(i + 1, i, "x", { speaker: { id: "S" + id } })));
        const before = t.roster.speakers.map(({ label }) => label.id);
        t.apply({ type: "revise", seq: 4, utterance: 0, rev: 1, reason: "voices_joined", speaker: { id: "S2" } });
        return [before, t.roster.speakers.map(({ label, seconds }) => [label.id, seconds])];
    """
    ) == [["S1", "S2", "S10"], [["S1", 1], ["S2", 2]]]


@pytest.mark.parametrize(
    ("speaker", "name", "sign"),
    [
        ({"id": "S12"}, "Speaker 12", "12"),
        ({"id": "S2", "name": "Ada"}, "Ada", "Ad"),
        ({"id": "S2", "name": "ada maria lovelace"}, "ada maria lovelace", "AL"),
        ({"id": "S2", "name": "Łukasz"}, "Łukasz", "Łu"),
        ({"id": "S2", "name": "Ngũgĩ wa Thiong'o"}, "Ngũgĩ wa Thiong'o", "NT"),
        ({"id": "S2", "name": "☺"}, "☺", "☺"),
        ({"id": "left"}, "left", "lef"),
    ],
)
def test_what_a_speaker_is_called(run, speaker: dict[str, str], name: str, sign: str) -> None:
    """The name, or a number; the sign is the initials, or the number."""
    assert run(f"""
        const {{ speakerName, speakerSign }} = await load("words.js");
        return [speakerName({json.dumps(speaker)}), speakerSign({json.dumps(speaker)})];
    """) == [name, sign]


def test_a_snapshot(run) -> None:
    """Stands for everything up to its seq, the gaps too, and goes on from there."""
    assert run(
        _SAID
        + """
        t.apply(final(1, 0, "a"));
        t.apply({ type: "gap", seq: 2, start: 1, end: 1.5, reason: "overload" });
        const line = (utterance, text) => ({ utterance, start: utterance, end: utterance + 1, text, language: "en" });
        t.apply({ type: "snapshot", session: "s", seq: 4, live: true, partial: partial(3, "d"),
                  utterances: [line(0, "a"), line(2, "c")],
                  gaps: [{ type: "gap", seq: 2, start: 1, end: 1.5, reason: "overload" }] });
        t.apply(final(4, 2, "c"));
        t.apply(final(5, 3, "d"));
        return [texts(), t.open.size, t.seq, t.ended];
    """
    ) == [["a", "overload", "c", "d"], 0, 5, False]


def test_a_snapshot_says_when_labels_settle(run) -> None:
    """Those of lines that far back are settled at once, counted from the latest audio that it speaks of."""
    assert run(
        _SAID
        + """
        const line = (utterance) => ({ utterance, start: utterance, end: utterance + 1, text: "x", language: "en",
                                       speaker: { id: "S1", settled: false } });
        const settled = (more) => {
          t.clear();
          t.apply({ type: "snapshot", session: "s", seq: 4, live: true, utterances: [line(0), line(9)], ...more });
          return t.lines.filter((each) => each.kind === "utterance").map(({ speaker }) => speaker.settled);
        };
        return [settled({}), settled({ settle_after_s: 5 }),
                settled({ settle_after_s: 5, gaps: [{ start: 14, end: 16, reason: "overload" }] })];
    """
    ) == [[False, False], [True, False], [True, True]]


_CONNECTED = """
    const { Ring } = await load("ring.js");
    const { Stream } = await load("stream.js");
    const sockets = [], states = [];
    class Socket {
      constructor() { this.sent = []; this.bufferedAmount = 0; sockets.push(this); setTimeout(() => this.onopen?.()); }
      send(data) { this.sent.push(typeof data === "string" ? JSON.parse(data) : [...data]); }
      say(message) { this.onmessage({ data: JSON.stringify(message) }); }
      close() {}
    }
    const ring = new Ring(400);
    const samples = (from, to) => Int16Array.from({ length: to - from }, (_, k) => from + k);
    const stream = new Stream({ url: "", ring, rate: 100, token: () => "", lastSeq: () => 5,
      onMessage() {}, onState: (state) => states.push(state), connect: () => new Socket() });
    const started = (next_sample) => ({ type: "started", session: "s", resume_token: "t", seq: 0, next_sample });
    const until = async (what) => { while (!what()) await new Promise((done) => setTimeout(done, 10)); };
    stream.open();
    await until(() => sockets[0].sent.length);
    sockets[0].say(started(0));
"""


def test_a_connection_that_is_lost(run) -> None:
    """Comes back with the resume token, and sends again from the first sample the server does not have."""
    start, blocks, states = run(
        _CONNECTED
        + """
        ring.push(samples(0, 25)); stream.pump();
        sockets[0].onclose({ code: 1006 });
        ring.push(samples(25, 30)); stream.pump();
        await until(() => sockets[1]?.sent.length);
        sockets[1].say(started(18));
        stream.abandon();
        return [sockets[1].sent[0], sockets[1].sent.slice(1), states];
    """
    )
    assert start["resume"] == {"token": "t", "last_seq": 5} and start["session"] == "s"
    assert blocks == [list(range(18, 28)), [28, 29]]
    assert states == ["connecting", "live", "waiting", "connecting", "live", "stopped"]


def test_a_connection_that_is_lost_for_longer_than_the_ring(run) -> None:
    """What is no longer there is skipped, and said to be; then the rest is sent."""
    assert run(
        _CONNECTED
        + """
        sockets[0].onclose({ code: 1006 });
        ring.push(samples(0, 1000));
        await until(() => sockets[1]?.sent.length);
        sockets[1].say(started(0));
        stream.abandon();
        const [, skip, ...blocks] = sockets[1].sent;
        return [skip, blocks.flat().length, blocks[0][0]];
    """
    ) == [{"type": "skip", "samples": 600}, 400, 600]


def test_a_network_that_takes_nothing(run) -> None:
    """Audio stays in the ring while the socket's buffer is full, and goes out when it empties."""
    assert run(
        _CONNECTED
        + """
        sockets[0].bufferedAmount = 1 << 20;
        ring.push(samples(0, 30)); stream.pump();
        const held = sockets[0].sent.length - 1;
        stream.finish();
        const early = sockets[0].sent.some((message) => message.type === "stop");
        sockets[0].bufferedAmount = 0;
        await until(() => sockets[0].sent.some((message) => message.type === "stop"));
        stream.abandon();
        return [held, early, sockets[0].sent.slice(1, 4).flat().length, sockets[0].sent.at(-1)];
    """
    ) == [0, False, 30, {"type": "stop"}]


@pytest.mark.parametrize(
    ("code", "state"), [(4401, "failed"), (4400, "failed"), (1012, "waiting"), (1011, "waiting")]
)
def test_a_refusal(run, code: int, state: str) -> None:
    """A connection that will never be accepted is not tried again; one that may be is."""
    script = (
        f"sockets[0].onclose({{ code: {code} }}); const last = states.at(-1); stream.abandon(); return last;"
    )
    assert run(_CONNECTED + script) == state


def test_a_session_of_ten_thousand_captions(run) -> None:
    """The page holds a few hundred of them, all can be reached, and reading back is not disturbed."""
    assert run("""
        const { Transcript } = await load("transcript.js");
        const { Captions } = await load("captions.js");
        const part = (id) => document.getElementById(id);
        document.documentElement.dataset.mode = "viewing";
        const transcript = new Transcript();
        const captions = new Captions({ scroller: part("captions"), log: part("log"), open: part("open"),
          earlier: part("earlier"), later: part("later"), jump: part("jump") }, transcript);
        const say = (i) => captions.show(transcript.apply({ type: "final", seq: i, utterance: i, start: i, end: i + 1,
          text: "caption " + i, language: "en" }));
        const texts = () => [...part("log").querySelectorAll(".settled")].map((span) => span.textContent);
        for (let i = 1; i <= 10000; i++) say(i);
        const bounded = part("log").children.length <= 300 && texts().at(-1) === "caption 10000";
        const following = part("jump").hidden;
        const scroller = part("captions");
        const drawn = () => new Promise((done) => setTimeout(done, 100));
        await drawn();
        scroller.scrollTop = 0;
        await drawn();
        const place = scroller.scrollTop;
        for (let i = 10001; i <= 10500; i++) say(i);
        const undisturbed = scroller.scrollTop === place && !part("jump").hidden;
        const missed = part("jump").textContent;
        for (let i = 0; i < 120; i++) part("earlier").click();
        const first = texts()[0], most = part("log").children.length;
        part("jump").click();
        await drawn();
        const end = scroller.scrollHeight - scroller.clientHeight - scroller.scrollTop < 2;
        return [bounded, following, undisturbed, missed, first, most <= 400, texts().at(-1), part("jump").hidden, end];
    """) == [True, True, True, "Jump to latest · 500 new", "caption 1", True, "caption 10500", True, True]


def test_text_that_looks_like_markup(run) -> None:
    """Is shown as it was said."""
    assert run("""
        const { Transcript } = await load("transcript.js");
        const { Captions } = await load("captions.js");
        const part = (id) => document.getElementById(id);
        const transcript = new Transcript();
        const captions = new Captions({ scroller: part("captions"), log: part("log"), open: part("open"),
          earlier: part("earlier"), later: part("later"), jump: part("jump") }, transcript);
        const text = "<img src=x onerror=alert(1)> & <b>so on</b>";
        captions.show(transcript.apply({ type: "final", seq: 1, utterance: 1, start: 0, end: 1, text, language: "en",
          speaker: { id: "S2", name: "<i>Ada</i>", settled: true } }));
        return [part("log").querySelectorAll("img, b").length, part("log").querySelector(".text").textContent,
          part("log").querySelector(".name").textContent];
    """) == [0, "<img src=x onerror=alert(1)> & <b>so on</b>", "<i>Ada</i>"]
