"""Content that would go on with our own trace field (RFC 5322 2.2.3)."""

import pytest

from tests.support.session import Dialog

ENVELOPE = b"MAIL FROM:<a@client.example>\r\nRCPT TO:<b@dest.example>\r\n"


@pytest.mark.parametrize("first", [b" ", b"\t", b"  folded: "])
def test_content_that_begins_with_space_does_not_go_on_with_our_received_field(
    first: bytes,
) -> None:
    for bdat in (False, True):
        dialog = Dialog().hello()
        dialog.send(ENVELOPE)
        content = first + b"x\r\nX: y\r\n"
        if bdat:
            dialog.send(b"BDAT %d LAST\r\n" % len(content) + content)
        else:
            dialog.send(b"DATA\r\n")
            dialog.send(content + b".\r\n")
        (message,) = dialog.accept.messages
        assert (message.content or b"").endswith(b" (UTC)\r\n\r\n" + content)
