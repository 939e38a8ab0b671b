"""Metrics: what is counted, under which names."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from daemon.metrics import Metrics
from streaming.events import Final, Gap, Latency, Partial, Revise, Speech


def test_events_are_counted() -> None:
    """By kind, with their latencies and the seconds that have no text."""
    metrics = Metrics()
    latency = Latency(audio_to_final_ms=400.0, decode_ms=30.0, queue_ms=5.0)
    metrics.observe(
        Final(seq=1, utterance=1, start=0, end=1, text="x", language="en", latency=latency),
    )
    metrics.observe(Partial(utterance=2, start=1, end=2, text="", tentative="y"))
    metrics.observe(Revise(seq=2, utterance=1, rev=1, text="z"))
    metrics.observe(Gap(seq=3, start=2.0, end=3.5, reason="suppressed:noise"))
    metrics.observe(Speech(state="start", time=0.0))
    value = metrics.registry.get_sample_value
    assert value("amanuensis_finals_total") == value("amanuensis_partials_total") == 1
    assert value("amanuensis_revisions_total") == 1
    assert value("amanuensis_gap_seconds_total", {"reason": "suppressed"}) == 1.5
    assert value("amanuensis_final_latency_seconds_sum") == 0.4


def test_the_exposition() -> None:
    """Is what Prometheus parses, every name begins with ours and every metric says what it is."""
    families = list(text_string_to_metric_families(Metrics().exposition().decode()))
    assert len(families) > 10
    for family in families:
        assert family.name.startswith("amanuensis_") and family.documentation


def test_two_daemons_in_a_process() -> None:
    """Count apart."""
    one, two = Metrics(), Metrics()
    one.opened.inc()
    assert two.registry.get_sample_value("amanuensis_sessions_opened_total") == 0
