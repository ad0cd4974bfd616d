"""Commands that learn from the events of the deployment: risk, fit, models."""

import os

# The matrices of learning are a few columns wide. Threads of OpenBLAS gain nothing on them, and on a machine that has
# other things to do they spin while they wait for each other: four times the processor time was measured. OpenBLAS
# reads this when numpy is first imported, which the table of commands leaves to the command.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
