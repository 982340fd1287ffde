#!/usr/bin/env python3
"""A llama3-server under load and attack: load.py [--tests TEST,...] -- SERVER OPTION..., which starts
SERVER with the options and a free port. Every test says what it measured; the first failure ends
it."""
import argparse
import http.client
import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time


class Server:
    def __init__(self, command):
        self.log = open("server.log", "wb")
        self.process = subprocess.Popen(command + ["--port", "0"], stderr=self.log)
        while True:
            time.sleep(0.1)
            said = open("server.log", encoding="utf-8").read()
            found = re.search(r"ready at http://([0-9.]+):(\d+)/", said)
            if found:
                break
            if self.process.poll() is not None:
                sys.exit(f"the server does not start: {said}")
        self.host, self.port = found[1], int(found[2])

    def request(self, method, path, body=None, timeout=300):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            connection.request(method, path, body and json.dumps(body),
                               {"Content-Type": "application/json"} if body else {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def ask(self, text, **fields):
        """The answer's text; waits where the server is busy."""
        body = {"messages": [{"role": "user", "content": text}], "temperature": 0} | fields
        while True:
            status, answer = self.request("POST", "/v1/chat/completions", body)
            if status == 200:
                return json.loads(answer)["choices"][0]["message"]["content"]
            assert status in (429, 503), (status, answer)
            time.sleep(0.2)

    def stream(self, text, **fields):
        """Yields the pieces of a streamed answer as (seconds, text)."""
        body = {"messages": [{"role": "user", "content": text}], "stream": True} | fields
        connection = http.client.HTTPConnection(self.host, self.port, timeout=300)
        start = time.monotonic()
        connection.request("POST", "/v1/chat/completions", json.dumps(body),
                           {"Content-Type": "application/json"})
        response = connection.getresponse()
        assert response.status == 200, (response.status, response.read())
        for line in response:
            if line.startswith(b"data: {"):
                event = json.loads(line[6:])
                assert "error" not in event, event
                for choice in event["choices"]:
                    if choice["delta"].get("content"):
                        yield time.monotonic() - start, choice["delta"]["content"]
        connection.close()

    def metrics(self):
        text = self.request("GET", "/metrics")[1].decode()
        return {m[1]: float(m[2]) for m in re.finditer(r"^llama3_(\w+) ([\d.]+)$", text, re.M)}

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory(self):
        """Resident anonymous memory, in bytes."""
        status = open(f"/proc/{self.process.pid}/status", encoding="ascii").read()
        return int(re.search(r"RssAnon:\s+(\d+)", status)[1]) * 1024

    def settle(self, seconds=10):
        """Waits until nothing runs; how long that took."""
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            now = self.metrics()
            if now["sequences"] == now["requests"] == now["sequences_waiting"] == 0 \
                    and now["connections"] <= 1:
                return time.monotonic() - start
            time.sleep(0.05)
        raise AssertionError(f"something still runs after {seconds} s: {now}")

    def stop(self):
        self.process.terminate()
        assert self.process.wait(60) == 0, "SIGTERM: not 0"


def say(text):
    print(text, flush=True)


def together(functions):
    """Runs functions at once, and raises what the first of them raised."""
    failures = []

    def run(function):
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - it is raised below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(f,)) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def watch_health(server, stop, times):
    while not stop.is_set():
        start = time.monotonic()
        assert server.request("GET", "/health")[0] == 200
        times.append(time.monotonic() - start)
        time.sleep(0.02)


def streams(server, args):
    """64 streams at once, while /health answers in time."""
    stop, times, pieces = threading.Event(), [], []

    def one(i):
        pieces.append(list(server.stream(f"Tell me about the number {i}.", max_tokens=args.tokens)))

    watcher = threading.Thread(target=watch_health, args=(server, stop, times))
    watcher.start()
    start = time.monotonic()
    together([lambda i=i: one(i) for i in range(64)])
    seconds = time.monotonic() - start
    stop.set()
    watcher.join()
    times.sort()
    tokens = sum(map(len, pieces))
    say(f"64 streams: {tokens / seconds:.0f} pieces/s; /health {len(times)} times, median "
          f"{1e3 * times[len(times) // 2]:.1f} ms, slowest {1e3 * times[-1]:.1f} ms")
    assert all(pieces), "a stream said nothing"
    assert times[-1] < args.health, f"/health took {times[-1]:.3f} s"


def stall(server, args):
    """A long prompt doesn't stall a stream."""
    gaps, done = [], threading.Event()

    def writer():
        last = None
        for at, _ in server.stream("Count.", max_tokens=300, logit_bias={"2": -100}):
            if last is not None:
                gaps.append(at - last)
            last = at
        done.set()

    def reader():
        time.sleep(0.5)
        i = 0
        while not done.is_set():
            i += 1
            server.ask(f"{i} " + "word " * args.long, max_tokens=1)

    together([writer, reader])
    gaps.sort()
    say(f"a stream beside long prompts: {len(gaps)} gaps, median {1e3 * gaps[len(gaps) // 2]:.0f} "
          f"ms, longest {1e3 * gaps[-1]:.0f} ms")
    assert gaps[-1] < args.stall, f"a stream stalled for {gaps[-1]:.2f} s"


def drip(server, args):
    """500 sockets that send a byte a second: others are served meanwhile, and they are closed."""
    sockets = []
    for i in range(500):
        s = socket.create_connection((server.host, server.port))
        s.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " if i % 2 else
                  b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
                  b"Content-Type: application/json\r\n\r\n")
        s.setblocking(False)
        sockets.append(s)
    slowest = 0
    start = time.monotonic()
    while sockets and time.monotonic() - start < 45:
        before = time.monotonic()
        assert server.request("GET", "/health", timeout=20)[0] in (200, 503)
        slowest = max(slowest, time.monotonic() - before)
        for s in list(sockets):
            try:
                s.send(b"a")
                if s.recv(1000) == b"":
                    raise OSError
            except BlockingIOError:
                pass
            except OSError:
                s.close()
                sockets.remove(s)
        time.sleep(1)
    say(f"500 slow sockets: all closed after {time.monotonic() - start:.0f} s; /health meanwhile "
          f"{1e3 * slowest:.0f} ms at the slowest")
    assert not sockets, f"{len(sockets)} are still open"
    server.settle()


def vanish(server, args):
    """Clients that leave at any moment leave nothing behind."""
    server.ask("Hello", max_tokens=1)
    server.settle()
    fds = server.descriptors()
    rnd = random.Random(1)

    def one():
        for _ in range(args.vanish // 20):
            stream = rnd.random() < 0.5
            body = json.dumps({"messages": [{"role": "user", "content": "word " * rnd.randrange(1, args.long)}],
                               "stream": stream, "max_tokens": 500, "n": rnd.randrange(1, 3)})
            head = (f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}"
                    "\r\nContent-Type: application/json\r\n\r\n")
            sent = (head + body).encode()
            if rnd.random() < 0.2:
                sent = sent[:rnd.randrange(len(sent))]
            s = socket.create_connection((server.host, server.port))
            s.sendall(sent)
            time.sleep(rnd.random() * 0.5)
            if rnd.random() < 0.5:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            s.close()

    together([one] * 20)
    took = server.settle(args.settle)
    left = server.metrics()
    say(f"{args.vanish} clients vanished: nothing runs {took:.2f} s after the last, descriptors "
          f"{fds} before, {server.descriptors()} after, {left['kv_bytes'] / 1e6:.0f} MB of KV, "
          f"{left['prefix_bytes'] / 1e6:.0f} MB in the prefix cache")
    assert server.descriptors() <= fds + 1
    assert left["kv_bytes"] <= left["kv_limit_bytes"]


def canary(server, args):
    """32 clients with a common beginning and a word of their own: none gets another's."""
    common = "Repeat the word that you are given, and nothing else. " * 8
    words = [f"zx{i:02d}q" for i in range(32)]

    def one(i):
        text = f"{common} The word is {words[i]}."
        alone = None
        for turn in range(args.canary):
            answer = server.ask(text, max_tokens=24) if turn % 2 else \
                "".join(piece for _, piece in server.stream(text, max_tokens=24, temperature=0))
            assert not any(w in answer for w in words if w != words[i]), (i, answer)
            assert alone in (None, answer), (alone, answer)
            alone = answer

    together([lambda i=i: one(i) for i in range(32)])
    say(f"32 clients, {args.canary} answers each: no word crossed, each always got one answer")


def turns(server, args):
    """A conversation's second turn reads only what is new, told in pages of 64 tokens."""
    messages = [{"role": "user", "content": "word " * args.long}]
    times = []
    for _ in range(2):
        start = time.monotonic()
        status, answer = server.request("POST", "/v1/chat/completions",
                                        {"messages": messages, "max_tokens": 1, "temperature": 0})
        times.append(time.monotonic() - start)
        answer = json.loads(answer)
        messages += [answer["choices"][0]["message"], {"role": "user", "content": "And then?"}]
    usage = answer["usage"]
    new = usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"]
    say(f"two turns: {1e3 * times[0]:.0f} ms, then {1e3 * times[1]:.0f} ms for {new} new tokens of "
          f"{usage['prompt_tokens']}")
    assert status == 200 and new < 30 + 64


def mixed(server, args):
    """Mixed traffic for minutes: memory stays flat."""
    until = time.monotonic() + 60 * args.minutes
    samples = []

    def one(i):
        rnd = random.Random(i)
        while time.monotonic() < until:
            kind = rnd.randrange(6)
            text = "word " * rnd.randrange(1, args.long) + str(rnd.random())
            if kind == 0:
                server.ask(text, max_tokens=rnd.randrange(1, 40), n=rnd.randrange(1, 5))
            elif kind == 1:
                list(server.stream(text, max_tokens=40))
            elif kind == 2:
                next(server.stream(text, max_tokens=400), None)
            elif kind == 3:
                server.request("POST", "/v1/chat/completions", {"messages": text})
            elif kind == 4:
                server.request("POST", "/tokenize", {"content": text})
            else:
                server.ask("Hello", max_tokens=20, temperature=1, logprobs=True, top_logprobs=5)

    def sample():
        while time.monotonic() < until:
            time.sleep(min(5, 6 * args.minutes))
            samples.append(server.memory() / 1e6)

    together([lambda i=i: one(i) for i in range(12)] + [sample])
    server.settle()
    half = samples[len(samples) // 2:]
    say(f"{args.minutes:g} minutes of mixed traffic: {server.metrics()['answer_tokens_total']:.0f} "
          f"tokens; memory {samples[0]:.0f} MB at the beginning, in the second half {min(half):.0f} to "
          f"{max(half):.0f} MB")
    third = len(samples) // 3
    assert max(samples[-third:]) < 1.1 * max(samples[third:2 * third]), samples


def speed(server, args):
    """Eight streams, all in all."""
    rates = []
    for i in range(3):
        counts = [0] * 8

        def one(k):
            status, answer = server.request("POST", "/v1/completions", {
                "prompt": f"{i}{k} is a number. It", "max_tokens": args.speed, "temperature": 0,
                "logit_bias": {"0": -100, "2": -100}})
            counts[k] = json.loads(answer)["usage"]["completion_tokens"]

        start = time.monotonic()
        together([lambda k=k: one(k) for k in range(8)])
        rates.append(sum(counts) / (time.monotonic() - start))
    say(f"8 streams of {args.speed} tokens: {sorted(rates)[1]:.0f} tokens/s (of {[round(r) for r in rates]})")


TESTS = [turns, streams, stall, drip, vanish, canary, speed, mixed]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tests", default=",".join(t.__name__ for t in TESTS))
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--long", type=int, default=1500, help="words of a long prompt")
    parser.add_argument("--vanish", type=int, default=1000)
    parser.add_argument("--canary", type=int, default=6)
    parser.add_argument("--speed", type=int, default=128)
    parser.add_argument("--health", type=float, default=0.1, help="seconds")
    parser.add_argument("--stall", type=float, default=1, help="seconds")
    parser.add_argument("--settle", type=float, default=3, help="seconds")
    parser.add_argument("server", nargs="+")
    args, rest = parser.parse_known_args()
    server = Server(args.server + rest)
    wanted = args.tests.split(",")
    try:
        for test in TESTS:
            if test.__name__ in wanted:
                test(server, args)
        server.stop()
    finally:
        server.process.kill()


main()
