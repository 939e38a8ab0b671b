"""Microphones of this machine, through PortAudio: the only module that imports sounddevice.

The daemon's capture (daemon/capture.py) opens its devices with `MicrophoneStream` as well.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import threading
from collections import deque
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from streaming.errors import CaptureError

PORTAUDIO_MISSING = (
    "PortAudio, the library behind microphones, is not installed. Install it: apt install libportaudio2"
)
QUEUE_S = (
    10.0  # blocks waiting for a slow reader; when it is full the oldest is dropped and counted in `lost`
)
FIRST_S = 5.0  # a device that was opened and has delivered nothing for so long is broken
STALL_S = 1.0  # a device that has delivered, and then nothing for so long, is gone

CLOSE_S = 2.0  # closing a device takes some tens of milliseconds, or for ever

_library_lock = threading.Lock()  # PortAudio may not be initialised from two threads at once
_open_streams = 0  # guarded by _library_lock; re-initialising PortAudio would kill them


@dataclass(frozen=True)
class Microphone:
    """One input device."""

    name: str
    index: int  # PortAudio's, valid until the next rescan
    channels: int  # at most
    default_rate: float  # Hz
    is_default: bool


def list_microphones() -> list[Microphone]:
    """All input devices known since the last scan; CaptureError when PortAudio is missing."""
    sounddevice = _sounddevice()
    with _library_lock:
        try:
            devices = sounddevice.query_devices()
            default = sounddevice.default.device[0]
        except sounddevice.PortAudioError as error:
            raise CaptureError(f"PortAudio cannot list the microphones: {error}.") from error
    return [
        Microphone(
            name=str(device["name"]),
            index=index,
            channels=int(device["max_input_channels"]),
            default_rate=float(device["default_samplerate"]),
            is_default=index == default,
        )
        for index, device in enumerate(devices)
        if device["max_input_channels"] > 0
    ]


def rescan() -> bool:
    """Looks for devices plugged in since the start; False, and nothing done, while one is open or left behind.

    PortAudio takes its list when it is initialised, and initialising it again closes every open stream.
    """
    sounddevice = _sounddevice()
    with _library_lock:
        if _open_streams:
            return False
        sounddevice._terminate()
        sounddevice._initialize()
        return True


def find_microphone(device: str | None) -> Microphone:
    """The microphone of that name, number or part of a name; None is the default one.

    CaptureError lists what there is.
    """
    microphones = list_microphones()
    if not microphones:
        raise CaptureError(
            "This machine has no microphone. Plug one in, or transcribe a recording: amanuensis stream FILE"
        )
    if device is None:
        return next((microphone for microphone in microphones if microphone.is_default), microphones[0])
    wanted = device.strip().lower()
    exact = [m for m in microphones if m.name.lower() == wanted or str(m.index) == wanted]
    partly = [m for m in microphones if wanted in m.name.lower()]
    if exact or partly:
        return (exact or partly)[0]
    names = ", ".join(f"“{microphone.name}”" for microphone in microphones)
    raise CaptureError(f"No microphone is called “{device}”. There are: {names}.")


class MicrophoneStream:
    """An open microphone: an async iterator of float32 blocks [n], mono, -1..1, at `rate`.

    The device is opened on entering and closed on leaving. `rate` and `name` say what was opened: a device
    that cannot be read at the wanted rate is read at its own. CaptureError when it cannot be opened or goes
    away while it is read. PortAudio's thread fills a queue of QUEUE_S seconds; when that is full the oldest
    block goes, and `lost` (samples, since the start) grows by its length.
    """

    def __init__(self, device: str | None = None, rate: int = 16_000, block_s: float = 0.05) -> None:
        self.name = device or "default"
        self.rate = rate  # Hz
        self.lost = 0  # samples dropped because the reader was slow
        self.overflows = 0  # times PortAudio itself lost input; it does not say how much
        self._device = device
        self._block_s = block_s
        self._blocks: deque[NDArray[np.float32]] = deque()
        self._capacity = max(2, round(QUEUE_S / block_s))  # blocks
        self._ended = False
        self._delivering = False  # at least one block was read
        self._stream: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._filled = asyncio.Event()

    def __enter__(self) -> Self:
        """Opens the device. Blocks for some tens of milliseconds: in a loop, use `async with`."""
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(asyncio.to_thread(self.close))

    def __aiter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        return self

    async def __anext__(self) -> NDArray[np.float32]:
        while not self._blocks:
            if self._stream is None:
                raise StopAsyncIteration
            if self._ended:
                raise CaptureError(self._gone())
            self._filled.clear()
            if self._blocks or self._ended:  # came in between the look and the clearing
                continue
            try:
                async with asyncio.timeout(STALL_S if self._delivering else FIRST_S):
                    await self._filled.wait()
            except TimeoutError as error:
                raise CaptureError(self._gone()) from error
        self._delivering = True
        return self._blocks.popleft()

    def close(self) -> None:
        """Closes the device within CLOSE_S; blocks already read can still be taken.

        PortAudio may wait for ever for a device that was pulled out. It is then left behind, open.
        """
        global _open_streams
        stream, self._stream = self._stream, None
        if stream is None:
            return
        with _library_lock:
            closing = threading.Thread(
                target=stream.close, args=(True,), daemon=True, name="close microphone"
            )
            closing.start()
            closing.join(CLOSE_S)
            if closing.is_alive():
                _leave_behind()
            else:
                _open_streams -= 1
        self._wake()

    def _open(self) -> None:
        global _open_streams
        sounddevice = _sounddevice()
        microphone = find_microphone(self._device)
        self.name = microphone.name
        first_error: Exception | None = None
        with _library_lock:
            for rate, channels in self._ways(microphone):
                try:
                    self._stream = sounddevice.InputStream(
                        samplerate=rate,
                        blocksize=round(rate * self._block_s),
                        device=microphone.index,
                        channels=channels,
                        dtype="float32",
                        callback=self._receive,
                        finished_callback=self._finish,
                    )
                    self._stream.start()
                except sounddevice.PortAudioError as error:
                    first_error = first_error or error
                    continue
                self.rate = rate
                _open_streams += 1
                return
        self._stream = None
        raise CaptureError(
            f"The microphone “{microphone.name}” cannot be opened: {first_error}. "
            "Close the program that uses it, or choose another one: amanuensis devices"
        ) from first_error

    def _ways(self, microphone: Microphone) -> list[tuple[int, int]]:
        """Rates and channel counts to try, best first: raw hardware devices offer only their own."""
        own_rate, own_channels = round(microphone.default_rate), min(microphone.channels, 2)
        ways = [(self.rate, 1), (own_rate, 1), (self.rate, own_channels), (own_rate, own_channels)]
        return list(dict.fromkeys(ways))

    def _receive(self, data: NDArray[np.float32], frames: int, time: Any, status: Any) -> None:
        """On PortAudio's thread: must neither block nor raise."""
        if status.input_overflow:
            self.overflows += 1
        block = data.mean(axis=1) if data.shape[1] > 1 else data[:, 0].copy()  # [frames]
        if len(self._blocks) >= self._capacity:
            self.lost += len(self._blocks.popleft())
        self._blocks.append(block)
        self._wake()

    def _finish(self) -> None:
        """On PortAudio's thread, when the stream has ended for whatever reason."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._filled.set)

    def _gone(self) -> str:
        return f"The microphone “{self.name}” has gone away. Plug it in again and see: amanuensis devices"


def _sounddevice() -> ModuleType:
    """The library, imported on first use: it looks for PortAudio, and asks all sound drivers, on import."""
    with _library_lock:
        _hush_alsa()
        try:
            import sounddevice
        except OSError as error:
            raise CaptureError(PORTAUDIO_MISSING) from error
        except Exception as error:  # its own PortAudioError, which cannot be named before it is imported
            raise CaptureError(f"PortAudio cannot be started: {error}.") from error
    module: ModuleType = sounddevice
    return module


def _leave_behind() -> None:
    """Closing hangs: at the end of the process PortAudio must not be asked to do it once more."""
    import sounddevice

    atexit.unregister(sounddevice._exit_handler)


_AlsaErrorHandler = ctypes.CFUNCTYPE(
    None, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p
)


def _ignore_alsa_error(file: bytes, line: int, function: bytes, code: int, text: bytes) -> None:
    """ALSA writes to standard error about every device configured but absent; PortAudio's error is enough."""


_alsa_error_handler = _AlsaErrorHandler(_ignore_alsa_error)  # must live as long as the library


def _hush_alsa() -> None:
    try:
        ctypes.CDLL("libasound.so.2").snd_lib_error_set_handler(_alsa_error_handler)
    except OSError:
        return  # no ALSA on this machine, nothing to hush
