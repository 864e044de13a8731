"""What Storage says when it refuses: the bodies and codes of the real server, which its SDKs parse.

On the wire nearly every error is HTTP 400 with the real code as a string in the body, `{"statusCode": "403", "error":
"Unauthorized", "code": "AccessDenied", "message": …}`; a 500 is a 500. Of what the database raises only 42501 and
22P02 carry their message to the client.
"""

from __future__ import annotations

import logging

import psycopg
from psycopg_pool import PoolTimeout
from starlette.responses import JSONResponse

log = logging.getLogger(__name__)


class StorageError(Exception):
    """A refusal with the status, code and message that the client is told."""

    def __init__(
        self, status: int, code: str, message: str, *, error: str | None = None, http_status: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.error = error or code
        self.http_status = http_status or (500 if status == 500 else 400)

    def response(self) -> JSONResponse:
        body = {"statusCode": str(self.status), "error": self.error, "code": self.code, "message": self.message}
        return JSONResponse(body, status_code=self.http_status)


def no_such_bucket() -> StorageError:
    return StorageError(404, "NoSuchBucket", "Bucket not found", error="Bucket not found")


def no_such_key() -> StorageError:
    return StorageError(404, "NoSuchKey", "Object not found", error="not_found")


def access_denied(message: str = "Access denied") -> StorageError:
    return StorageError(403, "AccessDenied", message, error="Unauthorized")


def already_exists(code: str = "KeyAlreadyExists") -> StorageError:
    return StorageError(409, code, "The resource already exists", error="Duplicate")


def resource_locked() -> StorageError:
    return StorageError(423, "ResourceLocked", "The resource is locked")


def bucket_not_empty() -> StorageError:
    return StorageError(409, "ResourceNotEmpty", "The bucket you tried to delete is not empty")


def too_large(entity: str = "object") -> StorageError:
    return StorageError(
        413, "EntityTooLarge", f"The {entity} exceeded the maximum allowed size", error="Payload too large"
    )


def invalid_key(name: str) -> StorageError:
    return StorageError(400, "InvalidKey", f"Invalid key: {name}")


def invalid_bucket_name() -> StorageError:
    return StorageError(400, "InvalidBucketName", "Bucket name invalid", error="Invalid Input")


def invalid_mime_type(media_type: str) -> StorageError:
    return StorageError(415, "InvalidMimeType", f"mime type {media_type} is not supported", error="invalid_mime_type")


def invalid_content_type() -> StorageError:
    return StorageError(415, "InvalidMimeType", "Invalid Content-Type header", error="invalid_mime_type")


def invalid_request(message: str) -> StorageError:
    return StorageError(400, "InvalidRequest", message)


def invalid(message: str) -> StorageError:
    """What the validator of bodies and queries refuses, in its words."""
    return StorageError(400, "InvalidRequest", message, error="Error")


def unreadable(message: str) -> StorageError:
    """A body that is no JSON."""
    return StorageError(400, "InvalidRequest", message, error="FastifyError")


def too_long() -> StorageError:
    """A body of JSON that nobody needs."""
    message = "Request body is too large"
    return StorageError(413, "EntityTooLarge", message, error="FastifyError", http_status=413)


def invalid_parameter(message: str) -> StorageError:
    return StorageError(400, "InvalidParameter", message)


def no_such_route(method: str, target: str) -> StorageError:
    return StorageError(404, "InvalidRequest", f"Route {method}:{target} not found", error="Not Found", http_status=404)


def invalid_role() -> StorageError:
    return StorageError(403, "AccessDenied", "Access denied: Invalid role", error="Unauthorized", http_status=403)


def internal() -> StorageError:
    return StorageError(500, "InternalError", "Internal Server Error", error="Internal")


def invalid_range() -> StorageError:
    return StorageError(416, "InvalidRange", "invalid range provided", error="invalid_range", http_status=416)


def invalid_token(message: str) -> StorageError:
    return StorageError(400, "InvalidJWT", message)


def invalid_signature(message: str = "Invalid signature") -> StorageError:
    return StorageError(400, "InvalidSignature", message)


def not_supported(feature: str) -> StorageError:
    """What this gateway leaves to the real server: an HTTP 501, which the real one never answers."""
    message = f"{feature} is not supported by the embedded Supabase; use `supabase start` or a hosted project for it"
    return StorageError(501, "NotSupported", message, error="Not implemented", http_status=501)


def _timed_out() -> StorageError:
    return StorageError(544, "DatabaseTimeout", "The connection to the database timed out", http_status=544)


def from_database(error: psycopg.Error) -> StorageError:
    """The refusal that the real server makes of a database error."""
    if isinstance(error, PoolTimeout):
        return _timed_out()
    if isinstance(error, psycopg.DataError) and error.sqlstate is None:
        # a value that could not even be sent
        return invalid_request("a text holds a character that Postgres cannot store")
    state = error.sqlstate or ""
    message = error.diag.message_primary or ""
    match state:
        case "42501":
            return access_denied(
                "new row violates row-level security policy" if "row-level security" in message else message
            )
        case "22P02":
            return invalid_parameter(message)
        case "23505":
            return already_exists("ResourceAlreadyExists")
        case "23503" if "is still referenced" in (error.diag.message_detail or ""):
            text = "The resource could not be updated or removed due to a foreign key constraint"
            return StorageError(409, "ResourceReferenced", text)
        case "23503":
            return StorageError(404, "InvalidRequest", "The related resource does not exist")
        case "55P03":
            return resource_locked()
        case "57014":
            return _timed_out()
    log.warning("the database refused with %s: %s", state, message)
    return StorageError(500, "DatabaseError", f"database error, code: {state}")
