"""The users file: rows of CSV and JSON lines, and what is refused without showing a value."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ape_infra.config.users import UsersError, parse

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "text",
    [
        "name,password\nada,a b\ngrace,\n",
        "name,password\r\nada,a b\r\ngrace,\r\n",
        '\ufeffname, password \n"ada","a b"\ngrace,\n\n\n',
        '{"name": "ada", "password": "a b"}\n{"password": "", "name": "grace"}\n\n',
    ],
    ids=["lines", "Windows", "byte order mark", "JSON"],
)
def test_rows_have_a_value_for_each_column(text: str) -> None:
    users = parse(text)
    assert users.columns == ("name", "password")
    assert users.rows == (("ada", "a b"), ("grace", ""))


def test_values_may_have_commas_quotes_and_lines() -> None:
    assert parse('a,b\n"x, ""y""","1\n2"\n').rows == (('x, "y"', "1\n2"),)
    assert parse('{"a": 5, "b": true, "c": "\u2028"}').rows == (("5", "true", "\u2028"),)


SECRET = "hunter2"
REFUSED = [
    ("", "has no row"),
    ("name,password\n", "has no row"),
    (f"name,password\nada,{SECRET}\ngrace\n", "line 3: lacks column password"),
    (f"name,password\nada,{SECRET},x\n", "line 2: has 3 values for 2 columns"),
    (f"name,password\nada,{SECRET}\n\ngrace,x\n", "line 3: is an empty row"),
    (f"name,password\nada,{SECRET}\n,\n", "line 3: is an empty row"),
    (f"\n\nname\n{SECRET}\n", "line 1: is an empty row"),
    (f"ada@example.com,{SECRET}!\n", "line 1: column 1 does not have a name"),
    (f"name,,x\nada,{SECRET},1\n", "line 1: column 2 does not have a name"),
    (f"name,name\nada,{SECRET}\n", "line 1: column 2 is a second name"),
    (f"name,agent\nada,{SECRET}\n", "line 1: column agent has the name of a value"),
    (f'name\n"{SECRET}"x\n', "line 2: is not CSV"),
    (f'name\n"{SECRET}', "line 2: is not CSV"),
    (f"name\n{SECRET * 1000}\n", "line 2: name has more than 4000 characters"),
    (f'[{{"name": "{SECRET}"}}]', "line 1: begins a JSON list"),
    (f'{{"name": "{SECRET}"}}\n\n{{"name": "x"}}', "line 2: is an empty row"),
    (f'{{"name": "{SECRET}"}}\n{{"name": " "}}', "line 2: is an empty row"),
    (f'{{"name": "{SECRET}"}}\n{{"name": "x", "age": 1}}', "lacks, age"),
    (f'{{"name": "{SECRET}", "age": 1}}\n{{"name": "x"}}', "line 2: lacks column age"),
    (f'{{"name": "{SECRET}"}}\n{{"name": ["x"]}}', "line 2: name is not a text"),
    (f'{{"name": "{SECRET}"}}\n{{"name": null}}', "line 2: name is not a text"),
    (f'{{"name": "{SECRET}"}}\n{{"name": ', "line 2: is not a JSON object"),
    (f'{{"name": "{SECRET}\\ud800"}}', "line 1: name has half a character"),
    (",".join(f"c{n}" for n in range(101)), "line 1: has more than 100 columns"),
]


@pytest.mark.parametrize(("text", "rule"), REFUSED, ids=[rule[:30] for _, rule in REFUSED])
def test_a_file_that_breaks_a_rule_is_refused_and_not_quoted(text: str, rule: str) -> None:
    with pytest.raises(UsersError) as caught:
        parse(text)
    assert rule in str(caught.value)
    assert SECRET not in str(caught.value)


@given(st.text(max_size=80))
@settings(max_examples=30)
def test_any_text_is_rows_or_refused(text: str) -> None:
    try:
        users = parse(text)
    except UsersError:
        return
    assert users.rows
    assert all(len(row) == len(users.columns) and any(row) for row in users.rows)


def test_ten_thousand_rows_are_read() -> None:
    users = parse("name,password\n" + "ada,x y z\n" * 10_000)
    assert len(users.rows) == 10_000


def test_more_rows_than_a_run_may_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ape_infra.config.users.MAX_ROWS", 2)
    assert len(parse("name\n" + "ada\n" * 2).rows) == 2
    with pytest.raises(UsersError, match="has 3 rows, above the maximum of 2"):
        parse("name\n" + "ada\n" * 3)


def test_json_and_csv_of_the_same_users_are_the_same() -> None:
    lines = [{"name": f"u{n}", "age": n} for n in range(3)]
    csv = "name,age\n" + "".join(f"{each['name']},{each['age']}\n" for each in lines)
    assert parse("\n".join(map(json.dumps, lines))) == parse(csv)
