"""Why did I get a 401? A diagnosis over facts: pure, and without I/O.

Start reading at `_diagnosis`: a `Diagnosis` ranks what `Cause`s find in `Facts`. Facts come from a response in hand
(`explain`) or from an examination (`examine`), which says what to probe and is told the answers; ``tokenflow doctor``
sends them. What a cause is and finds is in `_findings`.
Each cause is a small class in `causes`, whose `table()` is their list. `_front` is what a front end needs besides.
"""

from ._diagnosis import Diagnosis, diagnose
from ._examination import MAX_PROBES, examine, plan
from ._explain import explain
from ._facts import Exchange, Expected, Facts, Fields, Refusal
from ._findings import Cause, Certainty, Finding
from ._probes import Probe, Question
from ._readings import Reading, read_token
from ._sent import Sent, sent_in

__all__ = [
    "MAX_PROBES", "Cause", "Certainty", "Diagnosis", "Exchange", "Expected", "Facts", "Fields", "Finding", "Probe",
    "Question", "Reading", "Refusal", "Sent", "diagnose", "examine", "explain", "plan",
    "read_token", "sent_in",
]  # fmt: skip
