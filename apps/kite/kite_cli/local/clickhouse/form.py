"""A form in a body (multipart, RFC 7578) -> parameters: so clients send a statement whose parameters are too long for a URL. Pure."""

from email.parser import BytesParser
from email.policy import HTTP

from kite_cli.local.clickhouse.statement import BadRequest


def form_fields(content_type: str, body: bytes) -> list[tuple[str, str]] | None:
    """The fields of a form in their order; None if the body is none. Raises BadRequest for one that cannot be read, and for files."""
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        return None
    form = BytesParser(policy=HTTP).parsebytes(b"Content-Type: %b\r\n\r\n%b" % (content_type.encode("latin-1"), body))
    if not form.is_multipart() or form.defects:
        raise BadRequest(27, "CANNOT_PARSE_INPUT_ASSERTION_FAILED", "The form in the body cannot be read")
    fields = []
    for part in form.iter_parts():
        name, value = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
        if part.get_filename() is not None:
            raise BadRequest(48, "NOT_IMPLEMENTED", "The local server takes no files: external data are not supported")
        if not isinstance(name, str) or not isinstance(value, bytes):
            raise BadRequest(27, "CANNOT_PARSE_INPUT_ASSERTION_FAILED", "A field of the form has no name")
        fields.append((name, value.decode("utf-8", "replace")))
    return fields
