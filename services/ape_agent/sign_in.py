"""How a session is signed in: the steps of AgentSettings.sign_in, its cookies and its tokens.

`begin` performs the steps before the model is asked, `added` has what each request carries, `store`
takes each answer, `end` logs out. The model sees none of it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from ape_agent import logins
from ape_agent.calls import Target
from ape_agent.cookies import CookieJar
from ape_agent.results import SessionFailed, printable
from ape_agent.user_row import NOBODY, UserRow
from ape_contracts.sign_in import NAMES, SignInError, Step, filled, required, steps

FORM = "application/x-www-form-urlencoded"
NOTE = "You are signed in already. The answer of this endpoint is kept for you."
_MAX_HOPS = 5
_MAX_WORDS = 120
# Kinds of steps that make what a target may end.
_RENEWED = ("oauth2", "json", "form", "header")
_TO_LOGIN = (301, 302, 303, 307)
_FORBIDDEN = 403
# Shorter ones would be found in any text.
_MIN_SECRET = 4
# A request in the gateway's long form, without the route; its answer: status, headers, body.
Send = Callable[[dict[str, Any]], Awaitable[tuple[int, Any, Any]]]


class SignIn:
    """`credentials`: of this agent; `values`: what else the texts of fields may name.

    `user`: of this session; its columns are credentials too.
    """

    def __init__(
        self,
        declared: list[dict[str, Any]],
        credentials: Mapping[str, str],
        values: Mapping[str, str],
        target: Target,
        *,
        is_https: bool = True,
        user: UserRow = NOBODY,
    ) -> None:
        self._steps = steps(declared)
        self._credentials = {**credentials, **user.values}
        self._values = {**values, **self._credentials}
        self._target = target
        self._jar = CookieJar(target.host, is_https)
        # With https, some frameworks take no form without it, against requests of other sites.
        has_form = any(step.kind == "form" for step in self._steps)
        self._referer = f"https://{target.host}" if has_form and is_https and target.host else ""
        self._headers: dict[str, str] = {}
        self._query: dict[str, str] = {}
        self._is_signed_in = self._is_accepted = False
        # The statuses after which the session was signed in again.
        self._renewed: set[int] = set()
        self._secrets: set[str] = set()
        self._pattern = re.compile("")
        for name, value in credentials.items():
            if name not in NAMES and name not in user.values:
                self._keep_secret(value)
        # Also short ones: a column says itself that it is secret.
        self._secrets |= {user.values[name] for name in user.secret} - {""}

    @property
    def is_declared(self) -> bool:
        return bool(self._steps)

    def added(self, path: str) -> tuple[dict[str, str], dict[str, str]]:
        """(headers, query) of a request to `path`."""
        headers = dict(self._headers)
        if cookie := self._jar.header(path):
            headers["Cookie"] = cookie
            if self._referer:
                headers["Referer"] = self._referer + path
        for step in self._steps:
            if step.kind == "header" and (name := step.value.get("cookie")):
                # As the scripts of pages read it.
                value = self._jar.value(name, path) or self._jar.value(name)
                if value and unquote(value).isprintable():
                    headers[step.name] = unquote(value)
        return headers, dict(self._query)

    def store(self, method: str, path: str, status: int, headers: Any, body: Any) -> None:
        """Take an answer of the target: its cookies, and values that requests carry."""
        self._jar.store(path, headers)
        if self._is_signed_in and 200 <= status < 300:
            self._is_accepted = True
        if not self._steps:
            if token := logins.guessed(method, path, status, body):
                self._headers["Authorization"] = f"Bearer {token}"
            return
        for step in self._steps:
            if step.kind == "header" and "cookie" not in step.value and status < 400:
                is_its = (method, _plain(path)) == ("GET", _plain(step.path)) if step.path else True
                if is_its and (value := _found(step.value, headers, body)):
                    self._headers[step.name] = value

    def hides(self, method: str, path: str) -> bool:
        """Whether the answer may hold what signs in, and is not for the model."""
        return any(
            step.method == method and _plain(step.path) == _plain(path)
            for step in self._steps
            if step.kind in ("oauth2", "json", "form") and step.path
        )

    def redacted(self, value: Any) -> Any:
        """`value` without secrets in it: of what the model, a log or a report gets."""
        if not self._secrets:
            return value
        if isinstance(value, str):
            return self._masked(value)
        if type(value) in (int, float):
            return "[secret]" if str(value) in self._secrets else value
        if isinstance(value, dict):
            return {self.redacted(key): self.redacted(inner) for key, inner in value.items()}
        return [self.redacted(inner) for inner in value] if isinstance(value, list) else value

    def _masked(self, text: str) -> str:
        if not self._pattern.pattern:
            # The longest first: a secret may hold another.
            both = self._secrets | {quote(secret, safe="") for secret in self._secrets}
            found = sorted(both, key=lambda each: (-len(each), each))
            self._pattern = re.compile("|".join(map(_in_text, found)))
        return self._pattern.sub("[secret]", text)

    async def begin(self, send: Send) -> None:
        """Perform the steps. Raises SessionFailed."""
        try:
            for step in self._steps:
                await self._perform(step, send)
        except SignInError as problem:
            detail = self.redacted(f"Sign-in: {problem}")
            raise SessionFailed("target_error", detail) from None
        self._is_signed_in = True

    def is_over(self, path: str, status: int, headers: Any) -> bool:
        """Whether this answer to the model's request says that the session is not signed in.

        Some targets answer 403; if none was accepted before, the user may not do this.
        """
        steps = [step for step in self._steps if step.kind in _RENEWED]
        own = {_plain(each) for step in steps for each in (step.path, step.page) if each}
        if not steps or not self._is_signed_in or _plain(path) in own:
            return False
        if status == _FORBIDDEN:
            return self._is_accepted and status not in self._renewed
        if self._renewed - {_FORBIDDEN}:
            return False
        location = headers.get("location") if isinstance(headers, dict) else None
        if status in _TO_LOGIN and isinstance(location, str):
            page = self._own(path, location)
            return page is not None and _plain(page) in {_plain(s.page) for s in steps if s.page}
        return status == 401

    async def renew(self, send: Send, status: int = 401) -> None:
        """Sign in again after `status`: once in a session, and once after 403.

        Raises SessionFailed.
        """
        self._renewed.add(status)
        for step in self._steps:
            # A header of any answer stays until the next one.
            if step.kind in _RENEWED and (step.kind != "header" or step.path):
                # Some targets refuse a login that comes with an old token.
                self._headers.pop(step.name if step.kind == "header" else step.header, None)
        await self.begin(send)

    async def end(self, send: Send) -> None:
        """Log out, if the sign-in has that step. Raises SessionFailed."""
        for step in self._steps:
            if self._is_signed_in and step.kind == "logout":
                body = filled(step.fields, self._values) if step.fields else None
                await self._ask(send, step.method, step.path, body)

    async def _perform(self, step: Step, send: Send) -> None:
        """Raises SignInError or SessionFailed."""
        if step.kind == "bearer":
            self._carry_token(step, required(self._credentials, step.credential))
        elif step.kind == "basic":
            self._headers["Authorization"] = self._basic("username", "password")
        elif step.kind == "apiKey":
            key = required(self._credentials, step.credential)
            if step.where == "query":
                self._query[step.name] = key
            elif step.where == "cookie":
                self._jar.set(step.name, key)
            else:
                self._headers[step.name] = key
        elif step.kind == "oauth2":
            await self._oauth2(step, send)
        elif step.kind == "header":
            await self._header(step, send)
        elif step.kind in ("json", "form"):
            await self._login(step, send)

    def _carry_token(self, step: Step, token: str) -> None:
        self._headers[step.header] = f"{step.scheme} {token}".strip()
        self._keep_secret(token)

    def _keep_secret(self, value: str) -> None:
        if len(value) >= _MIN_SECRET:
            self._secrets.add(value)
            self._pattern = re.compile("")

    def _basic(self, name: str, password: str, *, is_encoded: bool = False) -> str:
        parts = [required(self._credentials, each) for each in (name, password)]
        parts = [quote(part, safe="") for part in parts] if is_encoded else parts
        encoded = base64.b64encode(":".join(parts).encode()).decode()
        self._keep_secret(encoded)
        return f"Basic {encoded}"

    async def _oauth2(self, step: Step, send: Send) -> None:
        needed = ("username", "password") if step.grant == "password" else ()
        form = {"grant_type": step.grant}
        form |= {name: required(self._credentials, name) for name in needed}
        if step.scope:
            form["scope"] = step.scope
        headers = {}
        if step.client == "basic":
            basic = self._basic("client_id", "client_secret", is_encoded=True)
            headers["Authorization"] = basic
        else:
            given = ("client_id", "client_secret")
            form |= {name: self._credentials[name] for name in given if name in self._credentials}
        _, answer, body = await self._checked(send, "POST", step.path, form, FORM, headers)
        self._take_token(step, answer, body, "/access_token")

    async def _login(self, step: Step, send: Send) -> None:
        fields, path = filled(step.fields, self._values), step.path
        if step.kind == "form" and (page := step.page or step.path):
            hidden, action = await self._read_form(page, set(step.fields), send)
            fields, path = {**hidden, **fields}, path or action
        kind = FORM if step.kind == "form" else None
        before = self._jar.header(path)
        status, headers, body = await self._checked(send, step.method, path, fields, kind)
        if step.kind == "form":
            await self._check_form(send, (step.page or path, path), status, headers, body)
        if step.token or (step.kind == "json" and logins.usual_token(body)):
            self._take_token(step, headers, body)
        elif self._jar.header(path) == before:
            raise SignInError(
                f"the answer to {step.method} {path} has neither a token nor a cookie. "
                "Set `token` to where the token stands."
            )

    async def _read_form(
        self, page: str, names: set[str], send: Send
    ) -> tuple[dict[str, str], str]:
        """The hidden fields of the login form, and where it is sent to. Raises SignInError."""
        from ape_agent.pages import Page

        page, _, body = await self._get(send, page)
        form = Page(body).login_form(names)
        if form is None:
            expected = " and ".join(sorted(names))
            raise SignInError(f"the page {page} has no form with the fields {expected}.")
        action = self._own(page, form.action) if form.action else page
        if action is None:
            raise SignInError(f"the form of the page {page} is sent to another host.")
        return form.fields, action

    async def _check_form(
        self, send: Send, own: tuple[str, str], status: int, headers: Any, body: Any
    ) -> None:
        """Raises SignInError if the login form is shown again. `own`: its page, its action."""
        from ape_agent.pages import Page

        location = headers.get("location", "") if isinstance(headers, dict) else ""
        if status >= 300:
            back = self._own(own[1], location) if location else None
            if back is None or _plain(back) not in map(_plain, own):
                return
            _, _, body = await self._get(send, back)
        if any(form.has_password for form in Page(body).forms):
            raise SignInError(
                f"after POST {own[1]} the target shows the login form again. Correct the "
                "credentials or the names of the fields."
            )

    async def _header(self, step: Step, send: Send) -> None:
        if not step.path:
            return
        _, headers, body = await self._get(send, step.path)
        name = step.value.get("cookie")
        value = self._jar.value(name) if name else _found(step.value, headers, body)
        if not value:
            where = " ".join(*step.value.items())
            raise SignInError(f"the answer to GET {step.path} has no {where}.")
        if not name:
            self._headers[step.name] = value

    def _take_token(self, step: Step, headers: Any, body: Any, pointer: str = "") -> None:
        """Raises SignInError."""
        source = step.token or ({"pointer": pointer} if pointer else {})
        if name := source.get("cookie"):
            token = self._jar.value(name) or ""
        else:
            token = _found(source, headers, body) if source else logins.usual_token(body)
        if not token:
            where = " ".join(*source.items()) if source else "token"
            raise SignInError(f"the answer to {step.method} {step.path} has no {where}.")
        # Some answers have the scheme before the token.
        if step.scheme and token.lower().startswith(f"{step.scheme.lower()} "):
            token = token[len(step.scheme) :].strip()
        self._carry_token(step, token)

    async def _get(self, send: Send, path: str) -> tuple[str, Any, Any]:
        """The (path, headers, body) of a page, after redirects. Raises SignInError."""
        for _ in range(_MAX_HOPS):
            status, headers, body = await self._checked(send, "GET", path)
            location = headers.get("location") if isinstance(headers, dict) else None
            if status < 300 or not isinstance(location, str):
                return path, headers, body
            following = self._own(path, location)
            if following is None:
                raise SignInError(f"GET {path} is redirected to another host.")
            path = following
        raise SignInError(f"GET {path}: more than {_MAX_HOPS} redirects.")

    def _own(self, page: str, reference: str) -> str | None:
        """The path that a reference in the answer to `page` leads to; None: another host's."""
        host = self._target.host
        base = "/" + host.partition("/")[2] if "/" in host else ""
        own = f"//{host.partition('/')[0] or 'unknown'}"
        try:
            found = urljoin(f"http:{own}{base}{page}", reference.strip())
            parts = urlsplit(found)
        except ValueError:
            return None
        if host:
            return self._target.path_of(found)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        return (path or "/") if parts.netloc == "unknown" else None

    async def _checked(
        self,
        send: Send,
        method: str,
        path: str,
        body: Any = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any, Any]:
        """An answer below 400. Raises SignInError."""
        answer = await self._ask(send, method, path, body, content_type, headers)
        if answer[0] >= 400:
            said = printable(self.redacted(logins.refusal(answer[2])), _MAX_WORDS)
            raise SignInError(f"{method} {path}: status {answer[0]}. {said}".strip())
        return answer

    async def _ask(
        self,
        send: Send,
        method: str,
        path: str,
        body: Any = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any, Any]:
        own, query = self.added(path)
        asked: dict[str, Any] = {
            "http_method": method,
            "endpoint_path": path,
            "session_headers": {**own, **(headers or {})},
            "request_payload": body,
        }
        if content_type:
            asked["content_type"] = content_type
        if query:
            asked["query"] = query
        status, answered, content = await send(asked)
        self.store(method, path, status, answered, content)
        return status, answered, content


def _in_text(secret: str) -> str:
    """The pattern of a secret; a short one counts as a word only."""
    escaped = re.escape(secret)
    return escaped if len(secret) >= _MIN_SECRET else rf"(?<!\w){escaped}(?!\w)"


def _found(source: Mapping[str, str], headers: Any, body: Any) -> str:
    # Not at the top: see `pages`.
    from ape_agent import pages

    return pages.found(source, headers, body)


def _plain(path: str) -> str:
    return path.partition("?")[0].rstrip("/") or "/"
