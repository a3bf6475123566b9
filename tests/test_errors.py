import pytest

from mammogan_tf.errors import first_line, reason_of_tensorflow


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n  one \ntwo"), "one "),
        (OSError(), "OSError"),
        (KeyError("a"), "'a'"),
    ],
)
def test_the_first_line_of_an_error(error, line):
    assert first_line(error) == line


@pytest.mark.parametrize(
    "text",
    [
        "/runs/1/state.data; No space left on device [Op:SaveV2]",
        "/runs/1/state.data; No space left on device\n  in the second line; nothing [Op:SaveV2]",
        "{{function_node}} /runs/a; b/state.data; No space left on device [Op:SaveV2] name:",
    ],
)
def test_why_tensorflow_could_not_write(text):
    assert reason_of_tensorflow(OSError(text)) == "No space left on device"
