import pytest

from mammogan_tf.serving import backpressure
from mammogan_tf.serving.backpressure import Receipt, UnreadAnswers


@pytest.fixture
def clock(monkeypatch):
    """Time that passes where a test says so: ``clock[0]`` seconds."""
    now = [100.0]
    monkeypatch.setattr(backpressure.time, "monotonic", lambda: now[0])
    for name, limit in {"SMALL": 5, "SMALL_LIMIT": 20, "LARGE_LIMIT": 40, "CLIENT_LIMIT": 30}.items():
        monkeypatch.setattr(backpressure, name, limit)
    return now


def put(answers: UnreadAnswers, client: str, size: int) -> Receipt:
    receipt = Receipt(client)
    answers.put(receipt, size)
    return receipt


def test_a_client_past_its_limit_waits_and_others_do_not(clock):
    answers = UnreadAnswers()
    first, second = put(answers, "a", 20), put(answers, "a", 8)
    assert answers.held_until("a", 2) is None
    assert answers.held_until("a", 3) == 100 + backpressure.PATIENCE
    assert answers.held_until("b", 12) is None
    answers.remove(first)
    assert answers.held_until("a", 12) is None
    answers.remove(second)
    assert answers.bytes == 0


def test_small_answers_wait_for_other_small_ones_alone(clock):
    answers = UnreadAnswers()
    large = [put(answers, client, 20) for client in "ab"]
    assert answers.held_until("c", 6) == 100 + backpressure.PATIENCE
    assert answers.held_until("c", 5) is None
    small = [put(answers, client, 5) for client in "cdef"]
    assert answers.held_until("g", 1) == 100 + backpressure.PATIENCE
    answers.remove(small[0])
    assert answers.held_until("g", 5) is None
    answers.remove(large[0])
    assert answers.held_until("g", 6) is None


def test_the_largest_answer_needs_half_the_room_and_no_more(clock):
    answers = UnreadAnswers()
    put(answers, "a", 15)
    assert answers.held_until("a", 1000) is None
    another = put(answers, "b", 6)
    assert answers.held_until("a", 1000) == 100 + backpressure.PATIENCE, "of all"
    answers.remove(another)
    put(answers, "a", 1)
    assert answers.held_until("a", 1000) == 100 + backpressure.PATIENCE, "of its client"
    assert answers.held_until("b", 1000) is None


def test_patience_counts_from_the_last_change(clock):
    """Whoever waits had no room at that time, or came later."""
    answers = UnreadAnswers()
    first, _ = put(answers, "a", 15), put(answers, "b", 15)
    clock[0] += 5
    answers.put(first, 25)  # As large as it came out.
    assert answers.held_until("c", 15) == answers.held_until("a", 15) == 105 + backpressure.PATIENCE
    clock[0] += 5
    answers.remove(put(answers, "b", 1))
    assert answers.held_until("c", 15) == 105 + backpressure.PATIENCE, "small ones are no progress"


def test_what_was_expected_is_corrected_by_what_came(clock):
    answers, receipt = UnreadAnswers(), Receipt("a")
    answers.put(receipt, 0)
    assert answers.bytes == 0
    answers.put(receipt, 3)
    answers.put(receipt, 7)
    assert answers.bytes == 7
    answers.remove(receipt)
    answers.remove(receipt)
    assert answers.bytes == 0


def test_a_client_that_gave_up_before_its_answer_was_there_has_nothing_to_read(clock):
    answers, receipt = UnreadAnswers(), Receipt("a")
    answers.put(receipt, 10)
    answers.remove(receipt)
    answers.put(receipt, 100)
    assert answers.bytes == 0
    assert answers.held_until("a", 1) is None
