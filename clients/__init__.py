"""Programs that talk to the daemon over its protocol."""
