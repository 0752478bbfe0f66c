"""`python -m bhpe_compile.cli`: the same as the installed `bhpe-compile`."""

from __future__ import annotations

import sys

from bhpe_compile.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
