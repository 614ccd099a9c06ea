"""Copy: artifacts with everything said about them, from one place to another, moving only what is missing there.

    plan      what the other side lacks, blob by blob
    segments  which of that travels as packed segments
    moving    blobs on the move, several at once
    places    to and from tagged places: OCI layouts, OCI registries
    homes     between registries of ours

Nothing names what was moved before all of it is there and was compared with its digest: no version, no tag. What is
complete stays when a copy is interrupted, and so does the beginning of a large blob where the target can keep it.
"""

from assay.service.transfer.homes import Brought, bring, keep_number, plan_bring
from assay.service.transfer.moving import Figures
from assay.service.transfer.places import Copied, choose_tag, copy_in, copy_out, plan_in, plan_out
from assay.service.transfer.plan import Coming, Plan

__all__ = [
    "Brought",
    "Coming",
    "Copied",
    "Figures",
    "Plan",
    "bring",
    "choose_tag",
    "copy_in",
    "copy_out",
    "keep_number",
    "plan_bring",
    "plan_in",
    "plan_out",
]
