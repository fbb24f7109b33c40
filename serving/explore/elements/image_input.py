"""An element with which a visitor gives an image: drawn, dropped, pasted or chosen; and the route that receives it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request
from nicegui import app, ui
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response
from starlette.status import HTTP_413_CONTENT_TOO_LARGE

from partedvae.serving.errors import ServingError
from partedvae.serving.explore.pictures.png import attachment

OnImage = Callable[[bytes, str], Awaitable[None]]


class ImageInput(ui.element, component="image_input.js"):
    """A drawing pad that also takes image files, by dropping, pasting and choosing them.

    The image is sent by a route of its own and not through the websocket. Its URL has the secret number of the
    visitor's connection, and is removed with the element.
    """

    def __init__(
        self,
        on_image: OnImage,
        *,
        width: int,
        height: int,
        max_bytes: Callable[[], int],
        background: tuple[int, int, int] = (0, 0, 0),
        coloured: bool = False,
        several: bool = False,
    ) -> None:
        """Add the element.

        Args:
            on_image: called with the content of a file and its name, and awaited before the next image is sent. Its
                `ServingError`s are shown to the visitor.
            width: of the model's images.
            height: likewise.
            max_bytes: returns the largest size of a file.
            background: colour on which strokes are drawn, that of the model's images.
            coloured: whether the visitor can choose the colour of strokes.
            several: take any number of files, one after the other, and no drawing.
        """
        super().__init__()
        self._on_image = on_image
        self._max_bytes = max_bytes
        self._url = f"/_nicegui/client/{self.client.id}/image/{self.id}"
        self._props["url"] = self._url
        self._props["width"] = width
        self._props["height"] = height
        self._props["background"] = list(background)
        self._props["coloured"] = coloured
        self._props["several"] = several
        app.add_route(self._url, self._receive, methods=["POST"], include_in_schema=False)
        self.on("rejected", lambda event: ui.notify(event.args, type="negative", multi_line=True))

    def paint(self, source: str, *, only_first: bool = False) -> None:
        """Show a picture in the pad, on which the visitor can go on drawing.

        Args:
            source: its URL.
            only_first: not if the visitor has drawn, or given an image, already.
        """
        self.run_method("paint", source, only_first)

    async def _receive(self, request: Request) -> Response:
        content = bytearray()
        try:
            async for part in request.stream():
                content += part
                if len(content) > self._max_bytes():
                    limit = f"more than {self._max_bytes():,} bytes; choose a smaller file"
                    return PlainTextResponse(limit, HTTP_413_CONTENT_TOO_LARGE)
        except ClientDisconnect:  # The visitor has left, and gets no response.
            return Response(status_code=400)
        try:
            with self.client:
                await self._on_image(bytes(content), request.query_params.get("name", ""))
        except ServingError as error:
            return PlainTextResponse(str(error), 400)
        return Response(status_code=204)

    def _handle_delete(self) -> None:
        app.remove_route(self._url)
        super()._handle_delete()


class VisitorPicture(ui.element):
    """An image that only this visitor can load: its URL has the secret number of the visitor's connection."""

    def __init__(self, description: str) -> None:
        """Add the element, without a picture."""
        super().__init__("img")
        self.classes("pv-pixels")
        self.props["alt"] = description
        self.visible = False
        self._shown = 0
        self._content = b""
        self._offered = (b"", "")
        self._url = f"/_nicegui/client/{self.client.id}/picture/{self.id}.png"
        app.add_route(self._url, self._send, include_in_schema=False)

    def show(self, content: bytes, size: tuple[int, int]) -> str:
        """Show a picture, and return its URL, which differs from that of the picture before.

        Args:
            content: a PNG file.
            size: its width and height, before it is enlarged.
        """
        self._content = content
        self._shown += 1
        source = f"{self._url}?{self._shown}"
        self.props["width"], self.props["height"] = size
        self.props["src"] = source
        self.visible = True
        self.update()
        return source

    def offer(self, content: bytes, name: str) -> str:
        """Return the URL of a PNG file, which browsers save under a name."""
        self._offered = (content, name)
        return f"{self._url}?download={self._shown}"

    async def _send(self, request: Request) -> Response:
        headers = {"cache-control": "no-store"}
        content = self._content
        if "download" in request.query_params:
            content, name = self._offered
            headers["content-disposition"] = attachment(name)
        return Response(content, media_type="image/png", headers=headers)

    def _handle_delete(self) -> None:
        app.remove_route(self._url)
        super()._handle_delete()
