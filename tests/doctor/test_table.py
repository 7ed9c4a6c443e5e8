"""The documents have the causes that there are."""

from __future__ import annotations

import pytest
from documents import TEXTS

from httpx_tokenflow.doctor import Cause, Certainty, Exchange, Facts, diagnose
from httpx_tokenflow.doctor.causes import CAUSES, table


def test_the_guide_has_the_table():
    """guide/doctor.md has the generated table; its comment there says how to make it anew."""
    assert table() in TEXTS["doctor.md"]


def test_a_cause_of_ones_own():
    """A new cause is one small class: four texts, and a look."""

    class Tuesday(Cause):
        id = "tuesday"
        title = "The API takes nobody on Tuesdays"
        remedy = "come back on Wednesday"
        reference = "the API's documents"

        def look(self, facts):
            return self.found(Certainty.LIKELY, "it is Tuesday", [facts.said("tuesday")])

    asked = Exchange(url="https://api.example", status=401, body="closed on Tuesdays")
    diagnosis = diagnose(Facts(exchanges=(asked,)), [*CAUSES, Tuesday()])
    assert "tuesday" in [finding.id for finding in diagnosis.findings]
    assert diagnose(Facts(exchanges=(asked,)), [Tuesday()]).first.evidence == ("the body says 'closed on Tuesdays'",)


def test_a_cause_that_raises_does_not_take_the_others_along(caplog):
    """A defect in one cause is logged, and the others are found."""

    class Broken(Cause):
        id, title, remedy, reference = "broken", "-", "-", "-"

        def look(self, facts):
            raise ZeroDivisionError

    diagnosis = diagnose(Facts(exchanges=(Exchange(url="https://api.example", status=401),)), [Broken(), *CAUSES])
    assert diagnosis.first is not None
    assert "broken" in caplog.text


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.id)
def test_the_texts_are_fit_to_print(cause):
    """Each text is one line without an end mark, since more is put around it, and fits into a table."""
    for text in (cause.title, cause.remedy, cause.reference):
        assert text == text.strip()
        assert not text.endswith(".")
        assert "\n" not in text
        assert "|" not in text
