"""Cloud Storage, for reading: the JSON API's objects and lists, and the XML API's objects.

Statuses and messages are Google's: https://cloud.google.com/storage/docs/json_api/v1/status-codes and
https://cloud.google.com/storage/docs/xml-api/reference-status.
"""

import json
import re
from dataclasses import replace
from urllib.parse import unquote
from xml.sax.saxutils import escape

from lab.google.iam import Bucket, Project, Tokens, allows
from lab.web import Answer, Request

JSON_PATH = re.compile(r"(?:/download)?/storage/v1/b/(?P<bucket>[^/]+)/o(?:/(?P<object>[^/]+))?")
XML_PATH = re.compile(r"/(?P<bucket>[^/]+)/(?P<object>.+)")


class Refused(Exception):
    """A request that is not met."""

    def __init__(self, status: int, reason: str, code: str, message: str) -> None:
        """`reason` is the JSON API's word for it, `code` the XML API's."""
        super().__init__(message)
        self.status, self.reason, self.code, self.message = status, reason, code, message

    def as_json(self) -> Answer:
        item = {"message": self.message, "domain": "global", "reason": self.reason}
        body = {"error": {"code": self.status, "message": self.message, "errors": [item]}}
        headers = {"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/"'} if self.status == 401 else {}
        return _json(body, self.status, headers)

    def as_xml(self) -> Answer:
        body = f"<Error><Code>{self.code}</Code><Message>{escape(self.message)}</Message></Error>"
        # The XML API refuses an unknown caller with the same status as a known one.
        status = 403 if self.code == "AccessDenied" else self.status
        return Answer(status, f"<?xml version='1.0' encoding='UTF-8'?>{body}", "application/xml; charset=UTF-8")


def answer(project: Project, tokens: Tokens, request: Request) -> Answer:
    """The answer to one request, by its bearer token and the bucket's policy."""
    if request.path == "/generate_204":  # "are you there?"
        return Answer(204)
    match = JSON_PATH.fullmatch(request.path)
    is_json = match is not None
    match = match or XML_PATH.fullmatch(request.path)
    if match is None:
        return Answer(404, "Not Found\n")
    bucket, name = unquote(match["bucket"]), unquote(match["object"] or "")
    caller = ""
    try:
        caller = _caller(tokens, request)
        if not name:
            found = _list(_bucket(project, bucket, caller, "storage.objects.list", "bucket"), bucket, request)
        else:
            text = _object(_bucket(project, bucket, caller, "storage.objects.get", "object"), bucket, name)
            as_data = not is_json or request.query.get("alt") == "media"
            found = Answer(200, text, "application/octet-stream") if as_data else _json(_resource(bucket, name, text))
    except Refused as refused:
        found = refused.as_json() if is_json else refused.as_xml()
    return replace(found, caller=caller or "anonymous")


def _caller(tokens: Tokens, request: Request) -> str:
    """Whom the request's token names; empty without one."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if not scheme:
        return ""
    if not request.secure:
        raise Refused(403, "sslRequired", "AccessDenied", "SSL is required to perform this operation.")
    account = tokens.account(token.strip()) if scheme.lower() == "bearer" else None
    if account is None:
        raise Refused(401, "authError", "AuthenticationRequired", "Invalid Credentials")
    return account


def _bucket(project: Project, name: str, caller: str, permission: str, what: str) -> Bucket:
    bucket = project.buckets.get(name)
    if bucket is None and caller:
        raise Refused(404, "notFound", "NoSuchBucket", "The specified bucket does not exist.")
    if bucket is None or not allows(bucket.policy, caller, permission):
        message = (
            f"{caller or 'Anonymous caller'} does not have {permission} access to the Google Cloud Storage {what}. "
            f"Permission '{permission}' denied on resource (or it may not exist)."
        )
        status, reason = (403, "forbidden") if caller else (401, "required")
        raise Refused(status, reason, "AccessDenied", message)
    return bucket


def _object(bucket: Bucket, bucket_name: str, name: str) -> str:
    if name not in bucket.objects:
        raise Refused(404, "notFound", "NoSuchKey", f"No such object: {bucket_name}/{name}")
    return bucket.objects[name]


def _list(bucket: Bucket, name: str, request: Request) -> Answer:
    prefix = request.query.get("prefix", "")
    items = [_resource(name, it, text) for it, text in sorted(bucket.objects.items()) if it.startswith(prefix)]
    return _json({"kind": "storage#objects", "items": items} if items else {"kind": "storage#objects"})


def _resource(bucket: str, name: str, text: str) -> dict[str, str]:
    return {
        "kind": "storage#object",
        "id": f"{bucket}/{name}",
        "name": name,
        "bucket": bucket,
        "contentType": "application/octet-stream",
        "size": str(len(text.encode())),
    }


def _json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, json.dumps(content, indent=2) + "\n", "application/json; charset=UTF-8", headers or {})
