"""The packet's side: capture, counting, detection, signatures, evidence, and the link to the intake."""

import os

# Tables here are small: OpenBLAS's threads would cost twenty times what they save, and take processors from others.
# Read when numpy is loaded; what is set outside stands.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
