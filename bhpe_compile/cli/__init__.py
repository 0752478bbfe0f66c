"""The command line: parses, calls the library, prints. Nothing is computed here, and nothing imports it.

One file a command. They import the rest of the package inside functions, so that `--help` answers at once.
"""
