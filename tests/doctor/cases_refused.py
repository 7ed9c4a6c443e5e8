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


def key(field, without, wrong):
    """A server with API keys in a field: what it says without one, and with a wrong one."""

    def answer(request):
        return Reply(401, body={"message": wrong if field.lower() in request.headers else without})

    return answer


PRODUCTS = (  # the field, what is said without a key, what is said of a wrong one
    ("X-API-Key", "Unauthorized", "Invalid API Key provided"),
    ("X-API-Key", "An API key is required", "This API key is inactive"),
    ("apikey", "No API key found in request", "Unauthorized"),  # Kong 3
    ("apikey", "No API key found in request", "Invalid authentication credentials"),  # Kong before
    (
        "Ocp-Apim-Subscription-Key",  # Azure API Management
        "Access denied due to missing subscription key.",
        "Access denied due to invalid subscription key.",
    ),
    (
        "X-Goog-Api-Key",
        "Method doesn't allow unregistered callers (callers without established identity).",
        "API key not valid. Please pass a valid API key.",
    ),
)

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
            key(field, without, wrong),
            arguments=("{url}", "-H", f"{field}: {KEY}"),
            secrets=(KEY,),
            name=f"wrong-api-key: {wrong}",
        )
        for field, without, wrong in PRODUCTS
    ),
]
