"""The certificate templates of a batch, from ``course_batch.cert_templates``. Pure.

Requests of a batch come many at a time, so the job caches the result of :func:`parse` for some seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from common.domain.events import BadEvent, Refused
from jobs.collection_cert_pre_processor import criteria
from jobs.collection_cert_pre_processor.criteria import Criteria, Value, read_json


class AdditionalProps(msgspec.Struct, frozen=True):
    """What a template asks for in ``related``. Unknown kinds are ignored.

    ``location`` names types of the user's locations, ``enrollment`` columns of the enrolment, ``user`` fields of the
    user. ``score`` in ``assessment`` asks for the percents, any entry in ``course`` for the name of the course.
    """

    location: tuple[str, ...] | None = None
    enrollment: tuple[str, ...] | None = None
    assessment: tuple[str, ...] | None = None
    user: tuple[str, ...] | None = None
    course: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Template:
    """A usable template. ``key`` is its key in the batch; ``identifier`` is its own id, by default the key."""

    key: str
    identifier: str
    name: str
    url: str
    criteria: Criteria
    additional_props: AdditionalProps
    issuer: dict[str, msgspec.Raw]
    signatory_list: list[dict[str, msgspec.Raw]]


@dataclass(frozen=True, slots=True)
class Templates:
    """The templates of a batch: the usable ones, and a fault for each of the others.

    The properties say what has to be fetched for each user.
    """

    usable: tuple[Template, ...]
    faults: tuple[Refused, ...]

    def __bool__(self) -> bool:
        """False if there is no template, or one with a fault: the cache keeps a false value only for a short time."""
        return bool(self.usable) and not self.faults

    @property
    def need_enrolment(self) -> bool:
        """Whether the user's row of ``user_enrolments`` is needed."""
        return any(template.criteria.enrolment_status is not None for template in self.usable)

    @property
    def enrolment_columns(self) -> tuple[str, ...]:
        """The columns of ``user_enrolments`` that messages need, in lower case, sorted.

        The names come from the author of the template. They are looked up among the table's columns, and never become
        part of a statement.
        """
        return tuple(
            sorted(
                {
                    column.lower()
                    for template in self.usable
                    if template.criteria.enrolment_status is not None
                    for column in template.additional_props.enrollment or ()
                }
            )
        )

    @property
    def need_aggregates(self) -> bool:
        """Whether the user's row of ``user_activity_agg``, and the type of each content with a score, are needed."""
        return any(template.criteria.score for template in self.usable)


_ADDITIONAL_PROPS = msgspec.json.Decoder(AdditionalProps | None)
_ISSUER = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)
_SIGNATORY_LIST = msgspec.json.Decoder(list[dict[str, msgspec.Raw]] | None)


def parse(batch_id: str, cert_templates: Mapping[str, Mapping[str, str]] | None) -> Templates:
    """Rule C2: the templates of a batch whose ``url`` contains ``.svg``. Null and empty are the same.

    A fault is a Refused ``bad_template`` ("Invalid template for batch : …"): the template has no usable criteria, no
    name (the generator refuses such a request), or a text that is not JSON.
    """
    usable, faults = [], []
    for key, fields in sorted((cert_templates or {}).items()):
        if ".svg" not in fields.get("url", ""):
            continue
        try:
            usable.append(_template(key, fields))
        except BadEvent as error:
            reason = f"Invalid template for batch : {batch_id}: template {key}: {error.reason}"
            faults.append(Refused("bad_template", reason))
    return Templates(tuple(usable), tuple(faults))


def _template(key: str, fields: Mapping[str, str]) -> Template:
    name = fields.get("name", "")
    if not name.strip():
        raise BadEvent("bad_template", "it has no name")
    return Template(
        key=key,
        identifier=fields.get("identifier", "").strip() or key,
        name=name,
        url=fields["url"],
        criteria=criteria.parse(fields.get("criteria", "")),
        additional_props=_optional(_ADDITIONAL_PROPS, fields, "additionalProps") or AdditionalProps(),
        issuer=_optional(_ISSUER, fields, "issuer") or {},
        signatory_list=_optional(_SIGNATORY_LIST, fields, "signatoryList") or [],
    )


def _optional(decoder: msgspec.json.Decoder[Value | None], fields: Mapping[str, str], field: str) -> Value | None:
    text = fields.get(field, "")
    return read_json(decoder, text, field) if text.strip() else None
