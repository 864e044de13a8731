"""Supabase Storage as its SDKs speak it: buckets and objects, with the rows in Postgres and the bytes in files.

    objects.py   upload, move, copy, remove: the two-step write that triggers on storage.objects see
    reading.py   download, info, signed URLs      listing.py   lists       buckets.py   buckets
    resumable.py uploads in parts       tus.py       their protocol  uploads.py  their state on disk
    rows.py      the statements                   database.py  sessions and callers
    incoming.py  bodies as they arrive            blobs.py     the bytes on disk
    names.py     which names pass                 errors.py    refusals    signing.py   tokens in URLs
    requests.py  JSON bodies and queries

What is left out is refused with 501 and its name: S3, image transformations, vector and analytics buckets.
"""

from __future__ import annotations

from starlette.convertors import PathConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipeline.embedded.gateway.storage import buckets, errors, listing, objects, reading, resumable
from pipeline.embedded.gateway.storage.service import Handler, Storage, endpoint, target_of

__all__ = ["Storage", "storage_routes"]


class _AnyPath(PathConvertor):
    """A path that may hold a line break. Storage refuses such a name; a mount that does not match would hide that."""

    regex = r"[\s\S]*"


register_url_convertor("path", _AnyPath())

_EVERY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_TABLE: list[tuple[str, str, Handler]] = [
    ("GET", "/bucket", buckets.list_all),
    ("POST", "/bucket", buckets.create),
    ("GET", "/bucket/{bucket}", buckets.get),
    ("PUT", "/bucket/{bucket}", buckets.update),
    ("DELETE", "/bucket/{bucket}", buckets.delete),
    ("POST", "/bucket/{bucket}/empty", buckets.empty),
    # the fixed words come ahead of the buckets' names
    ("POST", "/object/move", objects.move),
    ("POST", "/object/copy", objects.copy),
    ("POST", "/object/list/{bucket}", listing.list_folder),
    ("POST", "/object/list-v2/{bucket}", listing.list_by_cursor),
    ("POST", "/object/upload/sign/{bucket}/{name:path}", objects.sign_upload),
    ("PUT", "/object/upload/sign/{bucket}/{name:path}", objects.upload_signed),
    ("POST", "/object/sign/{bucket}", reading.sign_many),
    ("POST", "/object/sign/{bucket}/{name:path}", reading.sign_one),
    ("GET", "/object/sign/{bucket}/{name:path}", reading.download_signed),
    ("GET", "/object/public/{bucket}/{name:path}", reading.download_public),
    ("GET", "/object/authenticated/{bucket}/{name:path}", reading.download),
    ("GET", "/object/info/public/{bucket}/{name:path}", reading.info_public),
    ("GET", "/object/info/authenticated/{bucket}/{name:path}", reading.info),
    ("GET", "/object/info/{bucket}/{name:path}", reading.info),
    ("DELETE", "/object/{bucket}", objects.remove_many),
    ("GET", "/object/{bucket}/{name:path}", reading.download_plain),
    ("POST", "/object/{bucket}/{name:path}", objects.upload),
    ("PUT", "/object/{bucket}/{name:path}", objects.update),
    ("DELETE", "/object/{bucket}/{name:path}", objects.remove),
]
for _path, _by in (("/upload/resumable", resumable.by_token), ("/upload/resumable/sign", resumable.by_signature)):
    _TABLE += [
        ("OPTIONS", _path, resumable.options),
        ("POST", _path, _by(resumable.create)),
        ("OPTIONS", _path + "/{upload}", resumable.options),
        ("PATCH", _path + "/{upload}", _by(resumable.patch)),
        ("HEAD", _path + "/{upload}", _by(resumable.head)),
        ("DELETE", _path + "/{upload}", _by(resumable.terminate)),
    ]
_LEFT_OUT = {
    "/render/image": "an image transformation",
    "/vector": "a vector bucket",
    "/iceberg": "an analytics bucket",
    "/cdn": "purging a CDN's cache",
}
_OWN_WORDS = ("bucket", "object", "upload", "s3", "render", "vector", "iceberg", "cdn")
PUBLIC_PATHS = (
    "/status",
    "/version",
    "/s3",
    "/object/public/",
    "/object/info/public/",
    "/object/sign/",
    "/object/upload/sign/",
    "/upload/resumable/sign",
)
"""Where a request without an API key may lead: to what is public, signed in the URL, or refused in S3's own way."""


def storage_routes(storage: Storage) -> list[Route]:
    """All routes, relative to /storage/v1."""
    routes = [Route("/status", _status, methods=["GET"]), Route("/version", _version, methods=["GET"])]
    refused = {prefix: endpoint(storage, _refusal(feature)) for prefix, feature in _LEFT_OUT.items()} | {"/s3": _no_s3}
    for prefix, refuse in refused.items():
        routes += [Route(path, refuse, methods=_EVERY_METHOD) for path in (prefix, prefix + "/{rest:path}")]
    routes += [Route(path, endpoint(storage, handler), methods=[method]) for method, path, handler in _TABLE]
    return [*routes, Route("/{rest:path}", endpoint(storage, _no_route), methods=_EVERY_METHOD)]


async def _no_route(storage: Storage, request: Request) -> Response:
    refusal = errors.no_such_route(request.method, target_of(request))
    if request.path_params["rest"].partition("/")[0] in _OWN_WORDS:
        raise refusal
    # beyond its own paths it is the web framework that answers
    return JSONResponse({"message": refusal.message, "error": refusal.error, "statusCode": 404}, 404)


def _refusal(feature: str) -> Handler:
    async def refuse(storage: Storage, request: Request) -> Response:
        raise errors.not_supported(feature)

    return refuse


async def _no_s3(request: Request) -> Response:
    """In XML, which is what an S3 client shows. A 400: it would try again what a server could not do."""
    message = errors.not_supported("the S3 protocol").message
    body = (
        f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>NotImplemented</Code><Message>{message}</Message></Error>"
    )
    return Response(body, 400, media_type="application/xml")


async def _status(request: Request) -> Response:
    return Response(status_code=200)


async def _version(request: Request) -> Response:
    return Response("0.0.0", media_type="text/plain")
