"""AWS's protocols from the server's side: HTTP requests as calls, answers as HTTP responses.

Reading requests and writing answers is moto's work; in CBOR, which moto does not have, botocore's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import quote
from xml.sax.saxutils import escape

from botocore.exceptions import ClientError
from botocore.model import DenormalizedStructureBuilder
from botocore.parsers import RpcV2CBORParser
from botocore.serialize import RpcV2CBORSerializer
from botocore.utils import parse_to_aware_datetime
from moto.core.parse import PROTOCOL_PARSERS, JSONParser
from moto.core.request import Request, determine_request_protocol
from moto.core.routing import get_service_router
from moto.core.serialize import DefaultAttributePicker, SerializationContext, get_serializer_class
from moto.core.utils import get_service_model

from apigw_canary.testing.answers import Json, RehearsalError, Response

_SERVICES = {"monitoring": "cloudwatch", "states": "stepfunctions"}
"""boto3's names of services that sign their requests with another one."""

_CBOR = "rpc-v2-cbor"
_ERROR = (
    DenormalizedStructureBuilder()
    .with_members({"__type": {"type": "string"}, "message": {"type": "string"}})
    .build_model()
)


class Received(NamedTuple):
    """A call that came over HTTP."""

    service: str
    """boto3's name of the service."""
    # moto's models are not typed.
    model: Any
    protocol: str
    parameters: Json

    @property
    def operation(self) -> str:
        """The API's name of the operation."""
        return str(self.model.name)


def received(method: str, url: str, headers: Mapping[str, str], body: bytes) -> Received:
    """The call that a request is; RehearsalError if it is none that is understood."""
    request = Request.from_primitives(method, url, headers, body)
    signature = request.headers.get("Authorization", "")
    scope = re.search(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/", signature)
    if scope is None:
        raise RehearsalError(
            "the service that is called is read from the request's signature, and this one has "
            f"none: {method} {request.raw_path}"
        )
    service = _SERVICES.get(scope[1], scope[1])
    if service == "apigateway" and request.path.startswith("/v2/"):
        service = "apigatewayv2"
    try:
        protocol, model, path = _addressed(service, request)
        parameters = _parameters(request, protocol, model, path)
    except RehearsalError:
        raise
    except Exception as error:
        raise RehearsalError(
            f"no call of {service} is understood in {method} {request.raw_path}: {error!r}"
        ) from error
    return Received(service, model, protocol, parameters)


def _addressed(service: str, request: Request) -> tuple[str, Any, dict[str, str]]:
    """Protocol, operation, and the parameters in the path."""
    if request.headers.get("smithy-protocol") == _CBOR:
        operation = request.path.rpartition("/")[2]
        return _CBOR, get_service_model(service).operation_model(operation), {}
    model, path = get_service_router(service).match(request)
    return determine_request_protocol(model.service_model, request.content_type), model, path


def _parameters(request: Request, protocol: str, model: Any, path: dict[str, str]) -> Json:
    shape = model.input_shape
    if shape is None:
        return {}
    if protocol == _CBOR:
        decoder: Any = RpcV2CBORParser()
        sent = decoder._initial_body_parse(request.data) or {}  # noqa: SLF001
        _check_known(model, sent)
        parser: Any = JSONParser(model, parse_to_aware_datetime, lambda blob: blob)
        parsed: Json = parser._parse_shape(shape, sent)  # noqa: SLF001
        return parsed
    if protocol == "query":
        names = {name.partition(".")[0] for name in request.values}
        _check_known(model, names - {"Action", "Version"})
    elif "payload" not in shape.serialization:
        names = {*request.args, *json.loads(request.data or b"{}")}
        fixed = model.http_trait.query_args if protocol == "rest-json" else ()
        _check_known(model, names - {*fixed})
    parsed = PROTOCOL_PARSERS[protocol](model, parse_to_aware_datetime).parse(
        {
            "body": request.data,
            "headers": request.headers,
            "method": request.method,
            "url_params": path,
            "url_path": request.path,
            "values": request.values,
        }
    )
    # A list that is not in the query string is an empty one to moto.
    in_query = {
        name
        for name, each in shape.members.items()
        if each.serialization.get("location") == "querystring"
    }
    return {name: value for name, value in parsed.items() if value != [] or name not in in_query}


def _check_known(model: Any, sent: Collection[str]) -> None:
    """Refuse parameters that botocore here does not know; a parser would leave them out."""
    members = model.input_shape.members.items()
    known = {shape.serialization.get("name", name) for name, shape in members}
    if extra := sorted(set(sent) - known):
        raise RehearsalError(f"botocore's {model.name} here has no {', '.join(extra)}")


def answered(call: Received, answer: Json, request_id: str) -> Response:
    """The response that carries this answer to the caller."""
    if call.protocol == _CBOR:
        return _in_cbor(HTTPStatus.OK, answer, call.model.output_shape)
    serializer = get_serializer_class(call.service, call.protocol)(
        call.model, SerializationContext(request_id), value_picker=_Picker()
    )
    response = serializer.serialize(answer)
    body = response["body"]
    return Response(
        response["status_code"],
        response["headers"],
        body.encode() if isinstance(body, str) else body,
    )


def _in_cbor(status: int, content: Json, shape: Any) -> Response:
    body = bytearray()
    if shape is not None:
        members = {name: value for name, value in content.items() if name in shape.members}
        serializer: Any = RpcV2CBORSerializer()
        serializer._serialize_data_item(body, members, shape)  # noqa: SLF001
    headers = {"Content-Type": "application/cbor", "smithy-protocol": _CBOR}
    return Response(status, headers, bytes(body))


class _Picker(DefaultAttributePicker):
    """The members of an answer of boto3, as they were before boto3 converted them."""

    def __call__(self, context: Any) -> Any:
        value = super().__call__(context)
        if isinstance(value, dict) and context.shape.type_name == "string":
            return quote(json.dumps(value))  # a policy document of IAM
        return value


def refused(call: Received, error: ClientError) -> Response:
    """The response that carries this refusal to the caller."""
    said: Json = dict(error.response)
    code, message = said["Error"]["Code"], said["Error"].get("Message", "")
    status = said["ResponseMetadata"]["HTTPStatusCode"]
    sender = "Sender" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "Receiver"
    if call.protocol in {"query", "rest-xml"}:
        told = f"<Type>{sender}</Type><Code>{code}</Code><Message>{escape(message)}</Message>"
        xml = f"<ErrorResponse><Error>{told}</Error></ErrorResponse>"
        return Response(status, {"Content-Type": "text/xml"}, xml.encode())
    content = {"__type": code, "message": message}
    response = Response(status, {"Content-Type": "application/json"}, json.dumps(content).encode())
    if call.protocol == _CBOR:
        response = _in_cbor(status, content, _ERROR)
    headers = {**response.headers, "X-Amzn-Errortype": code}
    if "awsQueryCompatible" in call.model.service_model.metadata:
        headers["x-amzn-query-error"] = f"{code};{sender}"
    for shape in call.model.error_shapes:
        for name, member in shape.members.items() if shape.name == code else ():
            if name in said and member.serialization.get("location") == "header":
                headers[member.serialization["name"]] = str(said[name])
    return response._replace(headers=headers)
