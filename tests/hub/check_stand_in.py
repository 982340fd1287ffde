#!/usr/bin/env python3
"""Checks that stand_in.py does what it says: check_stand_in.py, which starts one in a temporary folder."""
import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
SIZE = 300_000


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.makedirs("root/org/name/sub")
        contents = os.urandom(SIZE)
        files = {"model.safetensors": contents, "config.json": b"{}\n", "sub/a b.txt": b"text"}
        for name, data in files.items():
            with open("root/org/name/" + name, "wb") as file:
                file.write(data)
        hub = subprocess.Popen([sys.executable, HERE + "/stand_in.py", "--root", "root", "--info", "info",
                                "--log", "log", "--control", "control", "--seed", "1"])
        try:
            check(contents, files)
        finally:
            hub.kill()
    print("the stand-in does what it says")


def told():
    while not os.path.exists("info"):
        time.sleep(0.05)
    with open("info", encoding="utf-8") as file:
        return dict(line.strip().split("=") for line in file)


def control(*rules, **settings):
    with open("control.new", "w", encoding="utf-8") as file:
        json.dump(settings | {"rules": list(rules)}, file)
    os.rename("control.new", "control")


def get(address, method="GET", **headers):
    """(status, headers, body) where the body may be a piece, with "cut" for its end in the headers."""
    split = urllib.parse.urlsplit(address)
    connection = http.client.HTTPConnection(split.hostname, split.port, timeout=5)
    connection.request(method, split.path + ("?" + split.query if split.query else ""),
                       headers={key.replace("_", "-"): value for key, value in headers.items()})
    response = connection.getresponse()
    found = dict(response.headers.items())
    try:
        body = response.read()
    except http.client.IncompleteRead as err:
        body, found["cut"] = err.partial, True
    except ConnectionError:
        body, found["cut"] = b"", True
    return response.status, found, body


def raises(kind, function, *args):
    try:
        function(*args)
    except kind:
        return
    raise AssertionError(f"{function.__name__}{args}: expected {kind}")


def check(contents, files):
    info = told()
    hub = info["hub"]
    api = hub + "/api/models/org/name"
    large = hub + "/org/name/resolve/main/model.safetensors"
    small = hub + "/org/name/resolve/main/config.json"

    def stored(**headers):
        status, found, _ = get(large)
        assert status == 302, status
        return get(found["Location"], **headers)

    # what is served
    control()
    status, _, body = get(api + "/revision/main?blobs=true")
    model = json.loads(body)
    entries = {entry["rfilename"]: entry for entry in model["siblings"]}
    assert status == 200 and set(entries) == set(files), body
    assert entries["model.safetensors"]["lfs"] == {
        "sha256": hashlib.sha256(contents).hexdigest(), "size": SIZE, "pointerSize": 131}
    assert entries["config.json"]["blobId"] == hashlib.sha1(b"blob 3\0{}\n").hexdigest()
    assert json.loads(get(f"{api}/revision/{model['sha']}")[2])["sha"] == model["sha"]
    tree = json.loads(get(api + "/tree/main?recursive=true")[2])
    assert {entry["path"] for entry in tree if entry["type"] == "file"} == set(files)
    assert {entry["path"] for entry in tree if entry["type"] == "directory"} == {"sub"}
    status, found, _ = get(small)
    assert status == 307 and found["Location"].startswith("/api/resolve-cache/"), (status, found)
    status, found, body = get(hub + found["Location"])
    assert status == 200 and body == b"{}\n" and found["X-Repo-Commit"] == model["sha"]
    assert stored()[2] == contents
    status, found, body = stored(Range="bytes=10-19")
    assert (status, found["Content-Range"], body) == (206, f"bytes 10-19/{SIZE}", contents[10:20])
    assert stored(Range="bytes=-5")[2] == contents[-5:]
    assert stored(Range=f"bytes={SIZE - 7}-")[2] == contents[-7:]
    status, found, _ = stored(Range=f"bytes={SIZE}-")
    assert (status, found["Content-Range"]) == (416, f"bytes */{SIZE}")
    assert stored(Range="bytes=1-2", If_Range='"x"')[0] == 200
    assert stored(Authorization="Bearer x")[0] == 400
    head = get(large, "HEAD")
    assert head[1]["X-Linked-Etag"] == f'"{hashlib.sha256(contents).hexdigest()}"' and head[2] == b""

    # who may have it
    def refused(address, want, code=None, **headers):
        status, found, _ = get(address, **headers)
        assert (status, found.get("X-Error-Code")) == (want, code), (address, status, found)

    good = {"Authorization": "Bearer good"}
    control(tokens=["good"], gated={"org/name": ["better"]}, direct=True)
    refused(api, 401, None, Authorization="Bearer bad")
    refused(hub + "/api/models/org/none", 401, "RepoNotFound")
    refused(hub + "/api/models/org/none", 404, "RepoNotFound", **good)
    refused(api + "/revision/none", 404, "RevisionNotFound")
    refused(hub + "/org/name/resolve/main/none", 404, "EntryNotFound")
    refused(small, 401, "GatedRepo")
    refused(small, 403, "GatedRepo", **good)
    refused(api, 200)
    control(tokens=["good", "better"], private={"org/name": ["better"]}, direct=True)
    refused(api, 401, "RepoNotFound")
    refused(api, 404, "RepoNotFound", **good)
    refused(small, 200, Authorization="Bearer better")
    control(moved={"old/name": "org/name"})
    assert get(hub + "/api/models/old/name/revision/main")[1]["Location"] == "/api/models/org/name/revision/main"

    # what goes wrong
    control({"on": "storage", "do": "status", "status": 429, "headers": {"Retry-After": "3"}, "times": 1})
    status, found, _ = stored()
    assert (status, found["Retry-After"]) == (429, "3") and stored()[0] == 200
    control({"on": "storage", "do": "cut", "at": 1000, "reset": False})
    _, found, body = stored()
    assert found["cut"] and body == contents[:1000], len(body)
    control({"on": "storage", "do": "cut", "at": [1, SIZE - 1], "reset": True, "skip": 1})
    assert "cut" not in stored()[1] and stored()[1]["cut"]
    control({"on": "storage", "do": "flip", "times": 1})
    assert stored(Range="bytes=0-9")[2] == contents[:10]
    wrong = stored()[2]
    assert sum(a != b for a, b in zip(wrong, contents)) == 1 and wrong[SIZE // 2] != contents[SIZE // 2]
    assert stored()[2] == contents
    control({"on": "storage", "do": "ignore_range"})
    status, _, body = stored(Range="bytes=10-19")
    assert (status, body) == (200, contents)
    control({"on": "storage", "do": "range", "shift": 1, "total": 2})
    assert stored(Range="bytes=10-19")[1]["Content-Range"] == f"bytes 11-20/{SIZE + 2}"
    for by in (-3, 3):
        control({"on": "storage", "do": "size", "by": by})
        assert len(stored()[2]) == SIZE + by
    control({"on": "storage", "do": "gzip"})
    assert stored()[1]["Content-Encoding"] == "gzip"
    control({"on": "storage", "do": "rate", "rate": 600_000})
    began = time.monotonic()
    assert stored()[2] == contents and 0.3 < time.monotonic() - began < 3
    control({"on": "storage", "do": "stall", "at": 5000})
    raises(TimeoutError, stored)
    control({"on": "api", "do": "slow_head", "seconds": 0.5})
    began = time.monotonic()
    assert get(api)[0] == 200 and time.monotonic() - began >= 0.5
    control({"on": "api", "do": "drip", "seconds": 0.002})
    assert get(api)[0] == 200
    control({"on": "api", "do": "garbage"})
    raises(http.client.HTTPException, get, api)
    control({"on": "api", "do": "hang_up"})
    raises((ConnectionError, http.client.RemoteDisconnected), get, api)
    control({"on": "api", "do": "long_head"})
    raises(http.client.HTTPException, get, api)
    control({"on": "api", "do": "body", "body": "{"})
    assert get(api)[2] == b"{"
    control({"on": "api", "do": "json", "set": {"sha": 5}, "remove": ["siblings"]})
    changed = json.loads(get(api)[2])
    assert changed["sha"] == 5 and "siblings" not in changed
    control({"on": "hub", "do": "headers", "set": {"x-repo-commit": None, "X-Other": "1"}})
    found = get(small)[1]
    assert "X-Repo-Commit" not in found and found["X-Other"] == "1"
    control({"on": "resolve", "do": "redirect", "to": "file:///etc/passwd"})
    assert get(small)[1]["Location"] == "file:///etc/passwd"
    control({"on": "resolve", "do": "redirect"})
    assert get(small)[1]["Location"] == "/org/name/resolve/main/config.json"
    for do, on, address in (("endless", "resolve", small), ("listing", "api", api)):
        control({"on": on, "do": do})
        split = urllib.parse.urlsplit(address)
        with socket.create_connection((split.hostname, split.port), timeout=5) as connection:
            connection.sendall(f"GET {split.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            count = 0
            while count < 5_000_000:
                count += len(connection.recv(1 << 20))
    control({"on": "storage", "do": "expire", "times": 1})
    address = get(large)[1]["Location"]
    assert get(address)[0] == 403 and get(address)[0] == 403 and stored()[0] == 200
    control(ttl=-1)
    assert stored()[0] == 403
    control(extra=[{"rfilename": "../x", "size": 1}], virtual={"v.json": "[]"}, page=2)
    assert {"rfilename": "../x", "size": 1} in json.loads(get(api)[2])["siblings"]
    assert 'rel="next"' in get(api + "/tree/main?recursive=true")[1]["Link"]
    assert json.loads(get(api + "/tree/main?recursive=true&cursor=4")[2])[0]["path"] == "v.json"

    # the proxy
    split = urllib.parse.urlsplit(info["proxy"])
    port = urllib.parse.urlsplit(hub).port

    def tunnel():
        connection = http.client.HTTPConnection(split.hostname, split.port, timeout=5)
        connection.set_tunnel("hub.invalid", port)
        connection.request("GET", "/api/models/org/name")
        return connection.getresponse().status

    control()
    assert tunnel() == 200
    connection = http.client.HTTPConnection(split.hostname, split.port, timeout=5)
    connection.request("GET", f"http://hub.invalid:{port}/api/models/org/name")
    assert connection.getresponse().status == 200
    control({"on": "proxy", "do": "status", "status": 407})
    raises(OSError, tunnel)

    with open("log", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    assert any(line.get("host") == "storage" and line["headers"].get("Authorization") == "Bearer x"
               for line in lines)
    assert sum(line.get("rules") == ["flip"] for line in lines) == 1


if __name__ == "__main__":
    main()
