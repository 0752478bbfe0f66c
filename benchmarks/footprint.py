"""Loading an artefact in a fresh process: seconds to check and load it, resident memory after a run.

python benchmarks/footprint.py ARTEFACT
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main() -> None:
    """Print one JSON object."""
    import numpy as np

    from bhpe_compile.runtime import Model

    start = time.perf_counter()
    model = Model(Path(sys.argv[1]))
    load = time.perf_counter() - start
    model.run(np.zeros((1, 3, 512, 384), np.float32))
    resident = next(
        int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line
    )
    print(json.dumps({"load_ms": round(load * 1e3, 1), "resident_mb": round(resident / 1024, 1)}))


if __name__ == "__main__":
    main()
