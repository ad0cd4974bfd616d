"""Benchmarks of this machine; docs/benchmarks.md tells what each measures."""

import os
from typing import Final

ONE_THREAD: Final = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""What libraries under numpy read when it is first imported, which is after this."""

# The matrices here are narrow. Threads of a BLAS gain nothing on them, and while something else runs they spin as they
# wait for each other, which is then measured: four times the processor time. Processes that are timed inherit this.
for _name in ONE_THREAD:
    os.environ.setdefault(_name, "1")
