"""LocalAgreement-2."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.agreement import LocalAgreement
from streaming.errors import StateError
from streaming.window import Word


def words(text):
    return tuple(Word(word, (hash(word) & 0xFFFF,)) for word in text.split())


def texts(some):
    return " ".join(word.text for word in some)


def test_words_agreed_on_twice_are_committed():
    """The common beginning stays, but for the last word of either."""
    agreement = LocalAgreement()
    agreement.receive_hypothesis(words("it was the test"), 0)
    assert texts(agreement.committed) == ""
    agreement.receive_hypothesis(words("it was the best of"), 0)
    assert (texts(agreement.committed), texts(agreement.tentative)) == ("it was the", "best of")
    agreement.receive_hypothesis(words("it was the best of times"), 0)
    assert texts(agreement.committed) == "it was the best"


def test_the_last_word_is_held_back():
    """The word that the audio may cut through is not committed, agreed or not."""
    agreement = LocalAgreement()
    agreement.receive_hypothesis(words("it was"), 0)
    agreement.receive_hypothesis(words("it was"), 0)
    assert texts(agreement.committed) == "it"


def test_a_hypothesis_that_drops_a_committed_word():
    """Is a broken decoder, and said so."""
    agreement = LocalAgreement()
    agreement.receive_hypothesis(words("it was the"), 0)
    agreement.receive_hypothesis(words("it was the"), 0)
    with pytest.raises(StateError):
        agreement.receive_hypothesis(words("he was the"), 0)


@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=8), max_size=12))
def test_committed_words_only_grow(hypotheses):
    """Whatever the model says, as long as it keeps the committed words, they stay a beginning of what follows."""
    agreement = LocalAgreement()
    for letters in hypotheses:
        before = agreement.committed
        agreement.receive_hypothesis(before + words(" ".join(letters)), 0)
        assert agreement.committed[: len(before)] == before
        assert agreement.committed + agreement.tentative == before + words(" ".join(letters))


def test_agreement_takes_a_stretch_of_audio():
    """Two hypotheses that heard nearly the same commit nothing; one that a third between them contradicts neither."""
    agreement = LocalAgreement(span=100)
    agreement.receive_hypothesis(words("it was the test of"), 0)
    agreement.receive_hypothesis(words("it was the test of"), 40)
    assert texts(agreement.committed) == ""
    agreement.receive_hypothesis(words("it was a test of"), 80)
    agreement.receive_hypothesis(words("it was the test of"), 120)
    assert texts(agreement.committed) == "it was"


def test_times_of_committed_words():
    """Are those of the newest hypothesis: a final is timed, the partials before it are not."""
    agreement = LocalAgreement()
    untimed = tuple(Word(text, (i,)) for i, text in enumerate("a b c d".split()))
    agreement.receive_hypothesis(untimed, 1)
    agreement.receive_hypothesis(untimed, 2)
    assert len(agreement.committed) == 3
    timed = tuple(Word(word.text, word.tokens, i, i + 1, 0.9) for i, word in enumerate(untimed))
    agreement.receive_hypothesis(timed, 3)
    assert agreement.committed + agreement.tentative == timed
