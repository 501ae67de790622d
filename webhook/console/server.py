"""`/livez`, `/readyz` and `/metrics`, over plain HTTP, reading only."""

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from webhook.observe.metrics import CONTENT_TYPE, Metrics


def routes(
    metrics: Metrics, not_ready: Callable[[], str | None]
) -> Mapping[str, Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]]:
    """What stands at which path of the metrics port. `not_ready` says why reviews cannot be answered now, or None."""

    async def livez(_request: web.BaseRequest) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.BaseRequest) -> web.Response:
        reason = not_ready()
        return web.Response(text="ok\n") if reason is None else web.Response(status=503, text=f"{reason}\n")

    async def expose(_request: web.BaseRequest) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    return {"/livez": livez, "/readyz": readyz, "/metrics": expose}
