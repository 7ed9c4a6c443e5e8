"""What is known of single products, as data."""

from __future__ import annotations

__all__ = ["AUDIENCES", "ENTRA", "TAKE_BEARER"]

AUDIENCES: dict[str, tuple[str, tuple[str, ...]]] = {
    "https://graph.microsoft.com": ("Microsoft Graph", ("graph.microsoft.com",)),
    "00000003-0000-0000-c000-000000000000": ("Microsoft Graph", ("graph.microsoft.com",)),
    "https://management.azure.com": ("Azure Resource Manager", ("management.azure.com",)),
    "https://management.core.windows.net": ("Azure Resource Manager", ("management.azure.com", ".windows.net")),
    "https://vault.azure.net": ("Azure Key Vault", (".vault.azure.net",)),
    "https://storage.azure.com": ("Azure Storage", (".core.windows.net", ".storage.azure.net")),
    "https://graph.windows.net": ("Azure AD Graph", ("graph.windows.net",)),
    "account": ("Keycloak's own account console", ()),
}
"""Audiences of tokens that are for one API, without a slash at the end: whose it is, and how its hosts end."""

TAKE_BEARER = ("api.stripe.com", "zendesk.com", "api.bitbucket.org", "files.stripe.com")
"""Hosts that challenge with Basic, and take Bearer as well."""

ENTRA: dict[str, str] = {
    "7000215": "client",  # invalid client secret provided
    "7000222": "client",  # the client secret has expired
    "7000218": "client",  # the request has no client_assertion or client_secret
    "70002": "client",
    "700025": "client",  # a public client, and a secret was sent
    "700027": "client",  # the client assertion's signature
    "700024": "time",  # the client assertion's time
    "50012": "client",
    "700016": "client",  # no such application in this directory
    "700011": "client",
    "70001": "client",
    "90002": "client",  # no such tenant
    "50194": "client",  # not a multi-tenant application, and /common was asked
    "50011": "redirect",
    "70004": "redirect",
    "500113": "redirect",
    "70011": "scope",
    "28002": "scope",
    "28003": "scope",
    "65001": "consent",
    "65004": "consent",
    "90008": "consent",
    "650056": "consent",
    "50001": "target",
    "500011": "target",
    "650057": "target",
    "501481": "pkce",
    "50148": "pkce",
    "50147": "pkce",
    "501491": "pkce",
    "9002325": "pkce",
    "70000": "grant",
    "70008": "grant",
    "700082": "grant",  # the refresh token was not used for too long
    "700084": "grant",  # a single-page application's, a day old
    "70043": "grant",
    "50173": "grant",  # revoked: the password was changed, or an administrator did it
    "50089": "grant",
    "54005": "grant",  # the code was redeemed already
    "50132": "grant",
    "50133": "grant",
    "50013": "grant",
    "500133": "time",
    "50076": "login",  # multi-factor authentication
    "50079": "login",
    "50078": "login",
    "50074": "login",
    "50158": "login",
    "50058": "login",
    "50057": "account",
    "50053": "account",
    "50034": "account",
    "50055": "account",
    "50126": "password",
    "53003": "login",  # conditional access
    "70003": "grant type",
    "9001023": "grant type",
}
"""Codes of Microsoft Entra ID (AADSTS and the number) by what they are about."""
