"""The line of each key, whatever stands around it."""

import tomllib

from fastmta.config.position import find_lines

TEXT = '''\
# comment with [brackets] and = signs
top = "a # no comment" # [x]
"quoted key" = 1
a.b . c = [ # ] not the end
  "]", \'[\', {x = 1},
  """
[not.a.table]
""", # more
]
multi = """first
[fake]
key = "x\\""" still
""""
raw = \'\'\'
[fake2]
\'\'\'
[table]   # comment
one = 1979-05-27T07:32:00Z
two = {inline = 1, other = "}"}

[ table . "sub table" ]
three=-3
[[array]]
four = 4
[[array]]
four = 5'''


def test_every_key_has_the_line_it_begins_on() -> None:
    tomllib.loads(TEXT)
    lines = find_lines(TEXT)
    assert {".".join(path): line for path, line in lines.items()} == {
        "top": 2,
        "quoted key": 3,
        "a": 4,
        "a.b": 4,
        "a.b.c": 4,
        "multi": 10,
        "raw": 14,
        "table": 17,
        "table.one": 18,
        "table.two": 19,
        "table.sub table": 21,
        "table.sub table.three": 22,
        "array": 23,
        "array.1": 23,
        "array.1.four": 24,
        "array.2": 25,
        "array.2.four": 26,
    }


def test_empty_text() -> None:
    assert find_lines("") == {}
    assert find_lines("# only a comment") == {}
