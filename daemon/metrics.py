"""What the daemon counts, for Prometheus. Names begin with `amanuensis_`; times are in seconds."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from streaming.events import Event, Final, Gap, Partial, Revise

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LATENCY_S = (0.1, 0.2, 0.3, 0.45, 0.6, 0.7, 0.85, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
_DECODE_S = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5)
_JOURNAL_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0)


class Metrics:
    """All counters of one daemon, in a registry of its own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """registry: where they are registered; a fresh one by default, so that daemons can share a process."""
        self.registry = registry = registry if registry is not None else CollectorRegistry()
        self.sessions = Gauge("amanuensis_sessions", "Live sessions", registry=registry)
        self.capacity = Gauge("amanuensis_capacity", "Sessions this machine can follow", registry=registry)
        self.viewers = Gauge("amanuensis_viewers", "Viewers of all sessions", registry=registry)
        self.queue = Gauge("amanuensis_queue_windows", "Windows that wait for a worker", registry=registry)
        self.backlog = Gauge(
            "amanuensis_backlog_seconds", "Received but undecided speech of all sessions", registry=registry
        )
        self.lag = Gauge(
            "amanuensis_lag_seconds", "How long the oldest waiting window has been due", registry=registry
        )
        self.utilisation = Gauge(
            "amanuensis_engine_utilisation_ratio",
            "Share of the workers' time in use, 0..1",
            registry=registry,
        )
        self.opened = Counter("amanuensis_sessions_opened", "Sessions opened", registry=registry)
        self.refused = Counter(
            "amanuensis_refusals", "Connections and requests refused", ["code"], registry=registry
        )
        self.finals = Counter("amanuensis_finals", "Finals published", registry=registry)
        self.partials = Counter("amanuensis_partials", "Partials published", registry=registry)
        self.revisions = Counter("amanuensis_revisions", "Revisions published", registry=registry)
        self.gaps = Counter(
            "amanuensis_gap_seconds", "Audio without text, by reason", ["reason"], registry=registry
        )
        self.audio = Counter("amanuensis_audio_seconds", "Audio received", registry=registry)
        self.slow_viewers = Counter(
            "amanuensis_slow_viewers", "Viewers cut off because they read too slowly", registry=registry
        )
        self.decode = Histogram(
            "amanuensis_decode_seconds", "A window in the model", buckets=_DECODE_S, registry=registry
        )
        self.latency = Histogram(
            "amanuensis_final_latency_seconds",
            "From the arrival of the last sample of speech to its final",
            buckets=_LATENCY_S,
            registry=registry,
        )
        self.queue_wait = Histogram(
            "amanuensis_queue_wait_seconds",
            "From when a final's window was due to its decoding",
            buckets=_LATENCY_S,
            registry=registry,
        )
        self.journal = Histogram(
            "amanuensis_journal_commit_seconds",
            "A transaction of the journal",
            buckets=_JOURNAL_S,
            registry=registry,
        )

    def observe(self, event: Event) -> None:
        """Counts an event that has been published."""
        match event:
            case Final(latency=latency):
                self.finals.inc()
                if latency is not None:
                    self.latency.observe(latency.audio_to_final_ms / 1e3)
                    self.queue_wait.observe(latency.queue_ms / 1e3)
            case Partial():
                self.partials.inc()
            case Revise():
                self.revisions.inc()
            case Gap():
                self.gaps.labels(event.reason.partition(":")[0]).inc(max(event.end - event.start, 0.0))
            case _:
                pass

    def exposition(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
