"""How good a teacher's labels are, judged by people: samples, an annotation page, agreement, corrected shares, a queue.

Nothing here needs more than a plain installation.
"""

from relgrade.audit.annotations import Annotation, AnnotationLog, read_annotations
from relgrade.audit.cases import AuditSample, Case, SampleKey, draw_sample, read_cases, read_key, write_cases, write_key
from relgrade.audit.findings import AuditReport
from relgrade.audit.ppi import Audited, CorrectedShare, share_found, share_relevant
from relgrade.audit.relabel import apply_corrections, relabel_queue
from relgrade.audit.report import StudentVerdicts, audit_labels
from relgrade.audit.suspects import Suspicion, suspect_labels

__all__ = [
    "Annotation",
    "AnnotationLog",
    "AuditReport",
    "AuditSample",
    "Audited",
    "Case",
    "CorrectedShare",
    "SampleKey",
    "StudentVerdicts",
    "Suspicion",
    "apply_corrections",
    "audit_labels",
    "draw_sample",
    "read_annotations",
    "read_cases",
    "read_key",
    "relabel_queue",
    "share_found",
    "share_relevant",
    "suspect_labels",
    "write_cases",
    "write_key",
]
