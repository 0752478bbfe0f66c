"""Looking into the compiler: graphs as text after any pass, stopping there, one pass on a file."""

from bhpe_compile.check.inspect.dumper import Dumper, Stopped

__all__ = ["Dumper", "Stopped"]
