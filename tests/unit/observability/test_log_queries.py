"""Queries of logs in the languages of both stores."""

import re

import pytest

from ape_infra.observability.log_queries import LogQuery, Match, logql, logsql

pytestmark = pytest.mark.unit
AGENTS = (Match("stack", "=~", "$stack"), Match("service", "=", "agent"))
IDS = (Match("session_id", "=~", "s|t"), Match("trace_id", "=~", "s|t"))
CASES = [
    (
        LogQuery(AGENTS),
        '{stack=~"$stack", service="agent"}',
        '{stack=~"($stack)", service="agent"}',
    ),
    (
        LogQuery((Match("service", "!=", "agent"),), grep='a "b" \\d'),
        r'{service!="agent"} |~ "a \"b\" \\d"',
        r'{service!="agent"} ~"a \"b\" \\d"',
    ),
    (
        LogQuery((Match("stack", "=", "dev"),), fields=(IDS, (Match("level", "!=", ""),))),
        '{stack="dev"} | session_id=~"s|t" or trace_id=~"s|t" | level!=""',
        '{stack="dev"} (session_id:~"^(s|t)$" or trace_id:~"^(s|t)$") level:!=""',
    ),
    (
        LogQuery(
            (Match("stack", "=", "dev"),), keys=(Match("msg", "=", "x"), Match("n", "!=", "1"))
        ),
        '{stack="dev"} | json | msg="x" | n!="1"',
        '{stack="dev"} | unpack_json fields (msg, n) | filter msg:="x" n:!="1"',
    ),
]


@pytest.mark.parametrize(("query", "of_loki", "of_victorialogs"), CASES)
def test_query_is_the_same_in_either_language(
    query: LogQuery, of_loki: str, of_victorialogs: str
) -> None:
    assert (logql(query), logsql(query)) == (of_loki, of_victorialogs)


def test_pattern_of_victorialogs_matches_the_whole_value() -> None:
    text = logsql(LogQuery((), fields=((Match("level", "=~", "warning|error"),),)))
    (pattern,) = re.findall(r'level:~"(.+)"', text)
    assert re.search(pattern, "error")
    assert not re.search(pattern, "no-error")
