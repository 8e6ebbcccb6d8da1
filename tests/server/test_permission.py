"""Who may do what: the whole matrix of routes and roles, the login, and what is bounded."""

from __future__ import annotations

import logging
import re

import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from server.access import SESSION_S, Access
from server.app import create_app
from server.permission import CONTROLS_AT_ONCE
from server.rates import MOST, Rates
from server.roles import DISARM, NEEDS, needed
from server.service import Service
from server.settings import Settings
from server.tokens import ROLES, Tokens, add_token, revoke_token
from tests.server.fakes import FakeBundles, FakeDecoder, FakeLive

BASE = "http://127.0.0.1:8000"
ORIGIN = {"origin": BASE}
HTTP = [row for row in NEEDS if row[0] != "WEBSOCKET"]
SOCKETS = ["/v1/predictions", "/v1/events"]


class Asked:
    """A service that asks for tokens, in process, with one of each role."""

    def __init__(self, folder):
        self.file = folder / "tokens.json"
        self.secrets = {role: add_token(self.file, f"the-{role}", role) for role in ROLES}
        self.service = Service(FakeLive(), FakeDecoder(), Settings(), FakeBundles())
        self.app = create_app(self.service, 8000, Tokens(self.file))
        self.client = TestClient(self.app, base_url=BASE, headers=ORIGIN, raise_server_exceptions=False)

    def bearer(self, role):
        return {} if role is None else {"authorization": f"Bearer {self.secrets[role]}"}

    def ask(self, method, path, role=None, **headers):
        path = path.replace("{name:path}", "page.css").replace("{name}", "fake").replace("{version}", "1")
        body = {"json": {}} if method in ("POST", "PUT") else {}
        return self.client.request(method, path, headers=self.bearer(role) | headers, follow_redirects=False, **body)

    def socket(self, path, **headers):
        return self.client.websocket_connect(f"ws://127.0.0.1:8000{path}", headers=headers)

    def log_in(self, role="operator"):
        return self.client.post("/v1/login", json={"token": self.secrets[role]})


@pytest.fixture
def asked(tmp_path):
    one = Asked(tmp_path)
    with one.client:
        yield one


def routes(app):
    """(method, path) of everything that the application answers."""
    found, open_ends = set(), list(app.routes)
    while open_ends:
        route = open_ends.pop()
        inner = getattr(route, "original_router", None) or getattr(route, "routes", None)
        if inner is not None and not hasattr(route, "path_format"):
            open_ends += getattr(inner, "routes", inner)
            continue
        methods = getattr(route, "methods", None) or {"WEBSOCKET"}
        found |= {(method, route.path) for method in methods - {"HEAD"}}
    return found


def test_every_route_has_its_row_and_every_row_its_route(asked):
    there = routes(asked.app)
    assert len(there) > 25
    assert there == set(NEEDS)


@pytest.mark.parametrize("role", [None, *ROLES])
def test_the_matrix(asked, role):
    for method, path in HTTP:
        need = NEEDS[method, path]
        may = need == "anyone" or (role is not None and ROLES.index(role) >= ROLES.index(need))
        answer = asked.ask(method, path, role)
        if may:
            refused = {401, 403, 404, 405, 429, 500} - ({404} if path == "/arrays/{name}" else set())  # it has but one
            assert answer.status_code not in refused, (method, path, answer.text)
        elif role is None and path == "/":
            assert (answer.status_code, answer.headers["location"]) == (303, "/login")
        else:
            assert answer.status_code == (401 if role is None else 403), (method, path)
            assert answer.headers["content-type"] == "application/problem+json"
            assert ("www-authenticate" in answer.headers) == (role is None)
    for path in SOCKETS:
        if role is not None:
            with asked.socket(path, **asked.bearer(role)):
                pass
            continue
        with pytest.raises(WebSocketDenialResponse) as denied, asked.socket(path):
            pass
        assert denied.value.status_code == 401


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", "Bearer x", "Basic {}", "bearer {}x", "{}", "Token {}", "Bearer {} {}", "Bearer \xff"],
)
def test_what_is_no_token(asked, header):
    presented = {"authorization": header.replace("{}", asked.secrets["admin"]).encode("latin-1")}
    assert asked.client.get("/v1/status", headers=presented).status_code == 401
    assert asked.client.get("/healthz", headers=presented).status_code == 200
    assert asked.client.get("/v1/status", params={"token": asked.secrets["admin"]}).status_code == 401


def test_what_has_no_row_is_not_there(asked):
    for path in ("/nothing", "/v1/status/", "/v1/status\n", "/V1/status", "/v1//status", "/docs"):
        assert needed("GET", path) is None
        assert asked.ask("GET", path.replace("\n", "%0A")).status_code == 401
        assert asked.ask("GET", path.replace("\n", "%0A"), "admin").status_code == 404
    wrong = asked.ask("DELETE", "/v1/models/fake/activate", "admin")
    assert wrong.status_code == 415  # the origin guard's: DELETE changes something and says nothing
    assert asked.ask("OPTIONS", "/v1/channels", "viewer").headers["allow"] == "PUT"


def test_anyone_may_disarm(asked):
    for headers in ({}, asked.bearer("viewer"), {"authorization": "Bearer of bad news"}):
        for _ in range(CONTROLS_AT_ONCE + 20):  # and however often
            answer = asked.client.post(DISARM, json={"reason": "a test"}, headers=headers)
            assert (answer.status_code, answer.json()["state"]) == (200, "DISARMED")


# The page ------------------------------------------------------------------------------------------------------------


def test_a_login_becomes_a_cookie_that_only_the_page_uses(asked):
    page = asked.client.get("/login")
    assert page.status_code == 200
    assert "script-src 'self'" in page.headers["content-security-policy"]
    for asset in re.findall(r'"(/page/[^"]+)"', page.text):
        assert asked.client.get(asset).status_code == 200
    answer = asked.log_in()
    assert answer.json() == {"name": "the-operator", "role": "operator"}
    cookie = answer.headers["set-cookie"]
    assert re.match(r"phosphene-8000=[\w-]{43}; HttpOnly; Max-Age=43200; Path=/; SameSite=strict$", cookie)
    assert asked.secrets["operator"] not in cookie
    assert asked.client.get("/").status_code == 200
    assert asked.client.get("/v1/status").status_code == 200
    assert asked.client.post("/v1/trigger/shadow", json={}).status_code == 409  # allowed, and there are no limits
    assert asked.client.post("/v1/models/drop", json={}).status_code == 403
    with asked.socket("/v1/events"):
        pass
    del asked.client.headers["origin"]
    with pytest.raises(WebSocketDenialResponse) as denied, asked.socket("/v1/events"):
        pass
    assert denied.value.status_code == 403
    foreign = {"origin": "http://127.0.0.1:8001"}
    assert asked.client.post("/v1/trigger/shadow", json={}, headers=foreign).status_code == 403


def test_a_logout_closes_what_the_login_opened(asked):
    asked.log_in()
    cookies = dict(asked.client.cookies)
    with asked.socket("/v1/predictions") as socket:
        out = asked.client.post("/v1/logout", json={})
        assert 'phosphene-8000=""' in out.headers["set-cookie"]
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
        assert closed.value.code == 1008
    asked.client.cookies.update(cookies)  # whoever kept it
    assert asked.client.get("/v1/status").status_code == 401


def test_over_tls_the_cookie_goes_nowhere_else(tmp_path):
    secret = add_token(tmp_path / "tokens.json", "ana", "viewer")
    settings = Settings(tls_cert="c.pem", tls_key="k.pem", origins=["https://rig.lab:8000"])
    app = create_app(
        Service(FakeLive(), FakeDecoder(), settings, FakeBundles()), 8000, Tokens(tmp_path / "tokens.json")
    )
    with TestClient(app, base_url="https://rig.lab:8000", headers={"origin": "https://rig.lab:8000"}) as client:
        answer = client.post("/v1/login", json={"token": secret})
        assert re.match(r"__Host-phosphene-8000=.*; Path=/; .*; Secure$", answer.headers["set-cookie"])
        assert client.get("/v1/status").status_code == 200
        assert client.get("/v1/status", headers={"origin": "http://rig.lab:8000"}).status_code == 403
        assert client.get("/v1/status", headers={"host": "rig.lab"}).status_code == 403


def test_a_login_ends_after_twelve_hours_and_the_oldest_make_room(tmp_path):
    now = 0.0
    secret = add_token(tmp_path / "tokens.json", "ana", "viewer")
    access = Access(Tokens(tmp_path / "tokens.json"), 8000, False, lambda: now)

    def headers(cookie):
        return {"cookie": f"other=1; {access.cookie}={cookie}"}

    _, first = access.log_in(secret)
    assert access.who(headers(first)).token.name == "ana"
    assert access.who({**headers(first), "authorization": "Bearer x"}) is None
    now = SESSION_S + 1
    assert access.who(headers(first)) is None
    cookies = [access.log_in(secret)[1] for _ in range(70)]
    assert access.who(headers(cookies[0])) is None
    assert access.who(headers(cookies[-1])) is not None
    assert access.who({"cookie": f"{access.cookie}="}) is None
    revoke_token(tmp_path / "tokens.json", "ana")
    access.tokens.look()
    assert access.who(headers(cookies[-1])) is None


def test_without_tokens_there_is_nothing_to_log_in_to(tmp_path):
    app = create_app(Service(FakeLive(), FakeDecoder(), Settings(), FakeBundles()), 8000)
    with TestClient(app, base_url=BASE, headers=ORIGIN) as client:
        assert client.post("/v1/login", json={"token": "x"}).status_code == 409
        assert client.post("/v1/logout", json={}).status_code == 200
        assert client.get("/").status_code == 200


# What is bounded -----------------------------------------------------------------------------------------------------


def test_wrong_tokens_are_bounded_and_right_ones_are_not(asked):
    wrong = {"authorization": "Bearer wrong"}
    answers = [asked.client.get("/v1/status", headers=wrong) for _ in range(5)]
    assert [one.status_code for one in answers] == [401] * 5
    late = asked.client.get("/v1/status", headers=wrong)
    assert (late.status_code, late.headers["retry-after"]) == (429, "12")
    assert asked.client.post("/v1/login", json={"token": "wrong"}).status_code == 429
    assert asked.ask("GET", "/v1/status", "viewer").status_code == 200
    assert asked.log_in().status_code == 200
    assert asked.client.get("/v1/status").status_code == 200


def test_controls_are_bounded_for_each_token(asked):
    answers = [asked.ask("PUT", "/v1/channels", "operator").status_code for _ in range(2 * CONTROLS_AT_ONCE)]
    assert answers[:CONTROLS_AT_ONCE] == [422] * CONTROLS_AT_ONCE
    assert answers[-1] == 429
    assert asked.ask("PUT", "/v1/channels", "admin").status_code == 422
    assert asked.ask("GET", "/v1/status", "operator").status_code == 200


def test_rates():
    now = 0.0
    rates = Rates(2.0, 3, lambda: now)
    assert [rates.wait_s("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert rates.wait_s("b") == 0
    now = 0.5
    assert [rates.wait_s("a") for _ in range(2)] == [0, 0.5]
    now = 1e6
    assert [rates.wait_s("a") for _ in range(4)] == [0, 0, 0, 0.5]
    for k in range(10_000):
        rates.wait_s(k)
    assert len(rates) == MOST


# What is written down ------------------------------------------------------------------------------------------------


def test_no_secret_is_logged_and_who_did_what_is(asked, caplog):
    caplog.set_level(logging.DEBUG)
    cookie = asked.log_in().cookies["phosphene-8000"]
    asked.client.post("/v1/login", json={"token": "a-guess"})
    asked.client.post("/v1/login", json={"token": ["a-guess"], "password": "a-guess"})
    asked.client.get("/v1/status", headers={"authorization": "Bearer a-guess"})
    asked.ask("POST", "/v1/models/drop", "admin")
    asked.client.cookies.clear()
    asked.ask("POST", "/v1/models/drop", "viewer")
    with pytest.raises(WebSocketDenialResponse), asked.socket("/v1/events?token=a-guess"):
        pass
    said = [record.getMessage() for record in caplog.records if record.name == "phosphene"]
    assert "the-operator (operator) logged in from testclient" in said
    assert "a login from testclient failed: no such token" in said
    assert "the-admin (admin): POST /v1/models/drop" in said
    everything = "\n".join(
        f"{record.getMessage()} {record.args}" for record in caplog.records if record.name != "httpx"
    )
    for secret in (*asked.secrets.values(), cookie, "a-guess"):
        assert secret not in everything
