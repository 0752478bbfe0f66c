"""The small kernel under unicorn: only AArch64 programs, only files of one folder, crashes are reported."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bhpe_compile.artifact.toolchain import zig_cc
from bhpe_compile.errors import BhpeError, InputError
from bhpe_compile.targets import get_target

pytest.importorskip("unicorn")

from bhpe_compile.runtime.unicorn_linux import run_static


def build(folder: Path, code: str) -> None:
    """A static AArch64 program from C."""
    static = get_target("arm").zig_driver
    (folder / "p.c").write_text("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n" + code)
    zig_cc([*static, "-O2", "-s", "p.c", "-o", "p"], folder)


def test_arguments_files_and_stderr(tmp_path: Path) -> None:
    build(
        tmp_path,
        """int main(int argc, char **argv) {
             char line[100] = "";
             FILE *in = fopen(argv[1], "r"), *out = fopen(argv[2], "w");
             if (argc != 3 || !in || !out || !fgets(line, sizeof line, in)) return 1;
             fseek(in, -3, SEEK_END);
             fprintf(stderr, "%s %c %ld %.3f\\n", line, fgetc(in), ftell(in), strtod("2.5", 0) / 2);
             for (int i = 0; i < 100000; i++) fprintf(out, "%d\\n", i);
             puts("not shown");
             return fclose(in) || fclose(out) ? 1 : 0;
           }""",
    )
    (tmp_path / "in").write_text("hello world")
    assert run_static(tmp_path, "p", ["in", "out"]) == "hello world r 9 1.250\n"
    assert (tmp_path / "out").read_text() == "".join(f"{i}\n" for i in range(100_000))


def test_memory(tmp_path: Path) -> None:
    build(
        tmp_path,
        """int main(void) {
             unsigned long sum = 0;
             for (int round = 0; round < 20; round++) {
               for (size_t n = 1; n < 9000000; n = n * 3 + 1) {
                 unsigned char *p = calloc(n, 1), *q = malloc(n);
                 if (!p || !q || p[n - 1]) return 1;
                 memset(q, 1, n);
                 sum += q[n / 2];
                 free(p);
                 free(q);
               }
             }
             void *volatile huge = malloc((size_t)1 << 40);
             fprintf(stderr, "%lu %d", sum, huge == NULL);
             return 0;
           }""",
    )
    assert run_static(tmp_path, "p", []) == "300 1"


def test_files_outside_the_folder_are_closed(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret").write_text("secret")
    build(
        tmp_path / "inside",
        """int main(int argc, char **argv) {
             for (int i = 1; i < argc; i++) fputs(fopen(argv[i], "r") || fopen(argv[i], "w") ? "open " : "no ", stderr);
             return 0;
           }""",
    )
    names = ["../secret", str(tmp_path / "secret"), "/etc/passwd", "..", ".", "", "sub/x"]
    assert run_static(tmp_path / "inside", "p", names) == "no " * len(names)
    assert (tmp_path / "secret").read_text() == "secret"


def test_crash_is_an_error(tmp_path: Path) -> None:
    build(tmp_path, "int main(void) { *(volatile int *)8 = 1; return 0; }")
    with pytest.raises(BhpeError, match="crashed under unicorn"):
        run_static(tmp_path, "p", [])


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"MZ" + bytes(200), b"\x7fELF\2\1\1" + bytes(200)])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(content)
    with pytest.raises(InputError, match="not a static AArch64 program"):
        run_static(tmp_path, "p", [])


def test_program_for_this_host_is_refused(tmp_path: Path) -> None:
    shutil.copy("/bin/true", tmp_path / "p")
    with pytest.raises(InputError, match="not a static AArch64 program"):
        run_static(tmp_path, "p", [])
