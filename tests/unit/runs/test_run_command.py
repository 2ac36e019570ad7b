"""What `ape-load run` refuses before it asks any service."""

from pathlib import Path

import pytest

from tests.support import run_command

pytestmark = pytest.mark.unit
# Nothing listens there.
NOWHERE = ["http://127.0.0.1:9", "http://127.0.0.1:9", "token"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--threshold", "http_req_duration{endpoint='GET /nothing'}.p95 < 1"], "GET /nothing"),
        (["--threshold", "nonsense < 1"], "nonsense"),
        (["--agents", "3"], "ape-load scale --agents 3"),
        (["--duration", "0s"], "duration"),
        (["--duration", "soon"], "duration"),
        (["--rate", "much"], "rate"),
        (["--agents", "1", "--rate", "1"], "Leave one of them out"),
        # All of it is right, and the services are asked.
        (["--duration", "5s"], "does not answer"),
    ],
)
def test_run_that_is_refused_leaves_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command.main(NOWHERE, [*arguments, "--results", str(tmp_path / "results")])
    assert ended.value.code == 2
    found = capsys.readouterr().err
    assert words in found
    assert "nothing was changed" in found
    assert not list((tmp_path / "results").glob("*"))
