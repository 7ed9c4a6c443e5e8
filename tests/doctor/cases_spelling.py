from __future__ import annotations

import base64

from doctor.rig import TOKEN, Case, Reply, bearer, signed

LONG = signed()
PASSWORD = "honolulu1973"
BASIC = base64.b64encode(f"hugo:{PASSWORD}".encode()).decode()
UMLAUT = base64.b64encode("hugo:hönölülü1973".encode()).decode()
ECHOED = base64.b64encode(f"hugo:{PASSWORD}\n".encode()).decode()
WANTS_BASIC = (("WWW-Authenticate", 'Basic realm="x", charset="UTF-8"'),)
SILENT: tuple[tuple[str, str], ...] = ()


def wanting(*values: str, headers=None, status: int = 401, body: str | dict = ""):
    """A server that accepts these values of Authorization, to the letter, and no other."""
    told = bearer("invalid_request") if headers is None else headers

    def answer(request):
        if "access_token=" in request.path and request.credential is not None:
            return Reply(400, bearer("invalid_request", "more than one method of sending a token"))
        return Reply() if request.credential in values else Reply(status, told, body)

    return answer


def never(headers=None, body: str | dict = ""):
    """A server that accepts nothing: the token is no good either."""
    return wanting(headers=bearer("invalid_token") if headers is None else headers, body=body)


EXACT = wanting(f"Bearer {TOKEN}")
MUTE = wanting(f"Bearer {TOKEN}", headers=SILENT)
WORDS = {"message": "Format is Authorization: Bearer [token]"}  # express-jwt, in part
DRF = {"detail": "Invalid token header. Token string should not contain spaces."}


def case(cause: str, value: str, answer=EXACT, name: str = "", secrets: tuple[str, ...] = (TOKEN,)) -> Case:
    return Case(cause, answer, ("{url}", "-H", f"Authorization: {value}"), f"{cause or 'healthy'}: {name}", secrets)


CASES = [
    case("line-break", f"Bearer {TOKEN}\n", name="at the end"),
    case("line-break", f"Bearer {TOKEN}\r\n", MUTE, name="of Windows"),
    case("line-break", f"Bearer {TOKEN[:12]}\n{TOKEN[12:]}", name="wrapped"),
    case("line-break", f"Bearer\n{TOKEN}", name="after the scheme"),
    case("line-break", f"Bearer {TOKEN}\n", never(), name="and the token is refused"),
    case("invisible-character", f"Bearer\u00a0{TOKEN}", name="no-break space"),
    case("invisible-character", f"Bearer \u200b{TOKEN}", MUTE, name="zero width space"),
    case("invisible-character", f"\ufeffBearer {TOKEN}", name="byte order mark"),
    case("invisible-character", f"Bearer {TOKEN[:9]}\u00ad{TOKEN[9:]}", name="soft hyphen"),
    case("invisible-character", f"Bearer {TOKEN}\x7f", name="delete, which can be sent"),
    case("invisible-character", f"Bearer {TOKEN}\u2060", never(), name="word joiner, and the token is refused"),
    case("quotes", f'Bearer "{TOKEN}"', name="around the token"),
    case("quotes", f"Bearer '{TOKEN}'", MUTE, name="single, and not a word"),
    case("quotes", f'"Bearer {TOKEN}"', name="around all"),
    case("quotes", f"Bearer “{TOKEN}”", name="curly"),
    case("quotes", f"Bearer <{TOKEN}>", name="brackets"),
    case("quotes", f"Bearer b'{TOKEN}'", name="bytes of Python"),
    case("quotes", f'Bearer {TOKEN}"', name="one"),
    case("non-ascii", f"Bearer {TOKEN}…", name="cut off", answer=never()),
    case("non-ascii", f"Bearer {TOKEN[:6]}\u2013{TOKEN[6:]}", name="a dash of a word processor", answer=never(SILENT)),
    case("non-ascii", f"Bеarer {TOKEN}", name="a Cyrillic letter"),  # noqa: RUF001 - that is the point
    case("field-name-in-value", f"Authorization: Bearer {TOKEN}"),
    case("field-name-in-value", f"authorization:Bearer {TOKEN}", MUTE, name="small, and not a word"),
    case("pasted-answer", f'Bearer {{"access_token": "{TOKEN}", "token_type": "Bearer"}}', name="JSON"),
    case("pasted-answer", f"Bearer access_token={TOKEN}", MUTE, name="a form"),
    case("pasted-answer", f"Bearer token={TOKEN}", never(), name="a form, and the token is refused"),
    case("doubled-scheme", f"Bearer Bearer {TOKEN}"),
    case("doubled-scheme", f"Bearer bearer {TOKEN}", MUTE, name="small, and not a word"),
    case("doubled-scheme", f"Bearer Bearer {LONG}", never(SILENT, DRF), name="Django", secrets=(LONG,)),
    case("scheme-misspelt", f"Bearar {TOKEN}"),
    case("scheme-misspelt", f"Baerer {TOKEN}", MUTE, name="swapped, and not a word"),
    case("scheme-misspelt", f"Bearer: {TOKEN}", name="colon"),
    case("scheme-misspelt", f"Bearer={TOKEN}", name="equals sign"),
    case("scheme-misspelt", f"Bearer{TOKEN}", MUTE, name="no space"),
    case("scheme-misspelt", f"Beaer {TOKEN}", never(SILENT, WORDS), name="express"),
    case(
        "scheme-misspelt", f"Basci {BASIC}", wanting(f"Basic {BASIC}", headers=WANTS_BASIC), "Basic", (BASIC, PASSWORD)
    ),
    case(
        "scheme-misspelt",
        f"Token: {TOKEN}",
        wanting(f"Token {TOKEN}", headers=(("WWW-Authenticate", "Token"),)),
        "Token",
    ),
    case("scheme-missing", TOKEN),
    case("scheme-missing", TOKEN, MUTE, name="not a word"),
    case("scheme-missing", LONG, never(), name="a JWT that is refused", secrets=(LONG,)),
    case("scheme-missing", LONG, wanting(f"Bearer {LONG}", headers=SILENT, body=WORDS), "express", secrets=(LONG,)),
    case("percent-encoded", f"Bearer {TOKEN}%2Fab%3D%3D", wanting(f"Bearer {TOKEN}/ab==")),
    case("percent-encoded", f"Bearer {TOKEN}%3D", wanting(f"Bearer {TOKEN}=", headers=SILENT), "not a word"),
    case("stray-characters", f"Bearer {TOKEN},", name="comma"),
    case("stray-characters", f"Bearer {TOKEN};", MUTE, name="semicolon, and not a word"),
    case("quotes", f'Bearer {TOKEN}",', name="out of JSON"),
    case("stray-characters", f"Bearer {TOKEN}\\n", never(), name="an escape, and the token is refused"),
    case("extra-space", f"Bearer  {TOKEN}", name="two"),
    case("extra-space", f"Bearer   {TOKEN}", MUTE, name="three, and not a word"),
    case("extra-space", f"Bearer\t{TOKEN}", name="tabulator"),
    case("extra-space", f"Bearer {TOKEN} ", name="at the end, cannot be sent"),
    case("extra-space", f"bearer  {TOKEN}", name="and small letters, as an article has it"),
    case("extra-space", f"Bearer {TOKEN[:9]} {TOKEN[9:]}", name="in the token", secrets=(TOKEN, TOKEN[9:])),
    case(
        "basic-malformed",
        f"Basic hugo:{PASSWORD}",
        wanting(f"Basic {BASIC}", headers=WANTS_BASIC),
        "clear",
        (PASSWORD,),
    ),
    case(
        "basic-malformed", f"Basic {ECHOED}", wanting(f"Basic {BASIC}", headers=WANTS_BASIC), "echo", (PASSWORD, BASIC)
    ),
    case("basic-malformed", "Basic aHVnby1ob25vbHVsdTE5NzM=", never(WANTS_BASIC), "no colon", (PASSWORD,)),
    case("basic-malformed", "Basic ~~~", never(SILENT), name="no base64, and not a word"),
    case(
        "basic-malformed",
        f"Basic {base64.b64encode('hugo:hönölülü1973'.encode('latin-1')).decode()}",
        wanting(f"Basic {UMLAUT}", headers=WANTS_BASIC),
        "Latin-1",
        ("1973",),
    ),
    case("basic-malformed", "Basic Onh4Pz8_", wanting("Basic Onh4Pz8/", headers=WANTS_BASIC), "for URLs", ("xx???",)),
    case("scheme-case", f"bearer {TOKEN}"),
    case("scheme-case", f"BEARER {TOKEN}", MUTE, name="not a word"),
    case("scheme-case", f"basic {BASIC}", wanting(f"Basic {BASIC}", headers=WANTS_BASIC), "Basic", (BASIC, PASSWORD)),
    Case(
        "two-credentials", EXACT, ("{url}?access_token=" + TOKEN, "--token", TOKEN), "two-credentials: header and query"
    ),
    Case(
        "two-credentials",
        lambda request: Reply() if request.credential == f"Bearer {TOKEN}" else Reply(400, bearer("invalid_request")),
        ("{url}", "--token", TOKEN + ", Basic " + BASIC),
        "two-credentials: joined",
        (TOKEN, BASIC, PASSWORD),
    ),
    case("", f"bearer {TOKEN}", wanting(f"bearer {TOKEN}"), "small letters are right"),
    case("", f"Bearer  {TOKEN}", wanting(f"Bearer  {TOKEN}"), "two spaces are right"),
    case("", TOKEN, wanting(TOKEN), "a token alone, where that is wanted"),
    case("", f'Token token="{TOKEN}"', wanting(f'Token token="{TOKEN}"'), "a parameter"),
    case("", f"GenieKey {TOKEN}", wanting(f"GenieKey {TOKEN}"), "a scheme of the house"),
    case("", f"Bearer {TOKEN}==", wanting(f"Bearer {TOKEN}=="), "padding"),
    case("", f"Bearer {TOKEN}%2F", wanting(f"Bearer {TOKEN}%2F"), "a percent sign that is part of it"),
    case("", "Basic Onh4Pz8_", wanting("Basic Onh4Pz8_"), "a server with patience"),
    Case(
        "",
        wanting(f"Bearer {TOKEN}"),
        ("{url}", "--token", TOKEN, "-H", "Cookie: session=8f3a6c1e5b7d"),
        "healthy: and a cookie",
    ),
    Case(
        "",
        wanting(f"Bearer {TOKEN}"),
        ("{url}", "--token", TOKEN, "-H", "apikey: 8f3a6c1e5b7d"),
        "healthy: and a gateway's key",
    ),
]
