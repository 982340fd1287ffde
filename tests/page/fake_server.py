#!/usr/bin/env python3
"""A stand-in for llama3-server that says and fails as it is told: what the chat page's tests talk to.

    fake_server.py PAGE [PORT]

serves PAGE at / under the policy that the server sends, and the API that the page uses. POST /fake
with a JSON object changes what happens next:

    text      the answer
    think     the thoughts before it
    delay     seconds between two pieces of it
    piece     characters of a piece
    prompt    [done, ...]: progress comments, a second apart, before the answer; out of the last
    refuse    [[status, Retry-After or null], ...]: one for each of the next requests for an answer
    key       the API key that is asked for
    break     close the connection after so many pieces
    error     an error object in the stream, after the first piece
    finish    finish_reason
    loading   /health says 503
    context   tokens

GET /fake tells the bodies of the requests for answers so far. Its address is the first line on stdout.
"""
import base64
import hashlib
import json
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DEFAULTS = {
    "text": "An answer.", "think": "", "delay": 0.01, "piece": 4, "prompt": [], "refuse": [], "key": None,
    "break": None, "error": None, "finish": "stop", "loading": False, "context": 2048,
}
state = dict(DEFAULTS)
requests = []


def policy(page):
    """The header for a page of one <style> and one <script>, each named by its hash."""
    hashes = {}
    for tag in ("style", "script"):
        found = re.findall(f"<{tag}>(.*?)</{tag}>".encode(), page, re.DOTALL)
        assert len(found) == 1, f"expected one <{tag}> without attributes, found {len(found)}"
        hashes[tag] = "'sha256-" + base64.b64encode(hashlib.sha256(found[0]).digest()).decode() + "'"
    return (
        "default-src 'none'; connect-src 'self'; img-src data:; "
        f"style-src {hashes['style']}; script-src {hashes['script']}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, status, body, kind="application/json", headers=()):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def fail(self, status, message, headers=()):
        error = {"message": message, "type": "error", "param": None, "code": None}
        self.reply(status, {"error": error}, headers=headers)

    def may(self):
        if state["key"] is None or self.headers["Authorization"] == "Bearer " + state["key"]:
            return True
        self.fail(401, "expected an API key")
        return False

    def do_GET(self):
        if self.path == "/":
            with open(sys.argv[1], "rb") as file:
                page = file.read()
            self.reply(200, page, "text/html; charset=utf-8",
                       [("Content-Security-Policy", policy(page)), ("Cache-Control", "no-cache")])
        elif self.path == "/health":
            self.reply(503 if state["loading"] else 200, {"status": "loading" if state["loading"] else "ok"})
        elif self.path == "/fake":
            self.reply(200, requests)
        elif self.path == "/v1/models":
            if self.may():
                model = {"id": "SmolLM2-135M-Instruct", "object": "model", "meta": {"context": state["context"]}}
                self.reply(200, {"object": "list", "data": [model]})
        else:
            self.fail(404, "no such thing")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/fake":
            state.update(DEFAULTS if body.get("reset") else body)
            self.reply(200, {})
        elif self.path == "/tokenize":
            if self.may():
                self.reply(200, {"tokens": list(range(len(body["content"]) // 4))})
        elif self.path == "/v1/chat/completions":
            requests.append(body)
            if self.may():
                self.answer(body)
        else:
            self.fail(404, "no such thing")

    def answer(self, body):
        if state["refuse"]:
            status, after = state["refuse"].pop(0)
            words = {400: "the prompt has 9000 tokens, the context 2048", 503: "the server is busy"}
            self.fail(status, words.get(status, "no"), [("Retry-After", str(after))] if after else [])
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        self.stream(body)

    def event(self, choices, **more):
        chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "SmolLM2-135M-Instruct",
                 "choices": choices, **more}
        self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    def stream(self, body):
        delta = lambda delta, finish=None: [{"index": 0, "delta": delta, "finish_reason": finish}]
        steps = list(state["prompt"])
        for done in steps:
            self.wfile.write(f": prompt {done}/{steps[-1]}\n\n".encode())
            time.sleep(1)
        self.event(delta({"role": "assistant", "content": ""}))
        size = state["piece"]
        pieces = [({"reasoning_content": part, "reasoning": part} if name == "think" else {"content": part})
                  for name in ("think", "text")
                  for part in (state[name][i:i + size] for i in range(0, len(state[name]), size))]
        for i, piece in enumerate(pieces):
            if state["break"] is not None and i == state["break"]:
                return
            self.event(delta(piece))
            if state["error"]:
                self.wfile.write(b"data: " + json.dumps({"error": state["error"]}).encode() + b"\n\n")
                return
            time.sleep(state["delay"])
        self.event(delta({}, state["finish"]))
        prompt = sum(len(message["content"]) for message in body["messages"]) // 4 + 8
        usage = {"prompt_tokens": prompt, "completion_tokens": len(pieces), "total_tokens": prompt + len(pieces),
                 "prompt_tokens_details": {"cached_tokens": prompt // 2}}
        timings = {"prompt_n": prompt - prompt // 2, "prompt_ms": 120.0, "prompt_per_second": 500.0,
                   "predicted_n": len(pieces), "predicted_ms": 1000.0, "predicted_per_second": 41.5}
        self.event([], usage=usage, timings=timings)
        self.wfile.write(b"data: [DONE]\n\n")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request, address):
        if not isinstance(sys.exc_info()[1], ConnectionError):  # clients that leave are no news
            super().handle_error(request, address)


def main():
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    server = Server(("127.0.0.1", port), Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}/", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
