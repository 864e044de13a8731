"""What a provider's answer means for a job: the one table, and the rule for when to ask again.

Nothing is retried here and the SDKs' own retries are off. A provider that is down or over its limit
becomes Throttled, which costs the job nothing and makes it wait in the queue as long as the provider
asked for; a retry inside one listener would only add load to a provider that asked for less.

    answer                                   OpenAI                       LlamaParse
    ─────────────────────────────────────────────────────────────────────────────────────────────
    401, 403                                 Misconfigured                Misconfigured
    402; 429 insufficient_quota              Misconfigured (no credit)    Misconfigured (no credit)
    404, 405; 400 that blames a setting      Misconfigured                Misconfigured
    408, 409, 425, 429, 5xx                  Throttled                    Throttled
    no connection, a time-out                Throttled                    Throttled
    400, 413, 415, 422 otherwise             the passage: Permanent       the file: Permanent
    200 with a body that makes no sense      Transient                    Transient
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from pipeline.errors import JobError, Misconfigured, Permanent, Throttled, Transient

OUTAGE_SECONDS = 10.0
"""How long a stage rests after an outage that came without a `Retry-After`."""
LONGEST_REST_SECONDS = 3600.0
MOST_BILLED = 1e7
"""Tokens or credits of one call; what tells of more is broken, and one such answer must not spend a month's budget."""

SERVICE = {"openai": "embedding service", "llamaparse": "parsing service"}
"""What the owner of a file calls the provider."""

KEY = {
    "openai": "UPLOAD_PIPELINE_OPENAI_API_KEY",
    "llamaparse": "UPLOAD_PIPELINE_LLAMAPARSE_API_KEY",
    "storage": "UPLOAD_PIPELINE_SUPABASE_SERVICE_ROLE_KEY",
}
URL = {"openai": "UPLOAD_PIPELINE_OPENAI_BASE_URL", "llamaparse": "UPLOAD_PIPELINE_LLAMAPARSE_BASE_URL"}

REGION = {"llamaparse": "UPLOAD_PIPELINE_LLAMAPARSE_REGION"}

NO_CREDIT = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
SETTING_CODES = {"model_not_found", "invalid_model", "unsupported_country_region_territory", "unknown_parameter"}
SETTING_PARAMS = {"model", "dimensions", "encoding_format", "configuration", "tier", "version"}
BUSY = {408, 409, 425, 429}
REFUSED = {400, 413, 415, 422}


class PassageRefused(Permanent):
    """One text can never be embedded; `index` is its place in the `texts` of the call, from 0."""

    def __init__(self, message: str, *, index: int, detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.index = index


class Refused(Permanent):
    """The provider refused what it was sent and blames no setting; `status` is the HTTP status."""

    def __init__(self, message: str, *, status: int, detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.status = status


def job_error(provider: str, error: BaseException) -> JobError:
    """The JobError for whatever the provider's SDK or its transport raised.

    Both SDKs come from the same generator, so one reading of their exceptions serves both: a `status_code`
    and `response` where the server answered, a class named APIConnectionError or APITimeoutError where not.
    """
    if isinstance(error, JobError):
        return error
    status = getattr(error, "status_code", None)
    names = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(status, int) and status >= HTTPStatus.MULTIPLE_CHOICES:
        headers = getattr(getattr(error, "response", None), "headers", None) or {}
        return answered(provider, status, headers, getattr(error, "body", None))
    if "APIResponseValidationError" in names:
        return malformed(provider, "the body does not have the documented shape")
    if isinstance(error, TimeoutError) or names & {"APITimeoutError", "TimeoutException"}:
        return outage(provider, "no answer in time")
    if isinstance(error, OSError) or names & {"APIConnectionError", "TransportError"}:
        cause = type(error.__cause__ or error).__name__
        return outage(provider, f"no connection ({cause})", may_be_bought=not cause.startswith("Connect"))
    return malformed(provider, type(error).__name__)


def answered(provider: str, status: int, headers: Mapping[str, str], body: object) -> JobError:
    """The JobError for an HTTP answer with an error status; `body` is the decoded JSON, or text, or None."""
    code, param = _code(body), _param(body)
    service = SERVICE.get(provider, provider)
    detail = f"{provider} answered {status}" + (f" {code}" if code else "")
    if request_id := _word(headers.get("x-request-id")):
        detail += f", request {request_id}"
    if status in (401, 403):
        return _waits(
            provider,
            f"the {service} refused this installation's key",
            f"{detail}: check {KEY.get(provider)}"
            + (f", and {REGION[provider]}: a key belongs to one region" if provider in REGION else ""),
        )
    if status == HTTPStatus.PAYMENT_REQUIRED or (status == HTTPStatus.TOO_MANY_REQUESTS and code in NO_CREDIT):
        return _waits(
            provider, f"the account at the {service} is out of credit", f"{detail}: add credit, or raise its limit"
        )
    if status in BUSY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        rest = retry_after(headers)
        if rest is None and status != HTTPStatus.TOO_MANY_REQUESTS:
            rest = OUTAGE_SECONDS
        busy = "is busy" if status in BUSY else "is not working at the moment"
        return Throttled(
            f"The {service} {busy}; this file continues by itself.",
            provider=provider,
            retry_after=rest,
            detail=detail,
            outage=status not in BUSY,
            limits=limits(headers),
        )
    if status in REFUSED and not (code in SETTING_CODES or param in SETTING_PARAMS):
        return Refused(f"The {service} refused this file.", status=status, detail=detail)
    return settings_refused(provider, f"{detail} about {param}" if param else detail)


def settings_refused(provider: str, detail: str) -> Misconfigured:
    """The provider refuses whatever it is sent, so the fault lies in a setting and not in the file."""
    return _waits(
        provider,
        f"the {SERVICE.get(provider, provider)} refused this installation's settings",
        f"{detail}: check {URL.get(provider)} and the model or tier",
    )


def outage(provider: str, detail: str, *, may_be_bought: bool = True) -> Throttled:
    """The provider cannot be reached or does not answer, in which case it may have done the work."""
    return Throttled(
        f"The {SERVICE.get(provider, provider)} cannot be reached at the moment; this file continues by itself.",
        provider=provider,
        retry_after=OUTAGE_SECONDS,
        detail=f"{provider}: {detail}",
        outage=True,
        may_be_bought=may_be_bought,
    )


def malformed(provider: str, detail: str) -> Transient:
    """The provider said 200 and the body cannot be used; nothing of it is kept."""
    return Transient(
        f"The {SERVICE.get(provider, provider)} gave an unusable answer; it will be asked again.",
        detail=f"{provider}: {detail}",
    )


def price_wanted(missing: str) -> str:
    """What an operator does about a price that the SQL function `missing_price` names."""
    return f"Run `pipeline prices set {missing} DOLLARS`, with 0 where it costs nothing."


def billed(told: object) -> float | None:
    """What a provider says that it billed, in its own unit; None where that is no amount, and our own count stands."""
    amount = told if isinstance(told, int | float) else None
    return amount if amount is not None and 0 <= amount <= MOST_BILLED else None


def limits(headers: Mapping[str, str]) -> dict[str, float]:
    """What an answer tells of the provider's limits: `limit-` and `remaining-`, each of `requests` and `tokens`."""
    names = (f"{what}-{kind}" for kind in ("requests", "tokens") for what in ("limit", "remaining"))
    told = {name: headers.get(f"x-ratelimit-{name}", "") for name in names}
    return {name: float(value) for name, value in told.items() if re.fullmatch(r"[0-9]{1,12}", value)}


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the provider asks us to wait, 0 to LONGEST_REST_SECONDS; None where it does not say.

    A date is compared with the answer's own `Date`, so that this machine's clock decides nothing. The longest of
    OpenAI's `x-ratelimit-reset-*` counts only where there is no `retry-after`.
    """
    seconds: float | None = None
    if (value := headers.get("retry-after-ms")) and (number := _number(value)) is not None:
        seconds = number / 1000
    elif value := headers.get("retry-after"):
        seconds = _number(value)
        if seconds is None:
            seconds = _between(headers.get("date"), value)
    if seconds is None:
        spent = [
            reset
            for kind in ("requests", "tokens")
            if headers.get(f"x-ratelimit-remaining-{kind}") == "0"
            and (reset := _duration(headers.get(f"x-ratelimit-reset-{kind}", ""))) is not None
        ]
        seconds = max(spent, default=None)
    return None if seconds is None else min(max(seconds, 0.0), LONGEST_REST_SECONDS)


def _waits(provider: str, why: str, detail: str) -> Misconfigured:
    return Misconfigured(
        f"Waiting for the operator: {why}. The file is fine and continues when that is mended.",
        provider=provider,
        detail=detail,
    )


def _code(body: object) -> str | None:
    """The machine-readable word of an error body, never its free text: that may quote the file."""
    for part in (body, _inner(body)):
        if isinstance(part, dict):
            for key in ("code", "error_code", "type"):
                if value := _word(part.get(key)):
                    return value
    return None


def _word(told: object) -> str | None:
    """A name or an id that a provider tells; None for anything that could be a text."""
    return told if isinstance(told, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}", told) else None


def _param(body: object) -> str | None:
    """The setting that an error body blames: OpenAI's `param`, or the `loc` of a validation error."""
    for part in (body, _inner(body)):
        if isinstance(part, dict) and (param := _word(part.get("param"))):
            return param
    detail: Any = body.get("detail") if isinstance(body, dict) else None
    if isinstance(detail, list):
        for fault in detail:
            place = fault.get("loc") if isinstance(fault, dict) else None
            for part in place if isinstance(place, list) else ():
                if isinstance(part, str) and part in SETTING_PARAMS:
                    return part
    return None


def _inner(body: object) -> object:
    return (body.get("error") or body.get("detail")) if isinstance(body, dict) else None


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\s*\d{1,9}(\.\d{1,9})?\s*", text) else None


def _between(start: str | None, end: str) -> float | None:
    try:
        return (parsedate_to_datetime(end) - parsedate_to_datetime(start or "")).total_seconds()
    except (TypeError, ValueError):
        return None


def _duration(text: str) -> float | None:
    """Seconds in a duration such as `6m0s` or `20ms`."""
    if not re.fullmatch(r"(\d+(\.\d+)?(h|ms|m|s))+", text):
        return None
    unit = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    return sum(float(n) * unit[u] for n, _, u in re.findall(r"(\d+(\.\d+)?)(h|ms|m|s)", text))
