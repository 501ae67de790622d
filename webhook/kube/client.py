"""`Kube`: the few requests we make to the API server, as plain documents."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from webhook import limits
from webhook.kube import KubeError
from webhook.parsing import quote

Document = dict[str, Any]
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

_JSON: Final = "application/json"
_PATCHES: Final = {"merge": "application/merge-patch+json", "apply": "application/apply-patch+yaml"}
FIELD_MANAGER: Final = "trusted-images"


class Kube:
    """Requests under one identity. `request` raises `KubeError`; 404 to a GET is None."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    async def get(self, path: str, **query: str) -> Document | None:
        """The document at `path`, or None if there is none."""
        try:
            return await self.request("GET", path, query=query)
        except KubeError as e:
            if e.status == 404:
                return None
            raise

    async def list_all(self, path: str) -> tuple[list[Document], str]:
        """All items of a collection, page by page, and the resource version they are of."""
        items: list[Document] = []
        version = ""
        async for page, of in self.pages(path):
            items += page
            version = of
        return items, version

    async def pages(self, path: str) -> AsyncIterator[tuple[list[Document], str]]:
        """The items of a collection as they come, with the resource version that all pages are of."""
        query = {"limit": str(limits.KUBE_PAGE)}
        while True:
            page = await self.request("GET", path, query=query)
            metadata = page.get("metadata") or {}
            yield page.get("items") or [], str(metadata.get("resourceVersion", ""))
            if not metadata.get("continue"):
                return
            query["continue"] = metadata["continue"]

    async def watch(self, path: str, version: str) -> AsyncIterator[Document]:
        """The events of a collection after a resource version, until the API server ends the stream.

        Bookmarks are among them, so that a stream without any event for long is a dead one. Raises `KubeError`; with status 410
        `version` is too old, and a list has to be read again.
        """
        query = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(limits.WATCH_SECONDS),
        }
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=limits.KUBE_SECONDS, sock_read=limits.WATCH_SILENT_SECONDS
        )
        response = await self._send("GET", path, query=query, within=timeout)
        stream: aiohttp.ClientResponse = response.response
        try:
            if response.status != 200:
                raise KubeError(f"WATCH {path}: {response.status} {_reason(await stream.read())}", response.status)
            async for line in stream.content:
                event = _object(line, f"WATCH {path}")
                if event.get("type") == "ERROR":
                    status = event.get("object") or {}
                    raise KubeError(f"WATCH {path}: {quote(str(status.get('message')))}", int(status.get("code") or 0))
                yield event
        # A line that is longer than the buffer is a ValueError.
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as e:
            raise KubeError(f"WATCH {path}: the stream broke ({type(e).__name__})") from e
        finally:
            stream.close()

    async def create(self, path: str, body: Document) -> Document:
        """Makes an object in the collection at `path`."""
        return await self.request("POST", path, body=body, query={"fieldManager": FIELD_MANAGER})

    async def replace(self, path: str, body: Document) -> Document:
        """Writes an object over the one whose resource version it bears."""
        return await self.request("PUT", path, body=body, query={"fieldManager": FIELD_MANAGER})

    async def merge(self, path: str, body: Document) -> Document:
        """Changes the fields that `body` names."""
        query = {"fieldManager": FIELD_MANAGER}
        return await self.request("PATCH", path, body=body, query=query, content_type=_PATCHES["merge"])

    async def apply(self, path: str, body: Document) -> Document:
        """Makes the fields that `body` names ours, and creates the object if there is none."""
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self.request("PATCH", path, body=body, query=query, content_type=_PATCHES["apply"])

    async def delete(self, path: str) -> None:
        """Removes an object; one that is not there is as good as removed."""
        try:
            await self.request("DELETE", path)
        except KubeError as e:
            if e.status != 404:
                raise

    async def request(
        self,
        method: Method,
        path: str,
        *,
        body: Document | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = _JSON,
    ) -> Document:
        """The document that the API server answers with. Raises `KubeError`, whose text repeats no body."""
        response = await self._send(method, path, body=body, query=query, content_type=content_type)
        try:
            data: bytes = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as e:
            raise _silent(method, path, e) from e
        if not 200 <= response.status < 300:
            wait = _retry_after(response.headers.get("Retry-After"))
            raise KubeError(f"{method} {path}: {response.status} {_reason(data)}", response.status, wait)
        return _object(data, f"{method} {path}")

    async def _send(
        self,
        method: Method,
        path: str,
        *,
        body: Document | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = _JSON,
        within: float | aiohttp.ClientTimeout = limits.KUBE_SECONDS,
    ) -> Any:
        """The library's response, its body unread."""
        sent = await self._api.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": _JSON} | ({"Content-Type": content_type} if body is not None else {}),
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            return await self._api.call_api(*sent, _request_timeout=within)
        except (aiohttp.ClientError, OSError, TimeoutError) as e:
            raise _silent(method, path, e) from e


def _silent(method: str, path: str, error: Exception) -> KubeError:
    return KubeError(f"{method} {path}: the API server gives no answer ({type(error).__name__})")


def _object(data: bytes, what: str) -> Document:
    try:
        document = json.loads(data)
    except ValueError as e:
        raise KubeError(f"{what}: the answer is not JSON") from e
    if not isinstance(document, dict):
        raise KubeError(f"{what}: the answer is no object")
    return document


def _retry_after(text: str | None) -> float | None:
    """Seconds, as API servers write them, bounded; None for anything else."""
    return min(float(text), limits.MAX_KUBE_PAUSE) if text and text.isascii() and text.isdecimal() else None


def _reason(data: bytes) -> str:
    try:
        return quote(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return "without a reason"


@asynccontextmanager
async def connected(kubeconfig: str | None = None, context: str | None = None) -> AsyncIterator[Kube]:
    """The API server of the Pod we run in, or else of the user's kubeconfig; of the latter at once where one of the two is given.

    `kubeconfig`: a file, or several as in the environment variable. Raises `KubeError`.
    """
    configuration = Configuration()
    try:
        if kubeconfig or context:
            await _load(configuration, kubeconfig, context)
        else:
            try:
                config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # the library's, without types
            except config.ConfigException:
                await _load(configuration, None, None)
    except (config.ConfigException, OSError) as e:
        raise KubeError(f"neither in a Pod nor with a kubeconfig that can be used: {e}") from e
    api = ApiClient(configuration)
    try:
        yield Kube(api)
    finally:
        await api.close()  # type: ignore[no-untyped-call]  # the same


async def _load(configuration: Configuration, file: str | None, context: str | None) -> None:
    given = {} if file is None else {"config_file": file}
    await config.load_kube_config(**given, context=context, client_configuration=configuration)  # type: ignore[no-untyped-call]  # the same
