"""What vendors' keys begin with, and where their test and live servers are: data.

Rules.

1. Here is what the vendor documents, prints in its examples, or has on the lists that scanners for lost secrets go by.
   Square's EAAA is not: sandbox and live have it.
2. A prefix that many have copied (sk_live_) is not taken for one vendor's.
3. A host stands for itself and all that is under it.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HOSTS", "PREFIXES", "Host", "Prefix"]

SECRET, PUBLIC, WEBHOOK, CLIENT, REFRESH = (
    "",
    "a publishable key",
    "a webhook secret",
    "a client secret",
    "a refresh token",
)
_MANY = "Stripe, Clerk, Paystack and others"
_MANY_HOSTS = ("stripe.com", "clerk.com", "clerk.dev", "paystack.co", "moyasar.com", "checkout.com")


@dataclass(frozen=True, slots=True)
class Prefix:
    """What a key begins with.

    Args:
        text: the prefix.
        vendor: whose it is.
        hosts: where such keys are taken.
        mode: "test" or "live"; empty where the key does not say.
        kind: what it is, where it is no key for requests of a server.
        is_common: others have the same prefix, or run the vendor's product on hosts of their own.
    """

    text: str
    vendor: str
    hosts: tuple[str, ...]
    mode: str = ""
    kind: str = SECRET
    is_common: bool = False


@dataclass(frozen=True, slots=True)
class Host:
    """A vendor's host.

    Args:
        name: of it.
        mode: "test", "live", or "both" where the key alone decides.
    """

    name: str
    mode: str


def _pairs(
    vendor: str, hosts: tuple[str, ...], test: str, live: str, kind: str = SECRET, *, common: bool = False
) -> tuple[Prefix, Prefix]:
    return Prefix(test, vendor, hosts, "test", kind, common), Prefix(live, vendor, hosts, "live", kind, common)


_GITHUB, _SLACK, _AWS = (
    ("github.com", "githubusercontent.com", "ghcr.io", "ghe.com"),
    ("slack.com",),
    ("amazonaws.com", "amazonaws.com.cn", "api.aws"),
)
_GOOGLE, _GITLAB = ("googleapis.com", "google.com", "googleusercontent.com", "youtube.com"), ("gitlab.com",)

PREFIXES: tuple[Prefix, ...] = (
    *_pairs(_MANY, _MANY_HOSTS, "sk_test_", "sk_live_", common=True),
    *_pairs(_MANY, _MANY_HOSTS, "pk_test_", "pk_live_", PUBLIC, common=True),
    *_pairs("Stripe", ("stripe.com",), "rk_test_", "rk_live_"),
    Prefix("whsec_", "Stripe, Svix and others", (), "", WEBHOOK, is_common=True),
    Prefix("sk_sbox_", "Checkout.com", ("checkout.com",), "test"),
    Prefix("pk_sbox_", "Checkout.com", ("checkout.com",), "test", PUBLIC),
    *_pairs("Paddle", ("paddle.com",), "pdl_sdbx_apikey_", "pdl_live_apikey_"),
    Prefix("pdl_ntfset_", "Paddle", ("paddle.com",), "", WEBHOOK),
    *_pairs("Razorpay", ("razorpay.com",), "rzp_test_", "rzp_live_"),
    *_pairs("Flutterwave", ("flutterwave.com",), "FLWSECK_TEST-", "FLWSECK-"),
    *_pairs("Flutterwave", ("flutterwave.com",), "FLWPUBK_TEST-", "FLWPUBK-", PUBLIC),
    *_pairs("Mollie and others", ("mollie.com", "lob.com"), "test_", "live_", common=True),
    Prefix("sandbox-sq0", "Square", ("squareup.com", "squareupsandbox.com"), "test", CLIENT),
    Prefix("sq0csp-", "Square", ("squareup.com",), "live", CLIENT),
    Prefix("sq0idp-", "Square", ("squareup.com",), "live", "an application id"),
    Prefix("access_token$sandbox$", "Braintree", ("braintreegateway.com", "braintree-api.com", "paypal.com"), "test"),
    Prefix(
        "access_token$production$", "Braintree", ("braintreegateway.com", "braintree-api.com", "paypal.com"), "live"
    ),
    *(Prefix(text, "GitHub", _GITHUB) for text in ("ghp_", "gho_", "ghu_", "ghs_", "github_pat_")),
    Prefix("ghr_", "GitHub", _GITHUB, "", REFRESH),
    *(Prefix(text, "GitLab", _GITLAB) for text in ("glpat-", "gldt-", "glcbt-", "glptt-")),
    Prefix("gloas-", "GitLab", _GITLAB, "", CLIENT),
    *(Prefix(text, "Slack", _SLACK) for text in ("xoxb-", "xoxp-", "xoxe.xoxp-", "xapp-")),
    Prefix("xoxe-1-", "Slack", _SLACK, "", REFRESH),
    *(Prefix(text, "OpenAI", ("openai.com", "openai.azure.com")) for text in ("sk-proj-", "sk-svcacct-", "sk-admin-")),
    Prefix("sk-ant-", "Anthropic", ("anthropic.com", "claude.com")),
    Prefix("sk-or-v1-", "OpenRouter", ("openrouter.ai",)),
    Prefix("gsk_", "Groq", ("groq.com",)),
    Prefix("hf_", "Hugging Face", ("huggingface.co", "huggingface.cloud", "hf.space")),
    Prefix("r8_", "Replicate", ("replicate.com",)),
    Prefix("AIza", "Google", _GOOGLE),
    Prefix("ya29.", "Google", _GOOGLE),
    Prefix("GOCSPX-", "Google", _GOOGLE, "", CLIENT),
    Prefix("1//", "Google", _GOOGLE, "", REFRESH),
    Prefix("AKIA", "AWS", _AWS),
    Prefix("ASIA", "AWS", _AWS),
    Prefix("SG.", "SendGrid", ("sendgrid.com",)),
    Prefix("npm_", "npm", ("npmjs.org", "npmjs.com"), is_common=True),
    Prefix("pypi-", "PyPI", ("pypi.org",), is_common=True),
    Prefix("dckr_pat_", "Docker Hub", ("docker.com", "docker.io")),
    Prefix("shpat_", "Shopify", ("myshopify.com", "shopify.com")),
    Prefix("shpss_", "Shopify", ("myshopify.com", "shopify.com"), "", CLIENT),
    Prefix("dop_v1_", "DigitalOcean", ("digitalocean.com",)),
    Prefix("dapi", "Databricks", ("databricks.com", "azuredatabricks.net", "databricks.net")),
    Prefix("hvs.", "Vault", ("hashicorp.cloud",), is_common=True),
    Prefix("glsa_", "Grafana", ("grafana.net", "grafana.com"), is_common=True),
    Prefix("lin_api_", "Linear", ("linear.app",)),
    Prefix("figd_", "Figma", ("figma.com",)),
    Prefix("secret_", "Notion", ("notion.com",), is_common=True),
    Prefix("ntn_", "Notion", ("notion.com",)),
    Prefix("PMAK-", "Postman", ("getpostman.com", "postman.com")),
    Prefix("re_", "Resend", ("resend.com",), is_common=True),
    Prefix("sntrys_", "Sentry", ("sentry.io",), is_common=True),
)

HOSTS: tuple[Host, ...] = (
    Host("api.stripe.com", "both"),
    Host("api.clerk.com", "both"),
    Host("api.paystack.co", "both"),
    Host("api.moyasar.com", "both"),
    Host("api.mollie.com", "both"),
    Host("api.lob.com", "both"),
    Host("api.razorpay.com", "both"),
    Host("api.flutterwave.com", "both"),
    Host("api.paddle.com", "live"),
    Host("sandbox-api.paddle.com", "test"),
    Host("api.checkout.com", "live"),
    Host("api.sandbox.checkout.com", "test"),
    Host("connect.squareup.com", "live"),
    Host("connect.squareupsandbox.com", "test"),
    Host("api.paypal.com", "live"),
    Host("api-m.paypal.com", "live"),
    Host("api.sandbox.paypal.com", "test"),
    Host("api-m.sandbox.paypal.com", "test"),
    Host("payments.braintree-api.com", "live"),
    Host("payments.sandbox.braintree-api.com", "test"),
    Host("checkout-test.adyen.com", "test"),
    Host("pal-test.adyen.com", "test"),
    Host("sandbox.plaid.com", "test"),
    Host("production.plaid.com", "live"),
)
