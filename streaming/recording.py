"""Whose the voices of a whole recording are: all of it is known, so all of it is clustered at once. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from streaming.clustering import cluster, pair
from streaming.listening import LOCALS, Array
from streaming.turns import Turn, turns_of
from streaming.views import View, tally


@dataclass(frozen=True)
class RecordingSettings:
    """How a recording's voices become speakers. Times in seconds, similarities are cosines of voiceprints."""

    alike: float = 0.40  # mean similarity from which clusters are one speaker
    surely_alike: float = 0.60  # from here one speaker, though a window held them to be two
    clustered_s: float = 1.5  # of speech alone, from which a voiceprint takes part in the clustering
    named_s: float = 0.3  # of speech alone, from which a voice is compared with the speakers
    least_s: float = 2.0  # of speech alone, without which a cluster is no speaker
    most_prints: int = 1_000  # that are clustered; of a longer recording, evenly chosen
    shortest_s: float = 0.1  # of a turn
    gap_s: float = 0.25  # a pause up to this long does not end a turn


def attribute(
    views: Sequence[View],
    last: int,
    fewest: int = 1,
    most: int | None = None,
    settings: RecordingSettings | None = None,
) -> list[Turn]:
    """Names the voices of all views, which overlap and lie in order -> the turns of frames 0..last."""
    s = settings or RecordingSettings()
    centroids = _speakers(views, fewest, most, s)
    if len(centroids):
        for view in views:
            _name(view, centroids, s)
    turns = turns_of(tally(views, 0, last), True, s.shortest_s, s.gap_s)
    order = {speaker: number for number, speaker in enumerate(dict.fromkeys(t.speaker for t in turns), 1)}
    return [replace(turn, speaker=order[turn.speaker]) for turn in turns]


def _speakers(views: Sequence[View], fewest: int, most: int | None, s: RecordingSettings) -> Array:
    """[speakers, VOICEPRINT]: a unit vector for each."""
    prints = [(view, local) for view in views for local in view.heard() if view.clean[local] >= s.clustered_s]
    prints = prints or [(view, local) for view in views for local in view.heard() if view.clean[local] > 0]
    stride = -(-len(prints) // s.most_prints) if prints else 1
    kept = {id(view) for view, _ in prints[:: max(1, stride)]}
    prints = [(view, local) for view, local in prints if id(view) in kept]
    if not prints:
        return np.zeros((0, 0), np.float32)
    voiceprints = np.stack([view.voiceprints[local] for view, local in prints])
    seconds = np.array([view.clean[local] for view, local in prints], np.float32)
    apart = [
        (i, i + ahead)
        for i, (view, _) in enumerate(prints)
        for ahead in range(1, LOCALS)
        if i + ahead < len(prints)
        and prints[i + ahead][0] is view
        and float(voiceprints[i] @ voiceprints[i + ahead]) < s.surely_alike
    ]
    member = cluster(voiceprints, seconds, s.alike, apart, fewest, most)
    spread = len(kept) / max(1, views[-1].end - views[0].first) * len(views[0].active)  # looks at each frame
    sums = [
        (seconds[member == k, None] * voiceprints[member == k]).sum(axis=0) for k in range(member.max() + 1)
    ]
    total = [float(seconds[member == k].sum()) / max(1.0, spread) for k in range(len(sums))]
    order = sorted(range(len(sums)), key=lambda k: -total[k])
    chosen = [k for rank, k in enumerate(order) if rank < fewest or total[k] >= s.least_s]
    return np.stack([sums[k] / np.linalg.norm(sums[k]) for k in chosen]).astype(np.float32)


def _name(view: View, centroids: Array, s: RecordingSettings) -> None:
    """Each voice with speech enough gets the most similar speaker, no two the same."""
    similarity = np.asarray(view.voiceprints @ centroids.T, np.float32)
    known = [local for local in view.heard() if view.clean[local] >= s.named_s]
    if known:
        for local, column in zip(known, pair(similarity[known], [-1.0] * len(known)), strict=True):
            if column is not None:
                view.speakers[local], view.similarity[local] = column + 1, float(similarity[local, column])
