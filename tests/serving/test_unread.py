import pytest

from mammogan_tf.serving import unread
from mammogan_tf.serving.unread import Receipt, Unread


@pytest.fixture
def clock(monkeypatch):
    """Time that passes where a test says so: ``clock[0]`` seconds."""
    now = [100.0]
    monkeypatch.setattr("mammogan_tf.serving.unread.time.monotonic", lambda: now[0])
    monkeypatch.setattr("mammogan_tf.serving.unread.CLIENT_LIMIT", 10)
    monkeypatch.setattr("mammogan_tf.serving.unread.LIMIT", 32)
    return now


def add(answers: Unread, client: str, size: int) -> Receipt:
    receipt = Receipt(client)
    answers.add(receipt, size)
    return receipt


def test_a_client_past_its_limit_waits_and_others_do_not(clock):
    answers = Unread()
    first, second = add(answers, "a", 4), add(answers, "a", 5)
    assert answers.held_until("a", 1) is None
    assert answers.held_until("a", 2) == 100 + unread.PATIENCE
    assert answers.held_until("b", 10) is None
    answers.remove(first)
    assert answers.held_until("a", 5) is None
    answers.remove(second)
    assert answers.bytes == 0


def test_past_the_limit_of_all_there_is_room_for_small_answers(clock):
    answers = Unread()
    receipts = [add(answers, client, 10) for client in "abc"]
    assert answers.held_until("d", 6) == 100 + unread.PATIENCE
    assert answers.held_until("d", 2) is None
    answers.remove(receipts[0])
    assert answers.held_until("d", 6) is None


def test_the_largest_answer_needs_half_the_room_and_no_more(clock):
    answers = Unread()
    small, _ = add(answers, "a", 5), add(answers, "b", 11)
    assert answers.held_until("a", 1000) is None
    another = add(answers, "c", 1)
    assert answers.held_until("a", 1000) == 100 + unread.PATIENCE, "of all"
    answers.remove(another)
    add(answers, "a", 1)
    assert answers.held_until("a", 1000) == 100 + unread.PATIENCE, "of its client"
    answers.remove(small)
    assert answers.held_until("a", 1000) is None


def test_patience_counts_from_the_last_answer_that_was_read(clock):
    answers = Unread()
    first, _ = add(answers, "a", 10), add(answers, "a", 10)
    clock[0] += 5
    add(answers, "a", 12)
    assert answers.held_until("a", 1) == 100 + unread.PATIENCE, "what comes on top is no progress"
    assert answers.held_until("b", 1) == 100 + unread.PATIENCE
    answers.remove(first)
    add(answers, "a", 10)
    assert answers.held_until("a", 1) == answers.held_until("b", 1) == 105 + unread.PATIENCE


def test_a_client_that_gave_up_before_its_answer_was_there_has_nothing_to_read(clock):
    answers, receipt = Unread(), Receipt("a")
    answers.remove(receipt)
    answers.add(receipt, 100)
    assert answers.bytes == 0
    assert answers.held_until("a", 1) is None
