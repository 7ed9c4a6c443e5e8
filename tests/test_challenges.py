"""`WWW-Authenticate`: by the grammar, beyond the grammar, and garbage."""

import dataclasses
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from httpx_tokenflow._challenges import CHALLENGE_LIMIT, FIELD_LIMIT, Challenge, parse_challenges

# A deadline would be an assertion about time.
examples = settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])


def challenge(scheme, params=None, token68=None):
    return Challenge(scheme, params or {}, token68)


BY_THE_GRAMMAR = {
    "the example of RFC 9110 §11.6.1 is two challenges": (
        r'Newauth realm="apps", type=1, title="Login to \"apps\"", Basic realm="simple"',
        [
            challenge("Newauth", {"realm": "apps", "type": "1", "title": 'Login to "apps"'}),
            challenge("Basic", {"realm": "simple"}),
        ],
    ),
    "it is so in the other order": (
        r'Basic realm="simple", Newauth realm="apps", type=1, title="Login to \"apps\""',
        [
            challenge("Basic", {"realm": "simple"}),
            challenge("Newauth", {"realm": "apps", "type": "1", "title": 'Login to "apps"'}),
        ],
    ),
    "a value may be a token": (
        "Bearer error=invalid_token",
        [challenge("Bearer", {"error": "invalid_token"})],
    ),
    "a scheme may stand alone": ("Negotiate", [challenge("Negotiate")]),
    "schemes may stand alone side by side": (
        "Negotiate, NTLM,Bearer",
        [challenge("Negotiate"), challenge("NTLM"), challenge("Bearer")],
    ),
    "token68 keeps its padding": ("Negotiate YII==", [challenge("Negotiate", token68="YII==")]),
    "a quote within a word opens no string": (
        'Bearer a=b wo"rd, Basic realm="x"',
        [challenge("Bearer", {"a": "b"}), challenge("Basic", {"realm": "x"})],
    ),
    "nothing follows the padding of token68": ("Negotiate YII=X", [challenge("Negotiate", {"yii": "X"})]),
    "white space and commas before the first scheme count for nothing": (
        " \t, Bearer error=invalid_token",
        [challenge("Bearer", {"error": "invalid_token"})],
    ),
    "white space before the first scheme counts for nothing": (
        " \tBearer error=invalid_token",
        [challenge("Bearer", {"error": "invalid_token"})],
    ),
    "token68 has characters that no token has": (
        "Negotiate a/b+c~d",
        [challenge("Negotiate", token68="a/b+c~d")],
    ),
    "token68 ends at the comma": (
        'NTLM TlRMTVNT , Basic realm="x"',
        [challenge("NTLM", token68="TlRMTVNT"), challenge("Basic", {"realm": "x"})],
    ),
    "one word and = is token68 by the grammar": ("Bearer realm=", [challenge("Bearer", token68="realm=")]),
    "a bare scheme precedes another; a comma within quotes separates nothing": (
        'NTLM, Basic realm="a,b"',
        [challenge("NTLM"), challenge("Basic", {"realm": "a,b"})],
    ),
    "a quoted list is one value": (
        'Digest realm="x", qop="auth,auth-int", Bearer',
        [challenge("Digest", {"realm": "x", "qop": "auth,auth-int"}), challenge("Bearer")],
    ),
    "what looks like a challenge within quotes is none (jetty/jetty.project#2739)": (
        r'Digest param=",f , Basic realm=\"x\""',
        [challenge("Digest", {"param": ',f , Basic realm="x"'})],
    ),
    "a quoted pair is the character after the backslash": (
        r'Basic realm="a\\b\"c\d"',
        [challenge("Basic", {"realm": r"a\b" + '"cd'})],
    ),
    "a quoted value may be empty": ('Basic realm=""', [challenge("Basic", {"realm": ""})]),
    "empty list elements count for nothing": (
        ', ,Basic , , realm="x",, a=b,,,c=d, ,',
        [challenge("Basic", {"realm": "x", "a": "b", "c": "d"})],
    ),
    "bad white space around = counts for nothing": (
        'Bearer realm = "x", error\t=\tinvalid_token , scope= "a b"',
        [challenge("Bearer", {"realm": "x", "error": "invalid_token", "scope": "a b"})],
    ),
    "names are lower-cased, schemes and values are not": (
        'BEARER Realm="X", ERROR=Invalid',
        [challenge("BEARER", {"realm": "X", "error": "Invalid"})],
    ),
    "an apostrophe is a character like any other": (
        "Basic realm='x'",
        [challenge("Basic", {"realm": "'x'"})],
    ),
    "obs-text within quotes is kept": ('Basic realm="foo-ä€"', [challenge("Basic", {"realm": "foo-ä€"})]),
    "one scheme may come twice": (
        "Bearer, Bearer error=x",
        [challenge("Bearer"), challenge("Bearer", {"error": "x"})],
    ),
    "an empty field has no challenge": ("", []),
    "a field of commas has no challenge": (" ,\t, ,", []),
}

BEYOND_THE_GRAMMAR = {
    "a missing comma between parameters": (
        'Bearer realm="x" error="invalid_token"scope=a error_uri=b',
        [challenge("Bearer", {"realm": "x", "error": "invalid_token", "scope": "a", "error_uri": "b"})],
    ),
    "an empty value": (
        "Bearer a=b, error=, scope=x",
        [challenge("Bearer", {"a": "b", "error": "", "scope": "x"})],
    ),
    "an unquoted URL, = and all": (
        "Bearer resource_metadata=https://a.example/.well-known/x?y=z#f, error=e",
        [challenge("Bearer", {"resource_metadata": "https://a.example/.well-known/x?y=z#f", "error": "e"})],
    ),
    "unquoted characters beyond ASCII": ("Basic realm=Zürich", [challenge("Basic", {"realm": "Zürich"})]),
    "a parameter after a bare scheme and a comma": (
        'Basic, realm="x"',
        [challenge("Basic", {"realm": "x"})],
    ),
    "a parameter after token68, so that no error is lost": (
        'Bearer realm=, error="invalid_token"',
        [challenge("Bearer", {"error": "invalid_token"}, token68="realm=")],
    ),
    "tabs for spaces": ("Bearer\terror=x", [challenge("Bearer", {"error": "x"})]),
    "a duplicate: the first wins, in any spelling": (
        'Bearer scope="a", SCOPE="b", Scope=c',
        [challenge("Bearer", {"scope": "a"})],
    ),
    "a quote never closed: the rest is the value": (
        'Bearer error="invalid, Basic realm=x',
        [challenge("Bearer", {"error": "invalid, Basic realm=x"})],
    ),
    "a lone backslash at the end": ('Bearer error="a\\', [challenge("Bearer", {"error": "a"})]),
}

GARBAGE = {
    "a parameter without a name": ('="x"', []),
    "a parameter without a name, a comma in its value": ('="x, NTLM, y", Basic', [challenge("Basic")]),
    "a parameter without a scheme": ('realm="x", Basic', [challenge("Basic")]),
    "a string where a scheme should be": ('"Digest, NTLM, Negotiate", Basic', [challenge("Basic")]),
    "a scheme that is no token": (
        'B@sic realm="a, b", Bearer error=x',
        [challenge("Bearer", {"error": "x"})],
    ),
    "a scheme beyond ASCII": ('Bäsic realm="a", Bearer', [challenge("Bearer")]),
    "words after a scheme": ("Bearer token expired, Basic", [challenge("Bearer"), challenge("Basic")]),
    "words after a value": (
        'Bearer error_description=The token "has, maybe" expired, error=x, Basic',
        [challenge("Bearer", {"error_description": "The", "error": "x"}), challenge("Basic")],
    ),
    "quotes within quotes": (
        'Bearer error_description="The "exp" claim", error="x", Basic',
        [challenge("Bearer", {"error_description": "The ", "error": "x"}), challenge("Basic")],
    ),
    "a quote within a word": (
        'Bearer a=5"x, b@"c, d"e, Basic',
        [challenge("Bearer", {"a": '5"x'}), challenge("Basic")],
    ),
    "a quoted value under a name that is no token": (
        'Bearer a=b, c(d="e, NTLM, f", Basic',
        [challenge("Bearer", {"a": "b"}), challenge("Basic")],
    ),
    "a missing comma between challenges hides the second only": (
        'Bearer error="x" Basic realm="y", Digest realm="z"',
        [challenge("Bearer", {"error": "x"}), challenge("Digest", {"realm": "z"})],
    ),
    "control characters": ("\x00\r\n, Bearer error=x", [challenge("Bearer", {"error": "x"})]),
}

TABLE = {**BY_THE_GRAMMAR, **BEYOND_THE_GRAMMAR, **GARBAGE}


@pytest.mark.parametrize(("field", "expected"), TABLE.values(), ids=TABLE.keys())
def test_a_field_is_read_as_its_row_says(field, expected):
    """Every row of the table holds: its field is read as exactly these challenges, in order."""
    assert parse_challenges([field]) == tuple(expected)


def test_fields_are_read_one_by_one_in_order():
    """Challenges of several fields come in order, and a field that breaks off leaves the next one alone."""
    fields = ['Newauth realm="never closed', 'realm="nobody\'s", Basic realm="x", NTLM', "", "Bearer"]
    assert parse_challenges(iter(fields)) == (
        challenge("Newauth", {"realm": "never closed"}),
        challenge("Basic", {"realm": "x"}),
        challenge("NTLM"),
        challenge("Bearer"),
    )


def test_no_field_no_challenge():
    """A response without the field has no challenge."""
    assert parse_challenges([]) == ()


def test_a_lone_str_is_one_field():
    """A str passed for the list of fields is one field, not one per character."""
    assert parse_challenges("Bearer error=x") == parse_challenges(["Bearer error=x"])


@pytest.mark.parametrize(("asked", "answer"), [("bearer", True), ("BEARER", True), ("Bear", False), ("", False)])
def test_schemes_compare_in_any_spelling(asked, answer):
    """A scheme is recognised in any spelling (RFC 9110 §11.1), and only that scheme."""
    assert challenge("Bearer").is_scheme(asked) is answer


TEXTS = ["realm", "error", "error_description", "error_uri", "scope", "acr_values", "resource_metadata"]


@pytest.mark.parametrize("name", TEXTS)
def test_a_property_is_its_parameter(name):
    """Each property is the parameter of its name, None when absent and the empty string when empty."""
    assert getattr(challenge("Bearer", {name: "the value"}), name) == "the value"
    assert getattr(challenge("Bearer", {name: ""}), name) == ""
    others = {other: "another" for other in [*TEXTS, "max_age"] if other != name}
    assert getattr(challenge("Bearer", others), name) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("300", 300), ("007", 7), ("9" * 10, 9_999_999_999)]
    + [(text, None) for text in ("", "-1", "+1", "1.5", "1_0", " 5", "5s", "٣", "²", "9" * 11, "9" * 9000)],
)
def test_max_age_is_seconds_or_none(text, seconds):
    """`max_age` is a number of seconds, and None for whatever is no age (RFC 9470 §3)."""
    assert parse_challenges([f'Bearer max_age="{text}"'])[0].max_age == seconds


def test_a_challenge_of_a_scheme_alone():
    """A challenge made without token68 has none."""
    assert Challenge("Negotiate", {}).token68 is None


def test_no_field_is_asked_for_after_the_limit():
    """With as many challenges as are read, the fields that follow are not even asked for."""

    def fields():
        yield ", ".join(["Bearer"] * CHALLENGE_LIMIT)
        pytest.fail("another field was asked for")

    assert len(parse_challenges(fields())) == CHALLENGE_LIMIT


def test_max_age_absent_is_none():
    """Without the parameter there is no `max_age`."""
    assert challenge("Bearer").max_age is None


def test_a_challenge_cannot_be_changed():
    """Neither a challenge nor its parameters can be changed by whoever is handed it."""
    (bearer,) = parse_challenges(["Bearer error=x"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        bearer.scheme = "Basic"
    with pytest.raises(TypeError):
        bearer.params["error"] = "y"


def test_challenges_are_bounded_in_one_field():
    """No more than `CHALLENGE_LIMIT` challenges are found in one field: the first ones."""
    found = parse_challenges([", ".join(f"S{i} a={i}" for i in range(CHALLENGE_LIMIT + 9))])
    assert [one.scheme for one in found] == [f"S{i}" for i in range(CHALLENGE_LIMIT)]
    assert found[-1].params == {"a": str(CHALLENGE_LIMIT - 1)}


def test_challenges_are_bounded_over_fields():
    """Once `CHALLENGE_LIMIT` challenges are found, no further field is read."""
    fields = iter(["A, B, C"] * CHALLENGE_LIMIT)
    assert len(parse_challenges(fields)) == CHALLENGE_LIMIT
    assert len(list(fields)) == CHALLENGE_LIMIT - -(-CHALLENGE_LIMIT // 3)


def test_the_bounds():
    """Sixteen KiB of a field are read, and 64 challenges of a response, as the rules say."""
    assert (FIELD_LIMIT, CHALLENGE_LIMIT) == (16_384, 64)


def test_a_field_is_read_up_to_its_limit():
    """A challenge that ends at `FIELD_LIMIT` is found, one that begins after it is not."""
    inside = "," * (FIELD_LIMIT - len("Bearer a=b")) + "Bearer a=b"
    assert parse_challenges([inside + ", Basic"]) == (challenge("Bearer", {"a": "b"}),)


# Arbitrary text, and text of the characters that mean something, which goes deeper.

SPECIAL = " \t,=\"\\aB1/;'@ä\n"
texts = st.text() | st.text(SPECIAL)
TOKEN = string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"


@examples
@given(st.lists(texts))
def test_no_text_raises(fields):
    """Any text is read without an error; schemes and names are tokens, and every property has its type."""
    for one in parse_challenges(fields):
        assert one.scheme
        assert set(one.scheme) <= set(TOKEN)
        assert all(name and set(name) <= set(TOKEN) and name == name.lower() for name in one.params)
        assert all(isinstance(getattr(one, name), str | None) for name in TEXTS)
        assert isinstance(one.max_age, int | None)


@examples
@given(texts.map(lambda text: text.replace('"', "")))
def test_garbage_does_not_hide_what_follows(garbage):
    """After any text without quotes and a comma, the next challenge is found whole."""
    found = parse_challenges([f'{garbage}, Bearer error="invalid_token", scope="a,b"'])
    assert found[-1] == challenge("Bearer", {"error": "invalid_token", "scope": "a,b"})


tokens = st.text(TOKEN, min_size=1, max_size=8)
token68s = st.text(string.ascii_letters + string.digits + "-._~+/", min_size=1, max_size=8)
paddings = st.sampled_from(["", "=", "=="])
commas = st.sampled_from([",", ", ", " , ", "\t,", ", ,", ",,, "])
quotables = st.text(SPECIAL, max_size=12) | st.text(st.characters(min_codepoint=0x20), max_size=12)


@st.composite
def quoted(draw, value):
    """A quoted-string: quote and backslash must be escaped, anything else may be."""
    chars = ("\\" + char if char in '"\\' or draw(st.booleans()) else char for char in value)
    return '"' + "".join(chars) + '"'


@st.composite
def auth_params(draw):
    """A parameter's name, its value, and one way to write both by the grammar."""
    name = draw(tokens)
    space, more_space = draw(st.sampled_from(["", " ", "\t "])), draw(st.sampled_from(["", " "]))
    if draw(st.booleans()):
        written = value = draw(tokens)
    else:
        value = draw(quotables)
        written = draw(quoted(value))
    return name.lower(), value, f"{name}{space}={more_space}{written}"


@st.composite
def written_challenges(draw):
    """A challenge, and one way to write it by the grammar."""
    scheme = draw(tokens)
    if draw(st.booleans()):
        return challenge(scheme), scheme
    if draw(st.booleans()):
        token68 = draw(token68s) + draw(paddings)
        return challenge(scheme, token68=token68), f"{scheme} {token68}"
    params = draw(st.lists(auth_params(), min_size=1, max_size=4, unique_by=lambda param: param[0]))
    text = f"{scheme} {draw(st.just('') | commas)}" + params[0][2]
    for param in params[1:]:
        text += draw(commas) + param[2]
    return challenge(scheme, {name: value for name, value, _ in params}), text


@examples
@given(st.lists(written_challenges(), max_size=5), st.data())
def test_what_the_grammar_writes_is_read_back(written, data):
    """Challenges written by the grammar are read back the same, in one field or spread over fields."""
    expected = tuple(one for one, _ in written)
    fields = [""]
    for _, text in written:
        if data.draw(st.booleans(), label="in a field of its own"):
            fields.append(text)
        else:
            fields[-1] += data.draw(commas) + text
    assert parse_challenges(fields) == expected
    assert parse_challenges([", ".join(text for _, text in written)]) == expected


# Linear work, without a clock: a text that counts how many of its characters are looked at.


class Meter:
    """What has been looked at so far."""

    def __init__(self):
        self.looks = 0


class MeteredText(str):
    """A str that meters every look at it: an index or a slice by its length, whatever else by the whole."""

    __slots__ = ("meter",)

    def __new__(cls, text, meter):
        metered = super().__new__(cls, text)
        metered.meter = meter
        return metered

    def __getitem__(self, key):
        piece = super().__getitem__(key)
        self.meter.looks += len(piece)
        return MeteredText(piece, self.meter)

    def __iter__(self):
        self.meter.looks += len(self)
        return super().__iter__()

    def __contains__(self, part):
        self.meter.looks += len(self)
        return super().__contains__(part)

    def __getattribute__(self, name):
        if name in vars(str) and not name.startswith("__"):
            self.meter.looks += len(self)
        return super().__getattribute__(name)


def looks(text):
    meter = Meter()
    parse_challenges([MeteredText(text, meter)])
    return meter.looks


def test_the_meter_sees_every_way_to_look():
    """The meter charges an index, a slice, a slice of a slice, a search, a method and an iteration."""
    meter = Meter()
    text = MeteredText("abcdefghij", meter)
    charged = []
    for look in (
        lambda: text[0],
        lambda: text[2:6],
        lambda: text[2:6][1:3],
        lambda: "z" in text,
        lambda: text.find("z"),
        lambda: list(text),
    ):
        before = meter.looks
        look()
        charged.append(meter.looks - before)
    assert charged == [1, 4, 6, 10, 10, 10]


# Each is repeated to fill a field; what stands before them decides where they land.
UNITS = ['"', ",", "\\", " ", "=", "a", "a ", "a,", "a=", "a= ", " =", "a =", 'a="', '="', '",', '"\\', '\\"']
UNITS += ["a b ", "a a=", "A b=c,", 'A b="c",', "a==,", "a\t,", "@", '@"', "a@ "]
LEADS = ["", "Bearer", "Bearer ", "Bearer a", "Bearer a=", 'Bearer a="', '"']


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("unit", UNITS)
def test_four_times_the_text_is_four_times_the_work(lead, unit):
    """Work grows with the text and no faster, whatever is repeated in it and wherever it lands."""
    small, large = (looks(lead + unit * (size // len(unit))) for size in (200, 800))
    assert small >= 200
    assert large <= 4 * small + 100


@examples
@given(st.text(SPECIAL, max_size=5), st.text(SPECIAL, min_size=1, max_size=5), st.integers(1, 200))
def test_each_character_is_looked_at_a_few_times(lead, unit, times):
    """No text makes the parser look at a character more than a dozen times on average."""
    text = lead + unit * times
    assert looks(text) <= 12 * len(text)


def test_nothing_is_read_past_the_limit():
    """A field of any length costs no more than one of `FIELD_LIMIT` characters."""
    assert looks("a=" * FIELD_LIMIT) == looks("a=" * (FIELD_LIMIT // 2))
