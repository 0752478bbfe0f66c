"""Boards on this machine: an ssh server, and TVM's RPC tracker with a device."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from bhpe_compile.processes import python_command

KEY = "board-under-test"
BOARD = "board"
"""The name of the ssh server in its configuration."""


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


ARM_PYTHON = "BHPE_ARM_PYTHON"
"""Environment variable: the program that scripts/arm-python made, a Python for AArch64 with TVM under qemu."""

AS_ITSELF = """
import runpy, sys
sys.executable = {0!r}
del sys.argv[0]
runpy.run_module(sys.argv[0], None, "__main__", alter_sys=True)
"""
"""Runs a module in a Python whose workers are started by the same program."""


@pytest.fixture(scope="module")
def tracker() -> Iterator[str]:
    """host:port of a tracker that knows one device, this machine."""
    yield from tracked(python_command("-m"), {})


@pytest.fixture(scope="module")
def arm_tracker() -> Iterator[str]:
    """host:port of a tracker whose device runs under qemu-aarch64."""
    python = os.environ.get(ARM_PYTHON)
    if python is None:
        pytest.skip(f"{ARM_PYTHON} is not set; scripts/arm-python says how")
    runner = shutil.which("qemu-aarch64")
    assert runner is not None
    yield from tracked([python, "-c", AS_ITSELF.format(python)], {"BHPE_RUNNER": runner})


def tracked(python: list[str], environment: dict[str, str]) -> Iterator[str]:
    """host:port of a tracker with one device, whose server `python` runs; each process group is ended afterwards."""
    for package in ("tornado", "cloudpickle"):
        if find_spec(package) is None:
            pytest.skip(f"the package {package} runs TVM's tracker")
    port = free_port()
    address = f"127.0.0.1:{port}"
    here = python_command("-m", "tvm.exec.rpc_tracker", "--host", "127.0.0.1", "--port", str(port))
    there = [*python, "tvm.exec.rpc_server", "--host", "127.0.0.1", "--tracker", address, "--key", KEY]
    processes = []
    # TVM imports torch where it can and needs it nowhere
    without = tempfile.TemporaryDirectory(prefix="no-torch-")
    (Path(without.name) / "torch.py").write_text("raise ImportError\n")
    environment = {"PYTHONPATH": without.name} | environment
    try:
        for command in ([*here, "--port-end", str(port + 1)], there):
            processes.append(
                subprocess.Popen(
                    command,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    env=os.environ | environment,
                )
            )
        wait_for(address)
        yield address
    finally:
        for process in processes:  # workers of theirs outlive the first signal
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        without.cleanup()


def wait_for(address: str) -> None:
    """Until the device is registered, at most five minutes (under qemu; else it takes seconds)."""
    from tvm import rpc

    host, port = address.split(":")
    for _ in range(600):
        try:
            if KEY in rpc.connect_tracker(host, int(port)).summary()["queue_info"]:
                return
        except (OSError, RuntimeError):
            pass
        time.sleep(0.5)  # the interval of asking
    pytest.fail("the RPC server did not register")


@pytest.fixture(scope="module")
def ssh_config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """ssh's configuration for a server of this machine, by the name of `BOARD`, with a key of its own."""
    server = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if server is None or shutil.which("ssh") is None:
        pytest.skip("sshd is not installed (Debian package openssh-server)")
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("host", "user"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(words, check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    port = free_port()
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile {folder}/pid\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nPasswordAuthentication no\n"
    )
    (folder / "known").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    config = folder / "config"
    config.write_text(
        f"Host {BOARD}\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n"
        f"  IdentityFile {folder}/user\n  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known\n"
        f"Host stranger\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile /nowhere\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where a server that root starts wants to be
    process = subprocess.Popen(
        [server, "-D", "-e", "-f", folder / "sshd_config"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        listens(port, process)
        yield config
    finally:
        process.terminate()
        process.communicate()


def listens(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until something listens, at most ten seconds."""
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None:
                assert process.stderr is not None
                pytest.fail(f"sshd ended: {process.stderr.read().decode()}")
            time.sleep(0.1)  # the interval of asking
    pytest.fail("sshd does not listen")
