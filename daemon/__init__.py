"""Everything that waits or lives: configuration, service, capture, sockets, HTTP, scheduler, hub, journal, command."""

import os

# Before NumPy is imported: its matrix library would keep a thread spinning on every core between small products,
# four times what the voices themselves cost. Our work is spread over sessions, not over one product.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
