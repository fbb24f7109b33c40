"""The web application: pages, pictures and files behind the access rules, and the server that runs it."""

from __future__ import annotations

import asyncio
import functools
import socket
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from nicegui import run as nicegui_run
from nicegui import ui
from starlette.responses import Response

from partedvae.familiarity import UnfamiliarImageWarning
from partedvae.serving.explore.access import AccessMiddleware, Rules
from partedvae.serving.explore.context import Context
from partedvae.serving.explore.frame import framed
from partedvae.serving.explore.labelling.pictures import add_image_route
from partedvae.serving.explore.model import LOCAL_LIMITS
from partedvae.serving.explore.page import Page
from partedvae.serving.explore.pages import PAGES
from partedvae.serving.explore.pages.map.routes import add_map_routes
from partedvae.serving.explore.pictures.routes import add_picture_routes
from partedvae.serving.explore.pictures.run_figures import add_run_figure_route

STATIC = Path(__file__).parent / "static"
GRACE_SECONDS = 1
"""Time for replies on their way when the server stops; an open page would keep its websocket forever."""
FAVICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7"
fill="#4f46e5"/><path d="M7 8h8v16H7z" fill="#fff"/><path d="M18 8h7v4h-7zM18 14h7v4h-7zM18 20h7v4h-7z"
fill="#c7d2fe"/></svg>"""


def create_app(context: Context, rules: Rules, pages: Sequence[Page] = PAGES) -> FastAPI:
    """Return the application. One per process: NiceGUI's pages belong to the process.

    Args:
        context: what the pages show.
        rules: what a request must have.
        pages: the pages, in the order of the navigation.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # All of them end, also when one fails, or when a second Ctrl-C cancels this; first the commands, which save.
        async with AsyncExitStack() as stack:
            if context.model is not None:
                await context.model.start()
                stack.push_async_callback(context.model.stop)
            if context.features is not None:
                stack.push_async_callback(context.features.close)
            if context.labelling is not None:
                stack.push_async_callback(context.labelling.stop)
            yield

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/")
    def start(request: Request) -> Response:
        usable = [page for page in pages if not page.unavailable(context)]
        return RedirectResponse((usable or pages)[0].path)

    add_picture_routes(app, context)
    add_run_figure_route(app, context)
    add_map_routes(app, context)
    if context.labelling is not None:
        add_image_route(app, context.labelling)
    app.mount("/static", StaticFiles(directory=STATIC))
    for page in pages:
        ui.page(page.path, title=f"{page.name} - PartedVAE", favicon=FAVICON)(_builder(page, pages, context))
    # Unlike "fork", it leaves the threads of gRPC and ONNX Runtime behind.
    nicegui_run.process_pool_start_method = "spawn"
    ui.run_with(app, title="PartedVAE", language="en-US", dark=None, show_welcome_message=False, favicon=FAVICON)

    def max_bytes() -> int:
        return (context.model.limits if context.model else LOCAL_LIMITS).max_message_bytes

    app.add_middleware(AccessMiddleware, rules=rules, max_bytes=max_bytes)
    return app


def serve(app: FastAPI, listener: socket.socket, on_ready: Callable[[], None]) -> None:
    """Serve an application until SIGTERM or Ctrl-C.

    Args:
        app: the application.
        listener: a bound socket.
        on_ready: called when requests are accepted.
    """
    warnings.simplefilter("ignore", UnfamiliarImageWarning)  # The pages show it.
    # Not uvloop, which gRPC's client does not know; and the HTTP and websocket parsers that NiceGUI requires.
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="wsproto",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(config, on_ready)
    with asyncio.Runner() as runner:
        runner.run(server.serve(sockets=[listener]))


class _Server(uvicorn.Server):
    """A server that says when it is ready, and whose end by a signal is no error."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            yield
            self._captured_signals.clear()  # Uvicorn would raise them again.


def _builder(page: Page, pages: Sequence[Page], context: Context) -> Callable[[], Awaitable[None]]:
    return functools.partial(framed, page, pages, context)
