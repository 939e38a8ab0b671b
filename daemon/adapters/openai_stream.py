"""`stream=true` of OpenAI's transcriptions: the text as it is decoded, as Server-Sent Events.

https://platform.openai.com/docs/api-reference/audio/transcript-text-delta-event and those beside it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from daemon.adapters.openai_answers import speaker_segments, token_usage
from daemon.event_stream import STILL_HERE, event, within_patience
from daemon.refusals import refusal
from daemon.work import Work
from npu.transcripts import Transcript
from streaming.errors import AmanuensisError, BadMessage


class TextStream:
    """What is said of one work, which has just been submitted. The deltas, joined, are the text."""

    def __init__(self, work: Work) -> None:
        self._work = work
        # A text at a time, and none at the end. Bounded by the longest recording taken: an hour of speech is some
        # 60 kB.
        self._queue: asyncio.Queue[tuple[str, ...]] = asyncio.Queue()
        self._begun = False
        if not work.asked.speakers:
            work.on_said = lambda final: self._queue.put_nowait((final.text,))
        work.on_end = lambda: self._queue.put_nowait(())

    async def events(self) -> AsyncGenerator[str, None]:
        """Deltas as the text comes; where speakers are told apart, which takes all of it, everything in the end."""
        while (texts := await within_patience(self._queue.get)) != ():
            yield STILL_HERE if texts is None else _frame(self._delta(texts[0]))
        try:
            transcript = self._work.result()
        except AmanuensisError as error:
            answer = refusal(error, error.param if isinstance(error, BadMessage) else None)
            yield event(bytes(answer.body).decode(), "error")
            return
        for each in self._last(transcript):
            yield _frame(each)

    def _last(self, transcript: Transcript) -> Iterator[dict[str, Any]]:
        if self._work.asked.speakers:
            for segment in speaker_segments(transcript):
                yield {**self._delta(segment["text"]), "segment_id": segment["id"]}
                yield segment
        yield {
            "type": "transcript.text.done",
            "text": transcript.text,
            "usage": token_usage(transcript, self._work.output_tokens),
        }

    def _delta(self, text: str) -> dict[str, Any]:
        space, self._begun = " " if self._begun else "", True
        return {"type": "transcript.text.delta", "delta": space + text}


def _frame(body: dict[str, Any]) -> str:
    return event(json.dumps(body, ensure_ascii=False), body["type"])
