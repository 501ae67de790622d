"""`/livez`, `/readyz` and `/metrics`, over plain HTTP, reading only."""

from collections.abc import Callable

from aiohttp import web

from webhook.observe.metrics import CONTENT_TYPE, Metrics


def build_app(metrics: Metrics, not_ready: Callable[[], str | None]) -> web.Application:
    """The application on the metrics port. `not_ready` says why reviews cannot be answered now, or None."""

    async def livez(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        reason = not_ready()
        return web.Response(text="ok\n") if reason is None else web.Response(status=503, text=f"{reason}\n")

    async def expose(_request: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    app = web.Application()
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", expose)
    return app
