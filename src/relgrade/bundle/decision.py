"""What decides in a bundle, as JSON and back: the calibration, the operating points, and what goes with them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from relgrade.bundle import strict_json
from relgrade.bundle.fields import checked_fields, listed, mapping, number, require, require_text
from relgrade.records import (
    Calibration,
    CollectionPoints,
    Collections,
    ListCalibration,
    OperatingPoint,
    Promise,
    VerdictPoints,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What calibration found, before there is a bundle around it. The first point is the default."""

    calibration: Calibration
    operating_points: tuple[OperatingPoint, ...]
    verdict_points: VerdictPoints | None = None  # None: a verdict is that of the operating point, never "unsure"
    collections: Collections | None = None  # None: every document gets the pooled calibration and points
    any_relevant: ListCalibration | None = None  # None: not fitted
    left_out_points: tuple[Mapping[str, Any], ...] = ()  # JSON: points asked for that no threshold keeps, and why

    def __post_init__(self) -> None:
        check_decision(self)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; the fields are those of the manifest."""
        return decision_to_json(self)

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Inverse of `to_json`.

        Raises:
            InvalidInput: a field is missing, unknown, of the wrong type or out of range.
        """
        return cls(**decision_from_json(checked_fields(cls, data, "the calibration")))


DECISION_FIELDS = tuple(item.name for item in fields(Decision))
# A bundle written before these were thought of is read as one that has none.
LATER_FIELDS = ("verdict_points", "collections", "any_relevant", "left_out_points")


def check_decision(holder: Any) -> None:
    """Check the fields of a decision against each other.

    Args:
        holder: has the attributes `DECISION_FIELDS`: a Decision or a Manifest.

    Raises:
        InvalidInput: a name that is blank, occurs twice or is none of the points, or something that is no JSON.
    """
    names = [point.name for point in holder.operating_points]
    require(len(names) > 0, "a grader needs an operating point")
    _check_points(names, holder.operating_points)
    if holder.verdict_points is not None:
        for name in (holder.verdict_points.upper, holder.verdict_points.lower):
            require(name in names, f"verdict_points names {name!r}, which is none of {names}")
    for member in holder.collections.members if holder.collections is not None else ():
        own = [point.name for point in member.operating_points]
        require(own == names, f"the points of the collection {member.value!r} are {own}, expected {names}")
        _check_points(own, member.operating_points)
    strict_json.plain(holder.calibration.evidence, "calibration.evidence")
    strict_json.plain(holder.left_out_points, "left_out_points")


def _check_points(names: Sequence[str], points: Sequence[OperatingPoint]) -> None:
    for point in points:
        require_text("the name of an operating point", point.name)
        strict_json.plain(point.evidence, f"operating_points.{point.name}.evidence")
    require(len(set(names)) == len(names), f"two operating points have one name: {list(names)}")


def decision_to_json(holder: Any) -> dict[str, Any]:
    """The attributes `DECISION_FIELDS` of a Decision or a Manifest, as plain JSON."""
    found = {name: getattr(holder, name) for name in DECISION_FIELDS}
    found["operating_points"] = [asdict(point) for point in holder.operating_points]
    for name in ("calibration", "verdict_points", "collections", "any_relevant"):
        found[name] = None if found[name] is None else asdict(found[name])
    return {name: strict_json.plain(value, name) for name, value in found.items()}


def decision_from_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same mapping with records in place of the JSON of `DECISION_FIELDS`.

    Raises:
        InvalidInput: a field is missing, unknown, of the wrong type or out of range; says where.
    """
    found = dict(values)
    found["calibration"] = _calibration(values["calibration"], "calibration")
    found["operating_points"] = _points(values["operating_points"], "operating_points")
    readers = {"verdict_points": _verdict_points, "collections": _collections, "any_relevant": _list_calibration}
    for name, read in readers.items():
        found[name] = None if values.get(name) is None else read(values[name], name)
    left_out = listed(values.get("left_out_points", []), "left_out_points")
    found["left_out_points"] = tuple(mapping(entry, "left_out_points") for entry in left_out)
    return found


def _calibration(data: Any, place: str) -> Calibration:
    values = checked_fields(Calibration, data, place)
    for name in ("slope", "intercept", "prevalence"):
        if values.get(name) is not None:
            values[name] = number(values[name], f"{place}.{name}")
    require(isinstance(values.get("method", ""), str), f"{place}.method must be a string")
    mapping(values.get("evidence", {}), f"{place}.evidence")
    knots = []
    for i, knot in enumerate(listed(values.get("knots", []), f"{place}.knots")):
        pair = listed(knot, f"{place}.knots[{i}]")
        require(len(pair) == 2, f"{place}.knots[{i}] must be a logit and its log-odds, got {pair!r}")
        knots.append((number(pair[0], f"{place}.knots[{i}]"), number(pair[1], f"{place}.knots[{i}]")))
    return Calibration(**{**values, "knots": tuple(knots)})


def _points(data: Any, place: str) -> tuple[OperatingPoint, ...]:
    return tuple(_point(entry, f"{place}[{i}]") for i, entry in enumerate(listed(data, place)))


def _point(data: Any, place: str) -> OperatingPoint:
    values = checked_fields(OperatingPoint, data, place)
    values["threshold"] = number(values["threshold"], f"{place}.threshold")
    require(isinstance(values["name"], str), f"{place}.name must be a string")
    mapping(values.get("evidence", {}), f"{place}.evidence")
    if values.get("promise") is not None:
        values["promise"] = Promise(**checked_fields(Promise, values["promise"], f"{place}.promise"))
    return OperatingPoint(**values)


def _verdict_points(data: Any, place: str) -> VerdictPoints:
    values = checked_fields(VerdictPoints, data, place)
    for name, value in values.items():
        require_text(f"{place}.{name}", value)
    return VerdictPoints(**values)


def _collections(data: Any, place: str) -> Collections:
    values = checked_fields(Collections, data, place)
    require_text(f"{place}.field", values["field"])
    members = []
    for i, entry in enumerate(listed(values["members"], f"{place}.members")):
        own = f"{place}.members[{i}]"
        member = checked_fields(CollectionPoints, entry, own)
        require_text(f"{own}.value", member["value"])
        calibration = _calibration(member["calibration"], f"{own}.calibration")
        points = _points(member["operating_points"], f"{own}.operating_points")
        members.append(CollectionPoints(member["value"], calibration, points))
    return Collections(values["field"], tuple(members))


def _list_calibration(data: Any, place: str) -> ListCalibration:
    values = checked_fields(ListCalibration, data, place)
    evidence = mapping(values.pop("evidence", {}), f"{place}.evidence")
    numbers = {name: number(value, f"{place}.{name}") for name, value in values.items()}
    return ListCalibration(**numbers, evidence=evidence)
