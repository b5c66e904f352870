"""Reading magic words out of an input."""

import pytest

from app.sandbox.scenarios import FAULTS, WORDS, Script, UnknownWordError, read_script


def script(text: str) -> Script:
    return read_script({"prompt": text})


def test_words_are_found_in_any_text_of_the_input() -> None:
    found = read_script({"a": ["sandbox:fail"], "b": {"c": "x sandbox:slow=2.5 sandbox:poll-504"}})
    assert dict(found.values) == {"fail": "object", "slow": 2.5, "poll-504": 3.0}


def test_a_full_stop_after_a_word_is_no_part_of_it() -> None:
    assert dict(script("Please, sandbox:slow=30.").values) == {"slow": 30.0}


@pytest.mark.parametrize("text", ["http://sandbox:8000/a.png", "sandbox: fail", "xsandbox:fail"])
def test_other_texts_hold_no_words(text: str) -> None:
    assert not script(text).values


@pytest.mark.timeout(60)
def test_an_input_that_is_a_whole_film_is_read_at_once() -> None:
    """A sandbox inside a gateway holds up the gateway, too."""
    assert not script("A" * 2**27).values


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("sandbox:fial", "there is no magic word 'fial' (did you mean 'fail'?)"),
        ("sandbox:pol-504", "there is no magic word 'pol-504' (did you mean 'poll-504'?)"),
        ("sandbox:stuck=3", "the magic word 'stuck' takes no value"),
        ("sandbox:slow=soon", "the magic word 'slow' takes a number, not 'soon'"),
        ("sandbox:slow=nan", "the magic word 'slow' takes a number, not 'nan'"),
        ("sandbox:fail=strng", "'fail' does not take 'strng' (did you mean 'string'?)"),
        ("sandbox:lost-answer=rest", "'lost-answer' does not take 'rest' (did you mean 'reset'?)"),
    ],
)
def test_a_word_that_means_nothing_names_the_nearest(text: str, complaint: str) -> None:
    with pytest.raises(UnknownWordError) as caught:
        script(text)
    assert str(caught.value) == complaint


def test_faults_of_one_call_follow_one_another() -> None:
    found = script("sandbox:poll-504=2 sandbox:poll-reset=1 sandbox:result-html")
    assert [found.fault_at("poll", nth) for nth in range(1, 5)] == ["504", "504", "reset", None]
    assert found.fault_at("result", 1) == "html"
    assert found.fault_at("submit", 1) is None


@pytest.mark.parametrize("meaning", [*(word.meaning for word in WORDS.values()), *FAULTS.values()])
def test_every_meaning_is_one_sentence(meaning: str) -> None:
    assert meaning[0].isupper() or meaning[0].isdigit()
    assert meaning.endswith(".")
    assert "\n" not in meaning
