"""The server of a page: loopback alone, the files of the page alone, under a strict policy."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bhpe_compile.artifact.web import SOURCES
from bhpe_compile.runtime.serve import LOOPBACK, POLICY, SiteServer
from tests.command import COMMAND, environment, inside
from tests.examples import Compiled

SITE = {"index.html": b"<!doctype html>", "model.wasm": b"\0asm", "page.js": b"1"}


@pytest.fixture(scope="module")
def server() -> Iterator[SiteServer]:
    with SiteServer(SITE, 0) as one:
        thread = threading.Thread(target=one.serve_forever)
        thread.start()
        yield one
        one.shutdown()
        thread.join()


def ask(
    server: SiteServer, path: str, method: str = "GET", host: str | None = None
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(LOOPBACK, server.server_port, timeout=60)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"{LOOPBACK}:{server.server_port}")
    connection.endheaders()
    return connection.getresponse()


@pytest.mark.parametrize(
    ("path", "name", "kind"),
    [
        ("/", "index.html", "text/html; charset=utf-8"),
        ("/index.html?x=1", "index.html", "text/html; charset=utf-8"),
        ("/model.wasm", "model.wasm", "application/wasm"),
        ("/page.js", "page.js", "text/javascript; charset=utf-8"),
    ],
)
def test_files_and_their_types(server: SiteServer, path: str, name: str, kind: str) -> None:
    answer = ask(server, path)
    assert (answer.status, answer.read()) == (200, SITE[name])
    assert answer.headers["Content-Type"] == kind
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    head = ask(server, path, "HEAD")
    assert (head.status, head.read(), head.headers["Content-Length"]) == (200, b"", str(len(SITE[name])))


@pytest.mark.parametrize("path", ["/driver", "/../pyproject.toml", "/page.js/", "/%2e%2e/", "/.", "/model"])
def test_nothing_else_is_there(server: SiteServer, path: str) -> None:
    answer = ask(server, path)
    assert answer.status == 404
    assert answer.headers["Content-Security-Policy"] == POLICY


def test_other_methods_and_hosts_are_refused(server: SiteServer) -> None:
    assert ask(server, "/", "POST").status == 501
    assert ask(server, "/", host="example.org").status == 421
    assert ask(server, "/", host=f"localhost:{server.server_port}").status == 200


def test_loopback_alone(server: SiteServer) -> None:
    assert server.server_address[0] == LOOPBACK
    assert server.url == f"http://127.0.0.1:{server.server_port}/"


def test_the_page_says_the_same_policy() -> None:
    """But for what counts in a header only."""
    page = (SOURCES / "index.html").read_text()
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert found is not None
    assert f"{found[1]}; frame-ancestors 'none'" == POLICY
    assert "unsafe-inline" not in POLICY
    assert "'unsafe-eval'" not in POLICY


def test_an_artefact_without_a_page(compiled_bidrn: Compiled) -> None:
    outcome = inside("serve", compiled_bidrn.folder)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.endswith("has no page; compile the model with --target wasm32 --form web\n")


def test_no_artefact(tmp_path: Path) -> None:
    assert inside("serve", tmp_path / "none").code == 2
    assert inside("serve", tmp_path).code == 3


def test_the_command_serves_until_it_is_ended(compiled_web: Compiled) -> None:
    words = [*COMMAND, "serve", compiled_web.folder, "--port", "0"]
    with subprocess.Popen(
        words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        port = int(url.rstrip("/").rpartition(":")[2])
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=60)
        connection.request("GET", "/model.wasm")
        assert connection.getresponse().read() == (compiled_web.folder / "model.wasm").read_bytes()
        taken = inside("serve", compiled_web.folder, "--port", str(port))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert err.splitlines() == ["serving to this machine alone; Ctrl-C ends it", "ended"]
    assert taken.code == 2
    assert f"error: port {port}: cannot be had" in taken.stderr


def test_a_port_of_another_program(compiled_web: Compiled) -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        outcome = inside("serve", compiled_web.folder, "--port", str(other.getsockname()[1]))
    assert outcome.code == 2
    assert "choose another one, or 0 for any that is free" in outcome.stderr
