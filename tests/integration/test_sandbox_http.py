"""The HTTP client, against a real server on loopback."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cipipe.tools import http


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = int(self.path.partition("?")[0].strip("/") or 200)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/200")
        self.send_header("X-Asked", self.headers.get("Authorization", ""))
        self.end_headers()
        if status != 204:
            self.wfile.write(
                b'{"path": "%s"}' % self.path.encode() if status == 200 else b"no JSON"
            )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(302 if self.path == "/302" else 200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_any_answer_is_an_answer(url: str) -> None:
    for status in (200, 204, 404, 500):
        assert http.request("GET", f"{url}/{status}").status == status
    assert http.request("GET", f"{url}/302").status == 200
    assert http.request("POST", f"{url}/302", body=b"x").status == 302


def test_header_names_are_lower_case_and_a_login_is_sent(url: str) -> None:
    answer = http.request("GET", f"{url}/200", headers={"Authorization": "Basic dTpw"})
    assert answer.headers["x-asked"].startswith("Basic ")


def test_json_both_ways(url: str) -> None:
    assert http.get_json(f"{url}/200", params={"a": "b c"}) == {"path": "/200?a=b+c"}
    assert http.post_json(f"{url}/200", {"ä": [1]}) == {"ä": [1]}


@pytest.mark.parametrize(("path", "status"), [("/404", 404), ("/500", 500), ("/201", 201)])
def test_errors_and_other_documents_are_refused_without_the_query(
    url: str, path: str, status: int
) -> None:
    with pytest.raises(http.HttpError) as caught:
        http.get_json(f"{url}{path}?token=secret")
    assert caught.value.status == status
    assert "secret" not in f"{caught.value.message}{caught.value.where}{caught.value.hint}"


def test_no_answer() -> None:
    with pytest.raises(http.HttpError, match="ConnectionError") as caught:
        http.get_json("http://127.0.0.1:1/?token=secret")
    assert caught.value.status is None
    assert "secret" not in str(caught.value)


def test_loopback_is_not_reached_through_a_proxy(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert http.request("GET", f"{url}/200").status == 200
