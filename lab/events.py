"""Events about Services, as controllers of load balancers write them."""

from datetime import UTC, datetime
from typing import Literal
from uuid import uuid4

from lightkube import AsyncClient
from lightkube.core.exceptions import ApiError
from lightkube.models.core_v1 import EventSource, ObjectReference
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Event, Service

GONE = (403, 404)
"""What the API server answers when the namespace ends, or has ended."""


async def say(
    client: AsyncClient, it: Service, kind: Literal["Normal", "Warning"], reason: str, message: str, *, source: str
) -> None:
    """Write an event about a Service; `source` is who says it."""
    metadata, now = it.metadata or ObjectMeta(), datetime.now(UTC)
    name, namespace = metadata.name or "", metadata.namespace or ""
    event = Event(
        ObjectReference("v1", kind="Service", name=name, namespace=namespace, uid=metadata.uid),
        ObjectMeta(name=f"{name}.{uuid4().hex[:16]}", namespace=namespace),
        type=kind,
        reason=reason,
        message=message,
        count=1,
        firstTimestamp=now,
        lastTimestamp=now,
        source=EventSource(source),
    )
    try:
        await client.create(event)
    except ApiError as error:
        if error.status.code not in GONE:
            raise
