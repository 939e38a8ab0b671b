"""Everything that waits or lives: sockets, HTTP, microphones, scheduler, journal, the command."""
