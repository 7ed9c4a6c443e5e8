from __future__ import annotations

from doctor.rig import Case, Reply, refusing

CASES = [
    Case("no-credential", refusing(), arguments=("{url}",)),
    Case("", lambda request: Reply() if request.credential else Reply(401), name="healthy: an opaque token"),
]
