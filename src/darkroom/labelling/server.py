"""The page on which people label, served on 127.0.0.1 alone, to whoever has its address.

The address has a token, as long as nobody guesses; requests for other hosts are refused, and so are those that a page of another
origin sends. docs/security.md has the threats.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from darkroom.core import pages
from darkroom.core.errors import DarkroomError, ParamsError
from darkroom.labelling.meter import Meter
from darkroom.labelling.pictures import Pictures
from darkroom.labelling.session import Session

HOST = "127.0.0.1"
MOST_BYTES = 65_536  # of a request
HEADERS = {
    "Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
}  # fmt: skip
_INLINE = {kind: re.compile(rf"<{kind}>(.*?)</{kind}>", re.DOTALL) for kind in ("style", "script")}


class Choice(BaseModel):
    """What the page sends."""

    model_config = ConfigDict(extra="forbid")

    queue: str
    id: str
    label: str = ""


def new_token() -> str:
    """Return a token of 256 bits."""
    return secrets.token_urlsafe(32)


def bind(port: int) -> socket.socket:
    """Return a socket on 127.0.0.1; port 0 is any that is free. Raises ParamsError where another process has it."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()  # who opens the address at once waits, and is not refused
    except OSError as error:
        listener.close()
        raise ParamsError(f"port {port} cannot be used: {error.strerror}", "omit --port: a free one is found") from error
    return listener


def refusal(request: Request, token: str, port: int) -> Response | None:
    """Return the answer to a request that this page cannot have sent; None where it may have."""
    if request.headers.get("host") not in (f"{HOST}:{port}", f"localhost:{port}"):  # DNS rebinding
        return PlainTextResponse("this page is on 127.0.0.1 alone", 400)
    origin = request.headers.get("origin")
    own = (f"http://{HOST}:{port}", f"http://localhost:{port}")
    if (origin is not None and origin not in own) or (request.method not in ("GET", "HEAD") and origin is None):
        return PlainTextResponse("this request is from another page", 403)
    if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return PlainTextResponse("this request is from another page", 403)
    sent = request.url.path.split("/")[1]
    if not secrets.compare_digest(sent.encode(), token.encode()):
        return PlainTextResponse("open the address that `darkroom label` printed", 403)
    if request.method == "POST" and request.headers.get("content-type") != "application/json":
        return PlainTextResponse("a decision is JSON", 415)
    length = request.headers.get("content-length", "")
    if request.method == "POST" and not (length.isascii() and length.isdigit() and int(length) <= MOST_BYTES):
        return PlainTextResponse("a decision is short", 413)
    return None


def policy(page: str) -> str:
    """Return the Content-Security-Policy of a page: its own style and script, pictures and requests to its server alone."""
    hashes = {
        kind: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in pattern.findall(page)
        )
        for kind, pattern in _INLINE.items()
    }
    return (
        f"default-src 'none'; img-src 'self' data:; connect-src 'self'; style-src {hashes['style']}; "
        f"script-src {hashes['script']}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class _Endpoints:
    """What the server answers; with a `meter`, which is told of each decision, also how accuracy grows."""

    def __init__(self, session: Session, pictures: Pictures, meter: Meter | None, page: str) -> None:
        self.session, self.pictures, self.meter, self.page = session, pictures, meter, page

    def show(self, request: Request) -> Response:
        return Response(self.page, media_type="text/html", headers={"Content-Security-Policy": policy(self.page)})

    def state(self, request: Request) -> Response:
        return JSONResponse(self._current())

    def growth(self, request: Request) -> Response:
        return JSONResponse(self.meter.state() if self.meter else None)

    def queue(self, request: Request) -> Response:
        return JSONResponse(self.session.entries(request.path_params["name"]))

    def picture(self, request: Request) -> Response:
        item = self.session.items.get(request.path_params["id"])
        if item is None:
            return PlainTextResponse("there is no such image in this session", 404)
        try:
            content, kind = self.pictures.encoded(item.folder, item.path)
        except DarkroomError as error:
            return PlainTextResponse(error.problem, 404)
        return Response(content, media_type=kind)

    async def decide(self, request: Request) -> Response:
        return await self._act(request, lambda choice: self.session.decide(choice.queue, choice.id, choice.label))

    async def skip(self, request: Request) -> Response:
        return await self._act(request, lambda choice: self.session.skip(choice.queue, choice.id))

    def undo(self, request: Request) -> Response:
        try:
            decision = self.session.undo()
        except DarkroomError as error:
            return JSONResponse({"problem": error.problem, "remedy": error.remedy}, 409)
        undone = {"undone": self.session.id_of(decision), "queue": decision.queue} if decision else {"undone": "", "queue": ""}
        return JSONResponse(self._current() | undone)

    async def _act(self, request: Request, act: Callable[[Choice], object]) -> Response:
        try:
            act(Choice.model_validate_json(await request.body()))
        except ValidationError:
            return PlainTextResponse("a decision has queue, id and label", 422)
        except DarkroomError as error:
            return JSONResponse({"problem": error.problem, "remedy": error.remedy}, 409)
        except OSError as error:  # a full disk
            return JSONResponse(
                {"problem": f"it could not be written: {error.strerror}", "remedy": "make room, and decide again"}, 507
            )
        return JSONResponse(self._current())

    def _current(self) -> dict[str, Any]:
        """Return the state of the session, and whether there is something new to show of accuracy."""
        content = self.session.state()
        if self.meter is None:
            return content
        self.meter.notify(content["own"], content["left"])
        measured = self.meter.state()
        return content | {"growth": {"revision": measured["revision"], "busy": measured["busy"]}}


def app(
    session: Session, pictures: Pictures, token: str, port: int, notes: dict[str, Any], meter: Meter | None = None
) -> Starlette:
    """Return the server's application. `notes` are values of the page's template: what is said beside the images.

    With a `meter` the page shows how accuracy grows, by the model `measures` of the notes.
    """
    page = pages.render("labelling", "label.html.j2", source="label", name=session.name, **notes)
    endpoints = _Endpoints(session, pictures, meter, page)

    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = refusal(request, token, port) or await call_next(request)
        response.headers.update(HEADERS)
        response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        return response

    read = {"": endpoints.show, "state": endpoints.state, "growth": endpoints.growth, "queue/{name}": endpoints.queue,
            "image/{id}": endpoints.picture}  # fmt: skip
    write = {"decide": endpoints.decide, "skip": endpoints.skip, "undo": endpoints.undo}
    routes = [Route(f"/{token}/{path}", endpoint) for path, endpoint in read.items()]
    routes += [Route(f"/{token}/{path}", endpoint, methods=["POST"]) for path, endpoint in write.items()]
    served = Starlette(routes=routes)
    served.add_middleware(BaseHTTPMiddleware, dispatch=guard)
    return served


def serve(application: Starlette, listener: socket.socket) -> None:
    """Answer requests until Ctrl+C."""
    config = uvicorn.Config(application, log_level="error", access_log=False, lifespan="off", server_header=False, ws="none")
    uvicorn.Server(config).run(sockets=[listener])
