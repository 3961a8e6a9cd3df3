"""The tokenizer of the simulated chat models."""

from hypothesis import given
from hypothesis import strategies as st

from livekit_costmeter.testing.vendors.tokens import count, count_prompt, pieces


@given(st.text())
def test_pieces_joined_are_the_text(text):
    """Splitting loses and adds nothing, whatever the text."""
    assert "".join(pieces(text)) == text


@given(st.text(min_size=1))
def test_every_text_costs_tokens(text):
    """A text that is not empty costs at least one token and at most one per character."""
    assert 1 <= count(text) <= len(text)


def test_tokens_are_neither_words_nor_a_share_of_the_characters():
    """Texts of about the same length or number of words cost different numbers of tokens."""
    frequent, rare = "what can you do for us now", "incomprehensible hippopotami"
    assert count(frequent) == len(frequent.split())
    assert count(rare) == 2 * len(rare.split())
    ratios = {round(len(text) / count(text), 1) for text in (frequent, rare, "4711-0815", "日本語のテキスト")}
    assert len(ratios) == 4


def test_a_prompt_costs_more_than_its_texts():
    """Messages and the priming of the answer cost tokens of their own; tools cost theirs."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    bare = count_prompt(messages)
    assert bare == count("Be brief.") + count("Hello") + 2 * 3 + 3
    assert count_prompt(messages, [{"type": "function", "function": {"name": "book"}}]) > bare
