"""Windows decoded as they are to be, and again at other temperatures where what came out is not plausible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from npu.beam import Beam, beam_search
from npu.decoding import Decoding, Rules, decode, decode_together
from npu.model import Backend, Batch, Cache
from npu.opening import Opened
from npu.plausibility import DENSITY, Thresholds, judged


@dataclass(frozen=True, eq=False)
class Attempt:
    """What is to be decoded."""

    opened: Opened
    rules: Rules  # their temperature is of no account
    forced: tuple[int, ...] = ()
    draft: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came out."""

    decoding: Decoding
    doubt: str | None = None  # why its words are to be withheld
    again: bool = False  # another temperature may find better words
    temperature: float = 0.0


class Decoder:
    """Decodes windows over a backend, one or several."""

    def __init__(
        self, backend: Backend, spelled: Callable[[Sequence[int]], str], thresholds: Thresholds | None
    ) -> None:
        """spelled: what tokens spell. thresholds: what is plausible; None: all of it is."""
        self._backend = backend
        self._spelled = spelled
        self._thresholds = thresholds

    def at_once(self, attempt: Attempt, timed: bool) -> Outcome:
        """The most probable tokens, and no others if they are not plausible; they may fill their room."""
        unsure = self._thresholds is not None and attempt.opened.silence > self._thresholds.silence
        decoding = self._alone(attempt, attempt.rules, timed or unsure, timed)
        outcome = self._judged(attempt, decoding, 0.0)
        return replace(outcome, doubt=None) if outcome.doubt == DENSITY else outcome

    def at_leisure(
        self, attempts: Sequence[Attempt], beam: Beam, temperature: float | None, timed: bool
    ) -> list[Outcome]:
        """Each with a beam, if it is wider than one, and where no temperature is given, at those above 0 as well.

        Several are decoded in lockstep; their caches then hold all of the opening but its last token.
        """
        ladder: tuple[float, ...] = (temperature or 0.0,)
        if temperature is None and self._thresholds is not None:
            ladder = self._thresholds.temperatures
        tried: list[list[Outcome]] = [[] for _ in attempts]
        left = list(range(len(attempts)))
        for step in ladder:
            chosen = [attempts[i] for i in left]
            decodings = self._decoded(chosen, beam, step, timed)
            for i, attempt, decoding in zip(left, chosen, decodings, strict=True):
                tried[i].append(self._judged(attempt, decoding, step))
            left = [i for i in left if tried[i][-1].again]
            if not left:
                break
        found = [_best(each) for each in tried]
        if timed and beam.width > 1:
            found = [self._with_attention(*each) for each in zip(attempts, found, strict=True)]
        return found

    def _decoded(
        self, attempts: Sequence[Attempt], beam: Beam, temperature: float, timed: bool
    ) -> list[Decoding]:
        rules = [replace(attempt.rules, temperature=temperature) for attempt in attempts]
        scored = timed or self._thresholds is not None
        if beam.width > 1 and not temperature:
            forced = [attempt.forced for attempt in attempts]
            return beam_search(self._batch(attempts, False), rules, beam, forced)
        if len(attempts) == 1 or any(attempt.forced for attempt in attempts):
            return [self._alone(*each, scored, timed) for each in zip(attempts, rules, strict=True)]
        return decode_together(self._batch(attempts, timed), rules, scored, timed)

    def _alone(self, attempt: Attempt, rules: Rules, scored: bool, attended: bool) -> Decoding:
        cache = attempt.opened.cache
        cache.truncate(attempt.opened.held)
        return decode(self._backend, cache, rules, attempt.forced, attempt.draft, scored, attended)

    def _batch(self, attempts: Sequence[Attempt], attended: bool) -> Batch:
        """Of decodings that have been fed all but the last token they are to begin with."""
        starts = [attempt.opened.cache for attempt in attempts]
        behind: list[Cache] = []
        rests: list[tuple[int, ...]] = []
        for attempt, cache in zip(attempts, starts, strict=True):
            cache.truncate(attempt.opened.held)
            if rest := (*attempt.opened.opening, *attempt.forced)[cache.length : -1]:
                behind.append(cache)
                rests.append(rest)
        if behind:
            self._backend.extend_all(behind, rests)
        return self._backend.together(starts, attended)

    def _judged(self, attempt: Attempt, decoding: Decoding, temperature: float) -> Outcome:
        if self._thresholds is None:
            return Outcome(decoding, temperature=temperature)
        text = self._spelled(decoding.tokens)
        judgement = judged(decoding, text, attempt.opened.silence, self._thresholds)
        return Outcome(decoding, judgement.doubt, judgement.again, temperature)

    def _with_attention(self, attempt: Attempt, outcome: Outcome) -> Outcome:
        """One more pass over all tokens: beams do not keep it."""
        whole = replace(attempt, forced=outcome.decoding.tokens, draft=())
        seen = self._alone(whole, replace(attempt.rules, most=0), True, True)
        return replace(outcome, decoding=seen)


def _best(tried: Sequence[Outcome]) -> Outcome:
    """The first that is plausible, else the most probable whose words need not be withheld, else the last."""
    if not tried[-1].again:
        return tried[-1]
    sound = [outcome for outcome in tried if outcome.doubt is None]
    return max(sound, key=lambda outcome: outcome.decoding.mean_log_prob, default=tried[-1])
