"""What was seen where no usable answer came, found in httpx's errors and their causes; and what to do about it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from http import HTTPStatus

import httpx

from classify_batch.llamacloud.failures import Symptom
from classify_batch.llamacloud.response_parser import NotHttpError
from classify_batch.llamacloud.tunnel import BrokenTunnelError, ProxyRefusedError
from classify_batch.settings.tls_files import CERTIFICATES_FILE

# The first that fits counts: ConnectTimeout is a TimeoutException too, and everything is an HTTPError.
_BY_ERROR: tuple[tuple[type[httpx.HTTPError], Symptom], ...] = (
    (httpx.ConnectError, Symptom.NO_CONNECTION),
    (httpx.ConnectTimeout, Symptom.NO_CONNECTION),
    (httpx.PoolTimeout, Symptom.NO_CONNECTION),
    (httpx.ProxyError, Symptom.NO_CONNECTION),
    (httpx.UnsupportedProtocol, Symptom.NO_CONNECTION),
    (httpx.TimeoutException, Symptom.TIMEOUT),
    (httpx.DecodingError, Symptom.UNREADABLE),
    (httpx.HTTPError, Symptom.NO_ANSWER),
)

_ALERTS_IN_HANDSHAKE = (
    "_ALERT_BAD_CERTIFICATE",
    "_ALERT_CERTIFICATE_REQUIRED",
    "_ALERT_HANDSHAKE_FAILURE",
    "_ALERT_INSUFFICIENT_SECURITY",
    "_ALERT_PROTOCOL_VERSION",
)
"""How `ssl` ends the name of an alert by which a server says that this client will not do, now or later."""

_ALERTS_BEHIND_HANDSHAKE = ("_ALERT_CERTIFICATE_REQUIRED",)
"""TLS 1.3 looks at the client's certificate when the client is done already: the alert is the first that is read. Any
other alert may break a connection that was in use."""

_PLAIN_ANSWERS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
"""How `ssl` calls it when the first answer in a handshake is plain text, such as HTTP."""

_LATER_HINT = "the API can't be reached now; the same command goes on later"
UNREADABLE_HINT = "something between here and the API answers in its place; the same command goes on later"
_UNTRUSTED_HINT = (
    f"let {CERTIFICATES_FILE} name a file with the certificate of the authority that signed it (a company's proxy "
    "often has its own); check api.base_url and this machine's clock, then give the same command"
)
_TLS_REFUSED_HINT = (
    "it may want a client's certificate, which can't be given here, or speak old versions of TLS only: check "
    "api.base_url and HTTPS_PROXY, or ask who runs it for another way; then give the same command"
)
_NO_TLS_HINT = (
    "check host and port of api.base_url; if HTTPS_PROXY begins with https://, try http://, which most proxies want: "
    "what goes to the API is encrypted all the same; then give the same command"
)
_LOGIN_HINT = "put user and password into its URL (http://user:password@host:port), then give the same command"
_LOGIN_REFUSED_HINT = (
    "correct the user and the password in its URL (special characters as %XX), and use a proxy that takes them "
    "(Basic), not NTLM or Kerberos only; then give the same command"
)
_DENIED_HINT = "let the proxy allow the API's host, or name that host in NO_PROXY, then give the same command"


def find_symptom(error: httpx.HTTPError) -> tuple[Symptom, str]:
    """What an error shows, and the hint that follows."""
    if isinstance(error, httpx.ConnectError) and _has_cause(error, ssl.SSLCertVerificationError):
        return Symptom.UNTRUSTED, _UNTRUSTED_HINT
    if _refuses_tls(error):
        return Symptom.TLS_REFUSED, _TLS_REFUSED_HINT
    if _meets_plain_text(error):
        return Symptom.NO_TLS, _NO_TLS_HINT
    for cause in _causes_of(error):
        if isinstance(cause, ProxyRefusedError):
            return Symptom.PROXY_REFUSED, _hint_for_refusal(cause)
        if isinstance(cause, NotHttpError):
            return Symptom.UNREADABLE, UNREADABLE_HINT
    return next(symptom for kind, symptom in _BY_ERROR if isinstance(error, kind)), _LATER_HINT


def _refuses_tls(error: httpx.HTTPError) -> bool:
    alerts = _ALERTS_IN_HANDSHAKE if isinstance(error, httpx.ConnectError) else _ALERTS_BEHIND_HANDSHAKE
    reasons = (cause.reason or "" for cause in _causes_of(error) if isinstance(cause, ssl.SSLError))
    return any(reason.endswith(alerts) for reason in reasons)


def _meets_plain_text(error: httpx.HTTPError) -> bool:
    """Whether TLS can't be begun because the other side speaks something else. In a tunnel that may pass by itself."""
    if not isinstance(error, httpx.ConnectError) or _has_cause(error, BrokenTunnelError):
        return False
    reasons = (cause.reason or "" for cause in _causes_of(error) if isinstance(cause, ssl.SSLError))
    return any(reason.endswith(_PLAIN_ANSWERS) for reason in reasons)


def _hint_for_refusal(error: ProxyRefusedError) -> str:
    if error.status != HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return _DENIED_HINT
    return _LOGIN_REFUSED_HINT if error.had_login else _LOGIN_HINT


def _has_cause(error: BaseException, kind: type[BaseException]) -> bool:
    return any(isinstance(cause, kind) for cause in _causes_of(error))


def _causes_of(error: BaseException) -> Iterator[BaseException]:
    cause = error.__cause__
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
