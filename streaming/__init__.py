"""What live transcription is: frames, speech, windows, agreement, events. No I/O, no threads, no clocks."""
