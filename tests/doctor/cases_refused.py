"""Credentials that are spelt right and are not the right ones."""

from __future__ import annotations

from doctor.rig import Case, Reply

KEY = "zT8wq0K3n5Yb7R1x"
PASSWORD = "correct-horse"


def basic(request):
    """A server that takes one user and password, by Basic."""
    if request.credential == "Basic cGF1bGE6cmlnaHQ=":
        return Reply()
    return Reply(401, (("WWW-Authenticate", 'Basic realm="things"'),), body="")


def key(**bodies):
    """A server with API keys: what it says without one, and with a wrong one."""

    def answer(request):
        return Reply(401, body={"message": bodies["wrong" if "x-api-key" in request.headers else "without"]})

    return answer


CASES = [
    Case("wrong-password", basic, arguments=("{url}", "--user", f"paula:{PASSWORD}"), secrets=(PASSWORD,)),
    Case(
        "wrong-password",
        lambda request: Reply(401, body={"error": "Incorrect username or password."}),
        arguments=("{url}", "--user", f"paula:{PASSWORD}"),
        secrets=(PASSWORD,),
        name="wrong-password: only words",
    ),
    Case("", basic, arguments=("{url}", "--user", "paula:right"), name="healthy: Basic", secrets=("paula:right",)),
    *(
        Case(
            "wrong-api-key",
            key(wrong=text, without="No API key found in request"),
            arguments=("{url}", "-H", f"X-API-Key: {KEY}"),
            secrets=(KEY,),
            name=f"wrong-api-key: {text}",
        )
        for text in (
            "Invalid API Key provided",
            "Invalid authentication credentials",  # Kong
            "Access denied due to invalid subscription key.",  # Azure API Management
            "API key not valid. Please pass a valid API key.",  # Google
            "This API key is inactive",
            "Unauthorized",
        )
    ),
]
