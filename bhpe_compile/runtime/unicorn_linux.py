"""A static AArch64 Linux program in the unicorn CPU emulator: just enough of a kernel for the driver.

unicorn executes instructions; what a process expects around them is made here: its segments, a stack with
arguments and auxiliary vector, and some twenty system calls over files of one folder. The program can open nothing
outside that folder and has no network, no threads and no signals.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

from unicorn import UC_ARCH_ARM64, UC_HOOK_INTR, UC_MODE_ARM, Uc, UcError
from unicorn import arm64_const as arm

from bhpe_compile.errors import BhpeError, InputError

PAGE = 4096
BRK, BRK_SIZE = 0x2_0000_0000, 64 << 20
MAPS = 0x4_0000_0000
STACK_TOP, STACK_SIZE = 0x7_0000_0000, 1 << 20
MAP_LIMIT = 1 << 30
"""Largest single mapping; a damaged request must not eat the host's memory."""

PT_LOAD = 1
ELF_HEADER = 64
STATIC_AARCH64 = struct.pack("<HH", 2, 183)
"""The fields e_type and e_machine: ET_EXEC, EM_AARCH64."""

AT_PHDR, AT_PHENT, AT_PHNUM, AT_PAGESZ, AT_ENTRY, AT_HWCAP, AT_SECURE, AT_RANDOM = 3, 4, 5, 6, 9, 16, 23, 25

HWCAP = sum(1 << bit for bit in (0, 1, 8, 9, 10, 12, 20))
"""What Linux would report of the emulated CPU: fp, asimd, atomics, fphp, asimdhp, asimdrdm, asimddp."""

ARGUMENTS = tuple(getattr(arm, f"UC_ARM64_REG_X{i}") for i in range(6))


def _up(size: int) -> int:
    return -(-size // PAGE) * PAGE


class Process:
    """One program, from its ELF file to its exit. `unicorn` is the emulator, for hooks that count or trace."""

    def __init__(self, folder: Path, program: str, arguments: Sequence[str]) -> None:
        self._folder = folder
        self._files: dict[int, int] = {}  # the program's descriptors -> ours
        self._stderr = bytearray()
        self._brk, self._next_map = BRK, MAPS
        self._exited = False
        self._problem: BaseException | None = None
        self.unicorn = Uc(UC_ARCH_ARM64, UC_MODE_ARM)
        self.unicorn.reg_write(arm.UC_ARM64_REG_CPACR_EL1, 3 << 20)  # allow floating point and vectors
        self.unicorn.mem_map(BRK, BRK_SIZE)
        self.unicorn.mem_map(STACK_TOP - STACK_SIZE, STACK_SIZE)
        self.unicorn.hook_add(UC_HOOK_INTR, self._interrupt)
        auxiliary = self._load((folder / program).read_bytes())
        self._prepare_stack([program, *arguments], auxiliary)

    # ---- the start of a process ----

    def _load(self, image: bytes) -> list[tuple[int, int]]:
        """Map the segments and return the auxiliary vector."""
        if len(image) < ELF_HEADER or image[:5] != b"\x7fELF\x02" or image[16:20] != STATIC_AARCH64:
            raise InputError("the driver is not a static AArch64 program; compile the model again")
        entry, table = struct.unpack_from("<QQ", image, 24)
        entry_size, count = struct.unpack_from("<HH", image, 54)
        headers = [
            struct.unpack_from("<IIQQQQQQ", image, table + i * entry_size) for i in range(count)
        ]  # type, flags, offset, virtual, physical, bytes in the file, bytes in memory, alignment
        segments = [h for h in headers if h[0] == PT_LOAD]
        low = min(h[3] for h in segments) // PAGE * PAGE
        self.unicorn.mem_map(low, _up(max(h[3] + h[6] for h in segments) - low))
        for _, _, offset, address, _, filled, _, _ in segments:
            self.unicorn.mem_write(address, image[offset : offset + filled])
        self._entry = entry
        base = next(h[3] for h in segments if h[2] == 0)
        return [
            (AT_PHDR, base + table),
            (AT_PHENT, entry_size),
            (AT_PHNUM, count),
            (AT_PAGESZ, PAGE),
            (AT_ENTRY, entry),
            (AT_SECURE, 0),
            (AT_HWCAP, HWCAP),
        ]

    def _prepare_stack(self, words: Sequence[str], auxiliary: list[tuple[int, int]]) -> None:
        """Strings on top, then random bytes, then argc, argv, environment (empty) and auxiliary vector."""
        place = STACK_TOP - 16
        pointers = []
        for word in words:
            text = os.fsencode(word) + b"\0"
            place -= len(text)
            self.unicorn.mem_write(place, text)
            pointers.append(place)
        place = (place - 16) & ~15  # sixteen zero bytes stand for AT_RANDOM: runs are the same every time
        vector = [*auxiliary, (AT_RANDOM, place), (0, 0)]
        cells = [len(words), *pointers, 0, 0, *(cell for pair in vector for cell in pair)]
        place = (place - 8 * len(cells)) & ~15
        self.unicorn.mem_write(place, struct.pack(f"<{len(cells)}Q", *cells))
        self.unicorn.reg_write(arm.UC_ARM64_REG_SP, place)

    def run(self) -> str:
        """Execute until the program exits; returns what it wrote to stderr."""
        try:
            self.unicorn.emu_start(self._entry, 0)
        except UcError as error:
            counter = self.unicorn.reg_read(arm.UC_ARM64_REG_PC)
            raise BhpeError(f"the driver crashed under unicorn at {counter:#x}: {error}") from None
        finally:
            for descriptor in self._files.values():
                os.close(descriptor)
        if self._problem is not None:
            raise self._problem
        return self._stderr.decode("utf-8", errors="replace")

    # ---- system calls ----

    def _interrupt(self, unicorn: Uc, number: int, _: object) -> None:
        """`svc #0`: register x8 has the call, x0 to x5 its arguments, x0 takes the result or -errno."""
        call = unicorn.reg_read(arm.UC_ARM64_REG_X8)
        handler = SYSTEM_CALLS.get(call)
        values = [unicorn.reg_read(register) for register in ARGUMENTS]
        try:
            result = handler(self, *values) if handler is not None else -errno.ENOSYS
        except OSError as error:
            result = -(error.errno or errno.EIO)
        except UcError:
            result = -errno.EFAULT
        except KeyboardInterrupt as error:  # must not cross the C frames of unicorn
            self._problem = error
            unicorn.emu_stop()
            return
        if self._exited:
            unicorn.emu_stop()
        else:
            unicorn.reg_write(arm.UC_ARM64_REG_X0, result & 0xFFFF_FFFF_FFFF_FFFF)

    def _exit(self, *_: int) -> int:
        self._exited = True
        return 0

    def _nothing(self, *_: int) -> int:
        return 0

    def _thread_id(self, *_: int) -> int:
        return 1

    def _openat(self, _: int, path: int, flags: int, mode: int, *__: int) -> int:
        text = bytearray()
        while not text.endswith(b"\0"):
            text += self.unicorn.mem_read(path + len(text), 1)
        name = os.fsdecode(bytes(text[:-1]))
        if "/" in name or name in ("", ".", ".."):
            return -errno.EACCES
        # access mode, O_CREAT and O_TRUNC have the same values on every Linux we run on
        ours = os.open(self._folder / name, flags & (os.O_ACCMODE | os.O_CREAT | os.O_TRUNC), mode & 0o666)
        theirs = 3 + len(self._files)
        while theirs in self._files:
            theirs += 1
        self._files[theirs] = ours
        return theirs

    def _descriptor(self, theirs: int) -> int:
        if theirs not in self._files:
            raise OSError(errno.EBADF, "bad descriptor")
        return self._files[theirs]

    def _close(self, theirs: int, *_: int) -> int:
        os.close(self._descriptor(theirs))
        del self._files[theirs]
        return 0

    def _vectors(self, address: int, count: int) -> list[tuple[int, int]]:
        return [struct.unpack("<QQ", self.unicorn.mem_read(address + 16 * i, 16)) for i in range(count)]

    def _read(self, theirs: int, address: int, size: int, *_: int) -> int:
        data = os.read(self._descriptor(theirs), size)
        self.unicorn.mem_write(address, data)
        return len(data)

    def _readv(self, theirs: int, address: int, count: int, *_: int) -> int:
        total = 0
        for place, size in self._vectors(address, count):
            got = self._read(theirs, place, size) if size else 0
            total += got
            if got < size:
                break
        return total

    def _write(self, theirs: int, address: int, size: int, *_: int) -> int:
        data = bytes(self.unicorn.mem_read(address, size)) if size else b""
        if theirs in (1, 2):
            self._stderr += data if theirs == 2 else b""
            return size
        return os.write(self._descriptor(theirs), data)

    def _writev(self, theirs: int, address: int, count: int, *_: int) -> int:
        return sum(self._write(theirs, place, size) for place, size in self._vectors(address, count))

    def _lseek(self, theirs: int, offset: int, whence: int, *_: int) -> int:
        signed = offset - (1 << 64) if offset >> 63 else offset
        return os.lseek(self._descriptor(theirs), signed, whence)

    def _fstat(self, theirs: int, address: int, *_: int) -> int:
        status = os.fstat(self._descriptor(theirs))
        # struct stat of AArch64: dev ino mode nlink uid gid rdev pad size blksize pad blocks, then times
        record = struct.pack("<QQIIIIQQqiiq", 0, 1, status.st_mode, 1, 0, 0, 0, 0, status.st_size, PAGE, 0, 0)
        self.unicorn.mem_write(address, record.ljust(128, b"\0"))
        return 0

    def _fstatat(self, theirs: int, path: int, address: int, *_: int) -> int:
        """musl asks for the status of a descriptor as newfstatat(fd, "", ..., AT_EMPTY_PATH)."""
        if self.unicorn.mem_read(path, 1) != b"\0":
            return -errno.EACCES
        return self._fstat(theirs, address)

    def _set_brk(self, address: int, *_: int) -> int:
        if BRK <= address <= BRK + BRK_SIZE:
            self._brk = address
        return self._brk

    def _mmap(self, _: int, size: int, __: int, flags: int, theirs: int, offset: int) -> int:
        if not 0 < size <= MAP_LIMIT:
            return -errno.ENOMEM
        address = self._next_map
        self.unicorn.mem_map(address, _up(size))
        self._next_map += _up(size) + PAGE  # a page between two mappings catches overruns
        if not flags & 0x20:  # MAP_ANONYMOUS; a file is copied, which is what MAP_PRIVATE shows
            self.unicorn.mem_write(address, os.pread(self._descriptor(theirs), size, offset))
        return address

    def _munmap(self, address: int, size: int, *_: int) -> int:
        self.unicorn.mem_unmap(address, _up(size))
        return 0


Handler = Callable[..., int]

SYSTEM_CALLS: dict[int, Handler] = {
    25: Process._nothing,  # fcntl
    29: lambda *_: -errno.ENOTTY,  # ioctl: nothing is a terminal
    56: Process._openat,
    57: Process._close,
    62: Process._lseek,
    63: Process._read,
    64: Process._write,
    65: Process._readv,
    66: Process._writev,
    79: Process._fstatat,
    80: Process._fstat,
    93: Process._exit,
    94: Process._exit,  # exit_group
    96: Process._thread_id,  # set_tid_address
    113: Process._nothing,  # clock_gettime: time stands still
    135: Process._nothing,  # rt_sigprocmask
    178: Process._thread_id,  # gettid
    214: Process._set_brk,
    215: Process._munmap,
    222: Process._mmap,
    226: Process._nothing,  # mprotect
    233: Process._nothing,  # madvise
}
"""Numbers of the AArch64 system call table."""


def run_static(folder: Path, program: str, arguments: Sequence[str]) -> str:
    """Run folder/program; returns its stderr. BhpeError when it crashes, InputError when it is no such program."""
    return Process(folder, program, arguments).run()
