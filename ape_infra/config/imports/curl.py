"""The requests of curl commands, in a text file or a shell script. Nothing is executed.

The options are parsed by getopt, as curl's own are; a shell's quoting by a scanner, since `shlex`
has neither `$'…'` nor variables. What a command substitutes is a variable without a value.
"""

from __future__ import annotations

import base64
import getopt
import re
from collections.abc import Iterator
from urllib.parse import quote_plus

from ape_contracts.operation_request import FORM, MULTIPART
from ape_infra.config.imports import model
from ape_infra.config.imports.errors import ImportProblem
from ape_infra.config.imports.model import Body, Notes, Pair, Recording, Request

_PIECE = re.compile(
    r"(?P<join>\\\r?\n)|(?P<blank>[ \t]+)|(?P<comment>(?<![^\s;])#[^\n]*)"
    r"|'(?P<single>[^']*)'|\$'(?P<ansi>(?:[^'\\]|\\.)*)'|\"(?P<double>(?:[^\"\\]|\\.)*+)\"?"
    r"|\\(?P<escaped>.)|(?P<variable>\$(?:\{\w+\}|\w+))|(?P<call>\$\(|`)"
    r"|(?P<end>\r?\n|;|&&|\|\|?|[()]|&(?=\s|$))|(?P<redirect>[0-9]?>>?&?|<<?)"
    r"|(?P<plain>[^\s'\"\\;$|<>()`&#]+|.)",
    re.S,
)
_ESCAPES = re.compile(r"\\(u[0-9a-fA-F]{1,4}|x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)", re.S)
_LETTERS = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "b": "\b",
    "f": "\f",
    "v": "\v",
    "a": "\a",
    "e": "\x1b",
}
_IN_DOUBLE = re.compile(r"\\([\"\\$`])|\\\r?\n|\$\{(\w+)\}|\$(\w+)|(\$\([^()]*\)|`[^`]*`)")
_SHORT = "X:H:d:F:u:b:A:e:T:x:o:m:c:K:w:r:y:Y:z:C:E:D:P:Q:t:U:GIsSkLvifgjlnNOpqRaZ012346#J"
_DATA = ("data", "data-raw", "data-ascii", "data-binary", "data-urlencode", "json")
_WITH_VALUE = (
    *("request", "header", "form", "form-string", "user", "cookie", "user-agent", "referer", "url"),
    *("url-query", "oauth2-bearer", "upload-file", "proxy", "output", "max-time", "cookie-jar"),
    *("connect-timeout", "retry", "retry-delay", "retry-max-time", "cacert", "cert", "key"),
    *(
        "resolve",
        "write-out",
        "config",
        "limit-rate",
        "max-redirs",
        "interface",
        "range",
        "ciphers",
    ),
    *("tls-max", "proxy-user", "noproxy", "dump-header", "connect-to", "unix-socket", "key-type"),
    *("cert-type", "pass", "trace", "trace-ascii", "stderr", "aws-sigv4", "output-dir", "variable"),
)
_WITHOUT = (
    *("get", "head", "silent", "show-error", "insecure", "location", "verbose", "include", "fail"),
    *("compressed", "http1.1", "http1.0", "http2", "http2-prior-knowledge", "http3", "globoff"),
    *(
        "digest",
        "ntlm",
        "negotiate",
        "basic",
        "anyauth",
        "no-buffer",
        "fail-with-body",
        "no-keepalive",
    ),
    *("location-trusted", "remote-name", "progress-bar", "ipv4", "ipv6", "tlsv1.2", "tlsv1.3"),
    *(
        "retry-all-errors",
        "retry-connrefused",
        "path-as-is",
        "no-progress-meter",
        "raw",
        "ssl-no-revoke",
    ),
    *(
        "create-dirs",
        "remote-header-name",
        "post301",
        "post302",
        "post303",
        "tcp-nodelay",
        "parallel",
    ),
)
_LONG = [f"{name}=" for name in (*_DATA, *_WITH_VALUE)] + list(_WITHOUT)
_NAMES = {
    **{"-X": "request", "-H": "header", "-d": "data", "-F": "form", "-u": "user", "-b": "cookie"},
    **{"-A": "user-agent", "-e": "referer", "-T": "upload-file", "-G": "get", "-I": "head"},
}
_MAX_WORDS = 5000
_MAX_PIECES = 2_000_000


def requests(text: str, name: str, notes: Notes) -> Recording:
    """Return the requests of curl commands. Raises ImportProblem."""
    known: dict[str, str] = {}
    found: list[Request] = []
    read = 0
    for number, words in _commands(model.unmarked(text), known):
        at = next((i for i, word in enumerate(words[:8]) if _is_curl(word)), None)
        if at is None:
            continue
        read += 1
        place = f"{name}: command {number}"
        if len(words) > _MAX_WORDS:
            notes.add(f"a command of more than {_MAX_WORDS} words is left out", place)
            continue
        for arguments in _parts(words[at + 1 :]):
            found += _request(arguments, place, notes)
        if len(found) > model.MAX_REQUESTS:
            raise ImportProblem(f"has more than {model.MAX_REQUESTS} commands. Divide it.")
    mentioned = sum(
        re.search(r"\bcurl(?:\.exe)?[ \t]+\S", line.partition("#")[0]) is not None
        for line in text.splitlines()
    )
    if mentioned > read:
        notes.add(f"{mentioned - read} commands inside of quotes or unfinished are left out", name)
    if not read:
        raise ImportProblem("has no curl command. Write one on each line, as a shell takes it.")
    return Recording("curl", tuple(found))


def _is_curl(word: str) -> bool:
    return re.split(r"[/\\]", word)[-1] in ("curl", "curl.exe")


def _commands(text: str, known: dict[str, str]) -> Iterator[tuple[int, list[str]]]:
    """Yield (number, words) of each command; variables that it sets are added to `known`."""
    words: list[str] = []
    word: list[str] = []
    skips, number = False, 0

    def ended() -> None:
        nonlocal skips
        if word and not skips:
            words.append("".join(word))
        skips = skips and not word
        word.clear()

    for count, piece in enumerate(_PIECE.finditer(text)):
        kind = piece.lastgroup or ""
        if count > _MAX_PIECES:
            raise ImportProblem("has too many words for a list of commands. Divide it.")
        if kind in ("blank", "end", "redirect", "call"):
            if kind == "call":
                # The words of a command inside of another stand for themselves.
                word.append(model.variable("value"))
            ended()
            skips = skips or kind == "redirect"
            if kind in ("end", "call"):
                number, skips = number + 1, False
                _assigned(words, known)
                yield number, words
                words = []
        elif kind not in ("join", "comment"):
            word.append(_value(kind, piece, known))
    ended()
    yield number + 1, words


def _value(kind: str, piece: re.Match[str], known: dict[str, str]) -> str:
    text = piece[kind]
    if kind == "ansi":
        return _ESCAPES.sub(_unescaped, text)
    if kind == "variable":
        return _known(text.strip("${}"), known)
    if kind == "double":
        return _IN_DOUBLE.sub(lambda found: _in_double(found, known), text)
    return text


def _in_double(found: re.Match[str], known: dict[str, str]) -> str:
    if found[1]:
        return found[1]
    name = found[2] or found[3]
    return _known(name, known) if name else model.variable("value") if found[4] else ""


def _known(name: str, known: dict[str, str]) -> str:
    return known.get(name, model.variable(name))


def _unescaped(found: re.Match[str]) -> str:
    code = found[1]
    if code[0] in "ux" and len(code) > 1:
        return chr(int(code[1:], 16))
    if code[0] in "01234567":
        return chr(int(code, 8) % 256)
    return _LETTERS.get(code, code)


def _assigned(words: list[str], known: dict[str, str]) -> None:
    for word in words[1:] if words[:1] in (["export"], ["set"], ["local"]) else words:
        found = re.fullmatch(r"([A-Za-z_]\w{0,60})=(.*)", word, re.S)
        if not found:
            return
        # What a command puts out has no value here: its own name says most.
        text = model.variable(found[1]) if model.VARIABLE.fullmatch(found[2]) else found[2]
        if len(text) < 10_000:
            known[found[1]] = text


def _parts(words: list[str]) -> Iterator[list[str]]:
    """The arguments, divided where another request begins."""
    part: list[str] = []
    for word in words:
        if word in ("--next", "-:"):
            yield part
            part = []
        else:
            part.append(word)
    yield part


def _request(words: list[str], place: str, notes: Notes) -> Iterator[Request]:
    try:
        options, urls = getopt.gnu_getopt(words, _SHORT, _LONG)
    except getopt.GetoptError as error:
        notes.add(f"a command with the unknown option {error.opt[:40]} is left out", place)
        return
    given: dict[str, list[str]] = {}
    data: list[tuple[str, str]] = []
    for option, value in options:
        name = _NAMES.get(option, option.lstrip("-"))
        given.setdefault(name, []).append(value)
        if name in _DATA:
            data.append((name, value))
    urls = given.get("url", []) + urls
    if not urls:
        notes.add("a command without a URL is left out", place)
    if "config" in given or "-K" in dict(options):
        notes.add("options in a file of curl are not read", place)
    for url in urls[: model.MAX_REQUESTS + 1]:
        yield _of_url(url, given, data, place, notes)


def _of_url(
    url: str, given: dict[str, list[str]], data: list[tuple[str, str]], place: str, notes: Notes
) -> Request:
    origin, path, query, user = model.of_url(url)
    headers = [*_headers(given), *_signed(given, user, place, notes)]
    declared = {name.lower(): value for name, value in headers}
    for each in given.get("url-query", []):
        query += model.pairs(_urlencoded(each, place, notes))
    body = None
    if data and ("get" in given or "head" in given):
        query += model.pairs(_joined(data, place, notes) or "")
    elif data:
        body = _body(data, declared.get("content-type", ""), place, notes)
    elif "form" in given or "form-string" in given:
        body = Body(content_type=MULTIPART, value=_fields(given))
    elif "upload-file" in given:
        body = Body(content_type=declared.get("content-type", "application/octet-stream"))
        notes.add("the file of a command is not read", place)
    usual = "POST" if body and "upload-file" not in given else "PUT" if body else "GET"
    method = given.get("request", ["HEAD" if "head" in given else usual])[-1].upper()
    return Request(
        method=method, origin=origin, path=path, query=query, headers=tuple(headers), body=body
    )


def _headers(given: dict[str, list[str]]) -> list[Pair]:
    made = []
    for text in given.get("header", []):
        name, colon, value = text.partition(":")
        if colon and value.strip():
            made.append((name.strip(), value.strip()))
    made += [("Cookie", text) for text in given.get("cookie", []) if "=" in text]
    if "json" in given and not any(name.lower() == "content-type" for name, _ in made):
        made.append(("Content-Type", "application/json"))
    return made


def _signed(given: dict[str, list[str]], user: str, place: str, notes: Notes) -> Iterator[Pair]:
    for text in given.get("oauth2-bearer", []):
        yield "Authorization", f"Bearer {text}"
    if kinds := [k for k in ("digest", "ntlm", "negotiate", "aws-sigv4") if k in given]:
        notes.add(f"sign-in of type {kinds[0]} is left out: agents cannot perform it", place)
        return
    for text in given.get("user", [])[-1:] or [user] * bool(user):
        pair = text if ":" in text else f"{text}:"
        yield "Authorization", f"Basic {base64.b64encode(pair.encode('utf-8', 'replace')).decode()}"


def _body(data: list[tuple[str, str]], content_type: str, place: str, notes: Notes) -> Body | None:
    text = _joined(data, place, notes)
    if text is None:
        return Body(content_type=model.plain_type(content_type) or FORM)
    if not content_type:
        try:
            if isinstance(value := model.as_json(text), dict | list):
                notes.add("JSON without a content type is taken for application/json", place)
                return Body(content_type="application/json", value=value)
        except ValueError:
            pass
    return model.body_of(content_type or FORM, text, notes, place)


def _joined(data: list[tuple[str, str]], place: str, notes: Notes) -> str | None:
    """The data of a command as curl joins it; None: it stands in a file."""
    made = ""
    for option, value in data:
        if option == "data-urlencode":
            value = _urlencoded(value, place, notes)
        elif value[:1] == "@" and option != "data-raw":
            notes.add("a body in a file is not read", place)
            return None
        made += ("&" if made and option != "json" else "") + value
    return made


def _urlencoded(text: str, place: str, notes: Notes) -> str:
    found = re.match(r"([^=@]*)([=@])", text)
    if found and found[2] == "@":
        notes.add("a value in a file is not read", place)
        return f"{found[1]}={model.variable(found[1])}" if found[1] else ""
    name, value = (found[1], text[found.end() :]) if found else ("", text)
    value = "".join(
        f"{model.variable(part)}" if i % 2 else quote_plus(part.encode("utf-8", "replace"))
        for i, part in enumerate(model.VARIABLE.split(value))
    )
    return f"{name}={value}" if name else value


def _fields(given: dict[str, list[str]]) -> dict[str, object]:
    made: dict[str, object] = {}
    for text in given.get("form", []):
        name, _, value = text.partition("=")
        first, *more = value.split(";")
        options = dict(each.strip().partition("=")[::2] for each in more)
        if first[:1] in ("@", "<"):
            file = options.get("filename") or re.split(r"[/\\]", first[1:].strip('"'))[-1]
            model.add_field(made, name, model.file_value(file.strip('"'), options.get("type", "")))
        else:
            is_option = bool(options.keys() & {"type", "filename", "headers", "encoder"})
            model.add_field(made, name, first if is_option else value)
    for text in given.get("form-string", []):
        name, _, value = text.partition("=")
        model.add_field(made, name, value)
    return made
