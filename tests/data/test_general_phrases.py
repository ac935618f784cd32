"""The built-in list of phrases."""

from collections import Counter

from sam3.data.general_phrases import HELD_OUT_SHARE, general_phrases


def test_the_list_is_large_and_says_nothing_twice():
    every = [name for phrase in general_phrases() for name in phrase.names]
    assert len(general_phrases()) >= 500
    assert [name for name, count in Counter(every).items() if count > 1] == []
    assert all(name == name.strip().lower() and name for name in every)


def test_topics_have_broader_words_and_synonyms_stay_together():
    bicycle = next(phrase for phrase in general_phrases() if phrase.text == "bicycle")
    assert (bicycle.names, bicycle.topic, bicycle.broader) == (("bicycle", "bike"), "road vehicles", ("vehicle",))
    assert all(phrase.broader[0] for phrase in general_phrases())


def test_about_an_eighth_is_held_out_and_everyday_things_always():
    ordinary = [phrase for phrase in general_phrases() if not phrase.is_everyday]
    held_out = [phrase for phrase in ordinary if phrase.is_held_out]
    assert 0.6 < len(held_out) / len(ordinary) * HELD_OUT_SHARE < 1.5
    everyday = [phrase for phrase in general_phrases() if phrase.is_everyday]
    assert {"person", "tree"} <= {phrase.text for phrase in everyday}
    assert all(phrase.is_held_out for phrase in everyday)
