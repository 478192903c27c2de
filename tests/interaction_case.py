"""A bundle of a tiny interaction student, for tests of what runs it."""

from relgrade.bundle import GoldenPair, Manifest, goldens_to_bytes, write_bundle
from relgrade.export.interaction import HEAD_NAME, INT8_NAME, LIST_HEAD_NAME
from relgrade.records import Calibration, OperatingPoint


def write_interaction_bundle(folder, student, graphs, *, has_list_head=True):
    """Write the exported graphs of a student; returns the bundle. Older bundles had no list head."""
    heads = {"head": HEAD_NAME} | ({"list_head": LIST_HEAD_NAME} if has_list_head else {})
    manifest = Manifest(
        name="tiny",
        architecture="interaction",
        rubric="answer-bearing",
        graphs={"encoder": INT8_NAME, **heads},
        template=student.template.to_json(),
        calibration=Calibration(),
        operating_points=(OperatingPoint("balanced", 0.5),),
        default_point="balanced",
        relgrade_version="0",
    )
    files = {
        INT8_NAME: graphs.int8,
        **{name: getattr(graphs, role) for role, name in heads.items()},
        "tokenizer.json": student.tokenizer.to_str().encode(),
        "goldens.jsonl": goldens_to_bytes([GoldenPair("red", "red", 0.0)]),
    }
    return write_bundle(folder, manifest, files)
