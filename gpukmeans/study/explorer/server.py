"""`gpukmeans explore`: the page served to this machine's browser, with fits on request.

Nothing but this machine can reach it: it listens on the loopback address, at a port that the system chooses.  Other
pages in the same browser cannot either: Host and Origin must be its own, and every request but the first needs a cookie
that is given for the token in the address, once.
"""

from __future__ import annotations

import hmac
import json
import secrets
import socket
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from gpukmeans.study.explorer.content import MOST_ROWS
from gpukmeans.study.explorer.page import document, packed
from gpukmeans.study.explorer.session import Busy, Session
from gpukmeans.study.outputs import write_labels

#: Bytes of the body of a request.
MOST_BODY = 1 << 20
COOKIE = "gpukmeans"


def require_server() -> None:
    """Raise an ImportError that says how to install what serves the page."""
    try:
        import starlette
        import uvicorn  # noqa: F401

        del starlette
    except ImportError as error:
        raise ImportError("explore needs Starlette and uvicorn: pip install 'gpukmeans[explore]'") from error


class Guard:
    """Lets requests of this page through, and no others; an ASGI application around another.

    Parameters
    ----------
    inner : ASGI application
    port : int
        Where it is served.
    """

    def __init__(self, inner: Callable[..., Awaitable[None]], port: int) -> None:
        self.inner = inner
        self.hosts = {f"127.0.0.1:{port}".encode()}
        self.origins = {b"http://" + host for host in self.hosts}
        self.token: str | None = secrets.token_hex(16)
        self.cookie = secrets.token_hex(16)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self.inner(scope, receive, send)
            return
        from starlette.requests import Request
        from starlette.responses import PlainTextResponse, RedirectResponse

        if scope["type"] != "http":  # no WebSockets
            return
        request = Request(scope, receive)
        given = request.query_params.get("token")
        headers = dict(scope["headers"])
        answer: Any = None
        if sum(name == b"host" for name, _ in scope["headers"]) != 1 or headers[b"host"] not in self.hosts:
            answer = PlainTextResponse("this page has another address", 403)
        elif headers.get(b"origin", next(iter(self.origins))) not in self.origins:
            answer = PlainTextResponse("requests of other pages are refused", 403)
        elif request.method not in ("GET", "POST"):
            answer = PlainTextResponse("GET or POST", 405)
        elif request.method == "POST" and b"origin" not in headers:
            answer = PlainTextResponse("requests need an Origin", 403)
        elif request.url.path == "/" and given is not None:
            if self.token is not None and hmac.compare_digest(given.encode(), self.token.encode()):
                self.token = None  # once
                answer = RedirectResponse("/", 303)
                answer.set_cookie(COOKIE, self.cookie, httponly=True, samesite="strict", path="/")
            else:
                answer = PlainTextResponse("this address has been used; start gpukmeans explore again", 403)
        elif not hmac.compare_digest(request.cookies.get(COOKIE, "").encode(), self.cookie.encode()):
            answer = PlainTextResponse("open the address that gpukmeans explore has printed", 403)

        async def safely(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                    (b"cache-control", b"no-store"),
                    (b"x-frame-options", b"DENY"),
                    (b"cross-origin-resource-policy", b"same-origin"),
                ]
            await send(message)

        await (answer or self.inner)(scope, receive, safely)


def application(session: Session) -> Any:
    """The routes: the page, a fit, how far it is, and files to save.  No request names a file."""
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route

    def live_content() -> tuple[dict[str, Any], Any]:
        if session.result is None:
            raise ValueError("there is no fit yet")
        return session.result[2:]

    async def index(request: Request) -> Response:
        return HTMLResponse(await run_in_threadpool(lambda: document(*live_content(), live=True)))

    async def content(request: Request) -> Response:
        def answer() -> str:
            plain, arrays = live_content()
            if len(session.data.X) <= MOST_ROWS:  # the page has them
                arrays = {name: array for name, array in arrays.items() if name not in session.kept}
            return json.dumps({"content": plain, "arrays": {name: packed(array) for name, array in arrays.items()}})

        return Response(await run_in_threadpool(answer), media_type="application/json")

    async def state(request: Request) -> Response:
        return JSONResponse(session.told)

    async def fit(request: Request) -> Response:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MOST_BODY:
                return JSONResponse({"error": f"a request has at most {MOST_BODY:,} bytes"}, 413)
        try:
            session.start(json.loads(bytes(body)))
        except Busy as error:
            return JSONResponse({"error": str(error)}, 409)
        except (ValueError, RecursionError) as error:  # not JSON, too
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse(session.told)

    async def cancel(request: Request) -> Response:
        session.cancel()
        return JSONResponse(session.told)

    def file(make: Callable[[Path], object], name: str) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            def written() -> bytes:
                with tempfile.TemporaryDirectory() as folder:
                    make(Path(folder, name))
                    return Path(folder, name).read_bytes()

            headers = {"content-disposition": f'attachment; filename="{name}"'}
            return Response(await run_in_threadpool(written), media_type="application/octet-stream", headers=headers)

        return answer

    def labels(path: Path) -> None:
        assert session.result is not None
        model, outcome, _, _ = session.result
        write_labels(path, model.labels_, outcome.margins, session.data.rows, session.data.ids)

    def model(path: Path) -> None:
        assert session.result is not None
        session.result[0].save(path)

    def report(path: Path) -> None:
        assert session.result is not None
        content, arrays = session.result[2:]
        path.write_bytes(document(content | {"live": None}, arrays).encode("utf-8", "backslashreplace"))

    return Starlette(
        routes=[
            Route("/", index),
            Route("/content", content),
            Route("/state", state),
            Route("/fit", fit, methods=["POST"]),
            Route("/cancel", cancel, methods=["POST"]),
            Route("/labels.csv", file(labels, "labels.csv")),
            Route("/model.npz", file(model, "model.npz")),
            Route("/report.html", file(report, "report.html")),
        ]
    )


def serve(session: Session, tell: Callable[[str], object]) -> None:
    """Serve the page until Ctrl-C.

    Parameters
    ----------
    session : Session
        With a result.
    tell : callable
        Gets the address, with its token.
    """
    import uvicorn

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        guard = Guard(application(session), listening.getsockname()[1])
        tell(f"http://127.0.0.1:{listening.getsockname()[1]}/?token={guard.token}")
        config = uvicorn.Config(
            guard, log_level="critical", access_log=False, server_header=False, ws="none", lifespan="off",
            timeout_graceful_shutdown=1, h11_max_incomplete_event_size=1 << 15,
        )  # fmt: skip
        try:
            uvicorn.Server(config).run(sockets=[listening])
        finally:
            session.cancel()
