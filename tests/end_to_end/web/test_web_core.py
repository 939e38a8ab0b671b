"""The page's modules that know no page: ring, transcript, connection. And the captions, with ten thousand of them."""

from __future__ import annotations

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
    ) == [["added", "none", "hole", "added", "added"], ["a", "b", "c"], 3]


def test_a_partial_that_comes_after_its_final(run) -> None:
    """Is not shown again; and a final closes what was open before it."""
    assert run(
        _SAID
        + """
        t.apply(partial(0, "a")); t.apply(partial(1, "b"));
        t.apply(final(1, 1, "b."));
        const late = t.apply(partial(1, "b")).kind;
        return [late, t.open.size, texts()];
    """
    ) == ["none", 0, ["b."]]


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
    ) == [{"kind": "changed", "index": 0}, "none", ["hello"], "S1", 4]


def test_a_snapshot(run) -> None:
    """Stands for everything up to its seq, keeps the gaps that were known, and goes on from there."""
    assert run(
        _SAID
        + """
        t.apply(final(1, 0, "a"));
        t.apply({ type: "gap", seq: 2, start: 1, end: 1.5, reason: "overload" });
        const line = (utterance, text) => ({ utterance, start: utterance, end: utterance + 1, text, language: "en" });
        t.apply({ type: "snapshot", session: "s", seq: 4, live: true, partial: partial(3, "d"),
                  utterances: [line(0, "a"), line(2, "c")] });
        t.apply(final(4, 2, "c"));
        t.apply(final(5, 3, "d"));
        return [texts(), t.open.size, t.seq, t.ended];
    """
    ) == [["a", "overload", "c", "d"], 0, 5, False]


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
          speaker: { id: "S2", settled: true } }));
        return [part("log").querySelectorAll("img, b").length, part("log").querySelector(".text").textContent];
    """) == [0, "Speaker 2 <img src=x onerror=alert(1)> & <b>so on</b>"]
