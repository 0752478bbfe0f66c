"""The command line: parses, calls the library, prints. Nothing is computed here, and nothing imports it.

One file a command. They import the rest of the package inside functions, so that `--help` answers at once.
"""

from bhpe_compile.processes import leave_working_folder

leave_working_folder()  # before the first import of another package
