"""The diarizer of a session: audio and looks at it in, turns of speakers out.

It knows no clock, runs no model and does no I/O; time is a count of samples. Whoever drives it calls `demand` after
every call, and when the machine has time takes `next_job`, has it performed and gives the answer back. Each job is a
look at the last ten seconds. The looks overlap: their majority decides who speaks when, voiceprints decide whose a
voice is, and what was decided may change until it settles.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from streaming.attention import Attention
from streaming.audio import Samples, Tape
from streaming.errors import StateError
from streaming.listening import (
    CONTEXT,
    FRAME,
    MOMENT,
    REACH,
    Heard,
    Job,
    Maps,
    first_frame,
    frame_of,
    frame_sample,
    speaking,
)
from streaming.roster import Roster, RosterSettings, Voice
from streaming.turns import Turn, frames, join, stretches, turns_of
from streaming.verdicts import Verdicts
from streaming.views import Tally, View, tally
from streaming.window import SAMPLE_RATE


@dataclass(frozen=True)
class DiarizerSettings:
    """How a session is listened to. Times in seconds."""

    window_s: float = 10.0  # of one look
    step_s: float = 0.5  # between looks while somebody speaks
    first_s: float = 0.6  # of speech after a pause before the first look
    tail_s: float = 0.4  # of quiet until speech has ended
    unsure_s: float = 0.25  # at the end of a look, where the next word would still change the answer
    advance_s: float = 4.0  # at most, by one look, when the machine is late
    kept_s: float = 20.0  # of audio; what was not listened to by then never is
    settle_after_s: float = 20.0  # after that a label does not change any more
    remember_every_s: float = 4.0  # between the looks whose voices are remembered
    shortest_s: float = 0.1  # of a turn
    gap_s: float = 0.25  # a pause up to this long does not end a turn
    changed_s: float = 0.25  # of the shortest change that is worth telling
    roster: RosterSettings = field(default_factory=RosterSettings)


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)


class Diarizer:
    """One stream of audio becoming turns of speakers. For one thread at a time."""

    def __init__(self, settings: DiarizerSettings | None = None, start: int = 0) -> None:
        self._settings = s = settings or DiarizerSettings()
        self._attention = Attention(start, _samples(s.step_s), _samples(s.first_s), _samples(s.tail_s))
        self._verdicts = Verdicts(start)
        self._tape = Tape(start)
        self._origin = (
            start  # no window reaches further back: the session or an audio after a hole begins here
        )
        self._maps: deque[Maps] = deque()
        self._views: deque[View] = deque()  # those that still have a say
        self._roster = Roster(s.roster)
        self._remembered = frame_of(start)  # voices were remembered up to this frame
        self._outstanding: Job | None = None
        self._finishing = False
        self._settled = frame_of(start)  # frames before it are settled
        self._turns: list[Turn] = []  # settled ones
        self._longest = 0  # samples of one of them
        self._open: list[Turn] = []  # those that may change
        self._shown = Tally(self._settled, {}, {})  # what was last known of the frames that may change
        self._shown_until = self._settled  # frame
        self._changes: list[tuple[int, int]] = []  # samples

    # traffic in

    def receive_audio(self, samples: Samples) -> None:
        """samples [n] that follow the last ones, 16 kHz, -1..1."""
        self._expect_audio("receive_audio")
        self._tape.append(samples)
        self._forget_audio()

    def receive_verdicts(self, verdicts: Sequence[bool]) -> None:
        """Speech or not for each 30 ms that follow the last ones; they may come a little after their audio."""
        self._expect_audio("receive_verdicts")
        self._verdicts.receive(verdicts)
        self._attention.receive_verdicts(verdicts)
        self._settle(self._attention.position - _samples(self._settings.settle_after_s))

    def skip(self, samples: int) -> None:
        """The next samples are missing: time moves on over them, nobody is known to speak."""
        self._expect_audio("skip")
        if samples <= _samples(self._settings.kept_s):
            self._tape.append(np.zeros(max(0, samples), np.float32))
            self._forget_audio()
        else:
            self._tape.skip(samples)
            self._origin = self._tape.end
            self._maps.clear()
            self._attention.forget(self._tape.end)
        self._verdicts.skip_to(self._tape.end)
        self._attention.skip_to(self._tape.end)
        self._settle(self._attention.position - _samples(self._settings.settle_after_s))

    def receive_heard(self, job: Job, heard: Heard) -> None:
        """The answer to the outstanding job."""
        if job is not self._outstanding:
            raise StateError("receive_heard: this is not the outstanding job.")
        self._outstanding = None
        if heard.maps is not None:
            self._maps.append(heard.maps)
        ended = self._finishing and job.end >= self._attention.position
        unsure = 0 if ended else _samples(self._settings.unsure_s)
        first = first_frame(job.start)
        usable = max(0, frame_of(job.end - unsure) - first)
        active = speaking(heard.activity)[:usable]
        view = View(first, active, heard.voiceprints, heard.clean, local=heard.local)
        self._attention.looked(job.end, job.end - unsure)
        self._consider(view)
        self._refresh()

    def receive_failure(self, job: Job) -> None:
        """The outstanding job could not be performed: what it would have told stays unknown."""
        if job is not self._outstanding:
            raise StateError("receive_failure: this is not the outstanding job.")
        self._outstanding = None
        self._attention.looked(job.end, job.end)

    def finish(self) -> None:
        """No more audio; `demand` goes on until all is decided, and then all is settled."""
        self._expect_audio("finish")
        self._finishing = True
        self._attention.skip_to(max(self._attention.position, self._tape.end))
        self._settle_if_finished()

    # traffic out

    def demand(self) -> int | None:
        """Sample index since which a job is due; None when nothing is to be done, or a job is out."""
        return None if self._outstanding is not None else self._due()

    def next_job(self) -> Job:
        """Takes the job that `demand` spoke of; it is outstanding until it is given back."""
        due = self.demand()
        if due is None:
            raise StateError("next_job: nothing is in demand.")
        furthest = self._attention.heard + _samples(self._settings.advance_s)
        end = min(self._tape.end, max(due, min(self._attention.reach(due), furthest)))
        start = max(self._origin, self._tape.start, end - _samples(self._settings.window_s))
        start += -start % FRAME
        fresh = self._fresh(start, end)
        maps = tuple(part for each in self._maps if (part := each.since(start)) is not None)
        self._outstanding = Job(start, self._tape.cut(start, end), fresh, maps, divide=True)
        return self._outstanding

    def turns(self, start: int, end: int) -> tuple[Turn, ...]:
        """The turns that overlap samples start..end, in order, as known now."""
        at = bisect_right(self._turns, start - self._longest, key=lambda turn: turn.start)
        near = [turn for turn in (*self._turns[at:], *self._open) if turn.start < end and turn.end > start]
        parts = [part for turn in near for part in self._verdicts.without_pauses(turn)]
        found = [part for part in parts if part.start < end and part.end > start]
        return tuple(sorted(found, key=lambda turn: (turn.start, turn.end, turn.speaker)))

    def take_changes(self) -> list[tuple[int, int]]:
        """The stretches, in samples, before `heard_until` whose labels changed since the last call."""
        changes, self._changes = self._changes, []
        return changes

    # facts

    @property
    def heard_until(self) -> int:
        """Who speaks before this sample is known, or will not be."""
        since = self._attention.speech_from()
        quiet = self._attention.position - _samples(self._settings.unsure_s)
        return max(self._attention.heard, quiet) if since is None else self._attention.heard

    @property
    def settled_until(self) -> int:
        """Labels before this sample will not change any more."""
        return frame_sample(self._settled)

    @property
    def changed(self) -> bool:
        """Whether there are changes to take."""
        return bool(self._changes)

    @property
    def speakers(self) -> Mapping[int, Voice]:
        """The voice of each speaker, as known so far."""
        return self._roster.voices

    @property
    def finished(self) -> bool:
        """No more audio comes, and all is decided."""
        return self._finishing and self._outstanding is None and self._due() is None

    # listening

    def _due(self) -> int | None:
        return self._attention.due(self._finishing)

    def _fresh(self, start: int, end: int) -> range:
        """The moments to be seen by the voiceprint network: new ones, from a little before speech began."""
        since = self._attention.speech_from() or 0
        known = self._maps[-1].first + len(self._maps[-1]) if self._maps else 0
        first = max(known, -(-start // MOMENT), (since - CONTEXT) // MOMENT)
        last = (end - REACH - (0 if self._finishing else CONTEXT)) // MOMENT
        return range(first, max(first, last))

    def _forget_audio(self) -> None:
        self._tape.forget(self._tape.end - _samples(self._settings.kept_s))
        self._attention.forget(self._tape.end - _samples(self._settings.kept_s))
        while self._maps and self._maps[0].first * MOMENT < self._tape.end - _samples(self._settings.kept_s):
            self._maps.popleft()

    # deciding

    def _consider(self, view: View) -> None:
        """Whose are the view's voices; and is there anything to learn from them."""
        self._roster.recognise(view, self._views[-1] if self._views else None)
        self._views.append(view)
        counted = self._roster.grow(view)
        for local in self._roster.strangers(view):
            self._roster.admit(view, local)
            counted.append(local)
        learnt = bool(counted)
        self._roster.guess(view)
        if (
            learnt
            or view.end - self._remembered >= frames(self._settings.remember_every_s)
            or self._finishing
        ):
            fresh = view.fresh_alone(self._remembered)
            fresh[counted] = 0.0  # each second counts once
            kept = self._roster.remember(view, fresh)
            self._remembered = view.end
            if kept or learnt:
                self._roster.review()
                learnt = True
        if learnt:
            self._recognise_anew()

    def _recognise_anew(self) -> None:
        before: View | None = None
        for view in self._views:
            self._roster.recognise(view, before)
            self._roster.guess(view)
            before = view

    def _refresh(self) -> None:
        """Counts the votes again, and notes what changed."""
        until = max(self._shown_until, frame_of(self._attention.heard))
        counted = tally(self._views, self._settled, until)
        self._note_changes(counted)
        self._shown, self._shown_until = counted, until
        self._show()
        self._settle_if_finished()

    def _show(self) -> None:
        s = self._settings
        self._open = turns_of(self._shown, False, s.shortest_s, s.gap_s)

    def _note_changes(self, counted: Tally) -> None:
        length = self._shown_until - self._settled
        nobody = np.zeros(length, bool)
        differ = nobody.copy()
        for speaker in counted.active.keys() | self._shown.active.keys():
            now, before = (each.active.get(speaker, nobody)[:length] for each in (counted, self._shown))
            differ |= now != before
        for start, end in stretches(differ, frames(self._settings.changed_s)):
            self._changes.append((frame_sample(self._settled + start), frame_sample(self._settled + end)))

    def _settle(self, before: int) -> None:
        """Labels before a sample are for good; in whole seconds, for it costs a little."""
        known = self._attention.position + FRAME if self.finished else self.heard_until
        until = frame_of(min(before, known))
        if until - self._settled < (1 if self.finished else frames(1.0)):
            return
        self._shown_until = max(self._shown_until, until)
        shown = self._shown.cut(self._settled, self._shown_until)
        cuts = (self.settled_until, frame_sample(until))  # what they cut may be part of a longer turn
        for turn in turns_of(shown.cut(self._settled, until), True, 0.0, self._settings.gap_s):
            long_enough = turn.end - turn.start >= _samples(self._settings.shortest_s)
            if long_enough or turn.start == cuts[0] or turn.end == cuts[1]:
                self._append(turn)
        self._shown = shown.cut(until, self._shown_until)
        self._settled = until
        while self._views and self._views[0].end <= until:
            self._views.popleft()
        self._show()

    def _append(self, turn: Turn) -> None:
        for index in range(len(self._turns) - 1, max(-1, len(self._turns) - 8), -1):
            joined = join(self._turns[index], turn, self._settings.gap_s)
            if joined is not None:
                self._turns[index] = turn = joined
                break
        else:
            self._turns.append(turn)
        self._longest = max(self._longest, turn.end - turn.start)

    def _settle_if_finished(self) -> None:
        if self.finished:
            self._settle(self._attention.position + FRAME)

    def _expect_audio(self, call: str) -> None:
        if self._finishing:
            raise StateError(f"{call}: the session has finished.")
