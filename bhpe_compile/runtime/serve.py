"""The page of a WebAssembly artefact over HTTP, for this machine alone.

Files are read and compared with their SHA-256 once, and handed out from memory: a request names an entry of a table
and never a path. Whoever asks under another host name than this machine's is refused, so that a page from elsewhere
whose name points here sees nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath

from bhpe_compile.artifact.web import PAGE, TYPES, read_site
from bhpe_compile.errors import UsageError

LOOPBACK = "127.0.0.1"
NAMES = (LOOPBACK, "localhost")

POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What index.html says of itself, and `frame-ancestors`, which counts in a header only. A worker takes its own
response's."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class SiteServer(ThreadingHTTPServer):
    """The files of one artefact on a port of the loopback interface; `url` is where the page is."""

    daemon_threads = True

    def __init__(self, site: Mapping[str, bytes], port: int) -> None:
        self.site = {"/": (site[PAGE], TYPES[".html"])} | {
            f"/{name}": (content, TYPES[PurePosixPath(name).suffix]) for name, content in site.items()
        }
        super().__init__((LOOPBACK, port), _Handler)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.server_port}/"


def open_site(artifact: Path, port: int) -> SiteServer:
    """A server of the artefact's page on `port` (0: any that is free), bound and not yet serving.

    UsageError for an artefact without a page and for a port that cannot be had; raises as `check_artifact` otherwise.
    """
    site = read_site(artifact)
    try:
        return SiteServer(site, port)
    except OSError as error:
        raise UsageError(
            f"port {port}: cannot be had ({error.strerror}); choose another one, or 0 for any that is free"
        ) from None


class _Handler(BaseHTTPRequestHandler):
    server: SiteServer
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds that a connection may be idle

    def do_GET(self) -> None:
        self._answer(with_content=True)

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def _answer(self, with_content: bool) -> None:
        if self.headers.get("Host", "").partition(":")[0] not in NAMES:
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
            return
        found = self.server.site.get(self.path.partition("?")[0])
        if found is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        content, kind = found
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_content:
            self.wfile.write(content)

    def version_string(self) -> str:
        """What it calls itself."""
        return "bhpe-compile"

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing is told of requests."""
