#!/usr/bin/env python3
"""A stand-in for the Hugging Face hub that serves a folder and fails as it is told: what the tests of
llama3-pull talk to.

    stand_in.py --root DIR --info FILE [--log FILE] [--control FILE] [--tls CERT KEY] [--seed N]

DIR/OWNER/NAME/ holds the files of a repository's branch main, DIR/OWNER/NAME@REVISION/ those of another
branch or tag ("/" in its name as %2F). Commits are computed from what is there, at each request.

It listens on free ports of 127.0.0.1 and writes them to FILE as lines NAME=ADDRESS once it is ready:
hub (the API and resolve), storage (large files, by a signed address that expires; it refuses whoever
shows it a token) and proxy (CONNECT, and GET of absolute addresses; every host name means 127.0.0.1).
--tls makes hub and storage https. --log appends a JSON object a line: each request when its head is
read (the names of its headers as Authorization, X-Other), and again with what was sent of the
answer's body.

The control file is a JSON object that is read again at the next request after it was replaced (by
mv), which also starts the rules' counts anew:

    tokens    [TOKEN, ...] that exist; another one is answered 401
    gated     {REPOSITORY: [TOKEN, ...]} that have access
    private   the same, of repositories that others don't see
    moved     {OLD REPOSITORY: NEW REPOSITORY}
    rate      bytes a second of each connection
    large     size from which every file is in the storage (*.safetensors, *.gguf, *.bin always are)
    ttl       seconds that a storage address is good for
    direct    true: small files are answered at once, not by a redirect on the same host
    storage   the storage's host name in redirects (127.0.0.1)
    page      entries of a page of the tree
    extra     [{rfilename, size, ...}, ...] added to the listing as they are
    virtual   {NAME: TEXT} small files that every repository has as well
    rules     [RULE, ...]: what goes wrong, all that match a request, in order

A rule says which requests it is for, and what is done with the answer:

    on        api, resolve, storage, hub (api and resolve), proxy or any (the default)
    file      a pattern of the file's name
    method    GET or HEAD
    ranged    true: only requests with Range
    skip      so many that match are left alone first
    times     so many are treated (all)
    chance    each with this probability
    do        status    {status, headers: {}, body}
              bad_token, gated, no_repository, no_revision, no_file: as the hub answers
              cut       {at: N or [FROM, TO] bytes of the body, reset: true or false}
              stall     {at}: nothing is sent any more from there on
              flip      {offset of the file, or several; the middle}: bytes that are inverted
              rate      {rate}
              redirect  {to, status}; without `to` to itself
              endless   a body without length that never ends
              listing   the same, of the API: files without end
              ignore_range  200 and all of the file
              range     {shift, total}: added to the numbers of Content-Range
              size      {by}: Content-Length and the body are so many bytes longer or shorter
              gzip      the body is compressed, though nobody asked for it
              body      {body}: that text
              json      {set: {}, remove: []}: changes to the API's object
              headers   {set: {NAME: VALUE or null}}
              slow_head {seconds}: before the answer's first byte
              drip      {seconds}: between the bytes of the head
              long_head a head that never ends
              garbage   no HTTP
              expire    403, and all addresses of the storage so far are void
              hang_up   closes instead of an answer
"""
import argparse
import fnmatch
import gzip
import hashlib
import hmac
import json
import os
import random
import re
import secrets
import selectors
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGE_KINDS = (".safetensors", ".gguf", ".bin")
DEFAULTS = {
    "tokens": [], "gated": {}, "private": {}, "moved": {}, "rate": None, "large": 10 << 20, "ttl": 3600,
    "direct": False, "storage": "127.0.0.1", "page": 1000, "extra": [], "virtual": {}, "rules": [],
}
BAD_TOKEN = "Invalid credentials in Authorization header"


class File:
    """A file of a repository, with the hashes that the hub names it by."""

    def __init__(self, name, path=None, text=None, large=False):
        self.name, self.path = name, path
        self.data = None if text is None else text.encode("utf-8", "surrogateescape")
        self.size = os.stat(path).st_size if path else len(self.data)
        self.large = large
        self.sha256 = self.digest(hashlib.sha256()) if large else None
        self.pointer = (f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\n"
                        f"size {self.size}\n").encode()
        if large:
            self.blob = hashlib.sha1(b"blob %d\0" % len(self.pointer) + self.pointer).hexdigest()
        else:
            self.blob = self.digest(hashlib.sha1(b"blob %d\0" % self.size))
        self.etag = self.sha256 or self.blob

    def digest(self, state):
        if self.data is not None:
            state.update(self.data)
        else:
            with open(self.path, "rb") as file:
                while piece := file.read(1 << 20):
                    state.update(piece)
        return state.hexdigest()

    def sibling(self, blobs):
        entry = {"rfilename": self.name}
        if blobs:
            entry |= {"size": self.size, "blobId": self.blob}
            if self.large:
                entry["lfs"] = {"sha256": self.sha256, "size": self.size, "pointerSize": len(self.pointer)}
        return entry

    def tree_entry(self):
        entry = {"type": "file", "oid": self.blob, "size": self.size, "path": self.name}
        if self.large:
            entry["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": len(self.pointer)}
        return entry


class Reply:
    """An answer before anything goes wrong with it. Its body is `data`, or a piece of a file."""

    def __init__(self, status, headers=(), data=b"", file=None, start=0, length=0):
        self.status, self.headers, self.data = status, dict(headers), data
        self.file, self.start = file, start
        self.length = length if file else len(data)
        # how it is sent
        self.rate = self.cut = self.stall = self.endless = None
        self.reset = self.listing = self.long_head = self.garbage = self.hang_up = False
        self.wait = self.drip = 0
        self.flips = []

    def set_data(self, data):
        self.data, self.file, self.start, self.length = data, None, 0, len(data)

    def read_all(self):
        if self.file is None:
            return self.data
        if self.file.data is not None:
            return self.file.data[self.start : self.start + self.length]
        with open(self.file.path, "rb") as file:
            file.seek(self.start)
            return file.read(self.length)


def error(status, message, code=None, headers=()):
    headers = dict(headers) | {"Content-Type": "application/json; charset=utf-8", "X-Error-Message": message}
    if code:
        headers["X-Error-Code"] = code
    return Reply(status, headers, json.dumps({"error": message}).encode())


def no_repository(token):
    if token is None:
        return error(401, "Invalid username or password.", "RepoNotFound")
    return error(404, "Repository not found", "RepoNotFound")


def gated(name, token):
    if token is None:
        return error(401, f"Access to model {name} is restricted. You must have access to it and be "
                     "authenticated to access it. Please log in.", "GatedRepo")
    return error(403, f"Access to model {name} is restricted and you are not in the authorized list. "
                 f"Visit https://huggingface.co/{name} to ask for access.", "GatedRepo")


class Hub:
    """What is served, what is to go wrong, and the log."""

    def __init__(self, options):
        self.root, self.control = options.root, options.control
        self.log_file = open(options.log, "a", encoding="utf-8") if options.log else None
        self.lock = threading.Lock()
        self.log_lock = threading.Lock()
        self.key, self.generation = secrets.token_bytes(16), 0
        self.hashed = {}  # (path, size, mtime, large): File
        self.stored = {}  # sha256: File
        self.requests = 0
        self.seen = None  # the control file's identity
        self.settings, self.counts = dict(DEFAULTS), []
        self.random = random.Random(options.seed)
        self.scheme = "https" if options.tls else "http"
        self.ports = {}

    def log(self, **fields):
        if self.log_file:
            with self.log_lock:
                self.log_file.write(json.dumps(fields) + "\n")
                self.log_file.flush()

    def number(self):
        with self.lock:
            self.requests += 1
            return self.requests

    def refresh(self):
        """Reads the control file if it is another one than last time."""
        if not self.control:
            return
        with self.lock:
            try:
                stat = os.stat(self.control)
                identity = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
                if identity == self.seen:
                    return
                with open(self.control, encoding="utf-8") as file:
                    told = json.load(file)
                unknown = set(told) - set(DEFAULTS)
                if unknown:
                    raise ValueError(f"unknown settings {unknown}")
                self.settings, self.seen = DEFAULTS | told, identity
            except FileNotFoundError:
                self.settings, self.seen = dict(DEFAULTS), None
            except ValueError as err:
                print(f"stand_in.py: {self.control}: {err}", file=sys.stderr, flush=True)
                os._exit(1)
            self.counts = [[0, 0] for _ in self.settings["rules"]]

    def matching(self, place, method, name, ranged, covers):
        """The rules for a request. covers(rule): whether there is something to do for it."""
        found = []
        with self.lock:
            for rule, counts in zip(self.settings["rules"], self.counts):
                on = rule.get("on", "any")
                if on not in ("any", place) and not (on == "hub" and place in ("api", "resolve")):
                    continue
                if "file" in rule and not (name is not None and fnmatch.fnmatchcase(name, rule["file"])):
                    continue
                if rule.get("method", method) != method or (rule.get("ranged") and not ranged):
                    continue
                if not covers(rule):
                    continue
                counts[0] += 1
                if counts[0] <= rule.get("skip", 0) or counts[1] >= rule.get("times", float("inf")):
                    continue
                if self.random.random() >= rule.get("chance", 1):
                    continue
                counts[1] += 1
                found.append(dict(rule))
                for key in ("at",):
                    if isinstance(rule.get(key), list):
                        found[-1][key] = self.random.randint(*rule[key])
                if rule["do"] == "cut" and "reset" not in rule:
                    found[-1]["reset"] = self.random.random() < 0.5
        return found

    # ---- repositories

    def file(self, name, path, stat):
        large = stat.st_size >= self.settings["large"] or name.endswith(LARGE_KINDS)
        key = (path, stat.st_size, stat.st_mtime_ns, stat.st_ino, large)
        if key not in self.hashed:
            self.hashed[key] = File(name, path=path, large=large)
        return self.hashed[key]

    def revisions(self, repository):
        """{revision: folder} of a repository, {} if there is none."""
        owner, _, name = repository.partition("/")
        found = {}
        folder = os.path.join(self.root, owner)
        if not re.fullmatch(r"[\w.-]+", owner) or not re.fullmatch(r"[\w.-]+", name) or not os.path.isdir(folder):
            return found
        for entry in os.listdir(folder):
            base, _, revision = entry.partition("@")
            if base == name:
                found[urllib.parse.unquote(revision) or "main"] = os.path.join(folder, entry)
        return found

    def snapshot(self, repository, revision):
        """(commit, {name: File}) of a revision, or None."""
        revisions = self.revisions(repository)
        wanted = [revision] if revision in revisions else list(revisions)
        for candidate in wanted:
            files = {}
            folder = revisions[candidate]
            for where, _, names in os.walk(folder):
                for base in names:
                    path = os.path.join(where, base)
                    name = os.path.relpath(path, folder)
                    files[name] = self.file(name, path, os.stat(path))
            for name, text in self.settings["virtual"].items():
                files[name] = File(name, text=text)
            text = "".join(f"{files[name].blob} {name}\n" for name in sorted(files))
            commit = hashlib.sha1(f"{repository}\n{text}".encode("utf-8", "surrogateescape")).hexdigest()
            if candidate == revision or commit == revision:
                return commit, dict(sorted(files.items()))
        return None

    # ---- addresses of the storage

    def sign(self, sha256, expires):
        text = f"{sha256} {expires} {self.generation}".encode()
        return hmac.new(self.key, text, hashlib.sha256).hexdigest()

    def storage_address(self, file):
        self.stored[file.sha256] = file
        expires = f"{time.time() + self.settings['ttl']:.3f}"
        query = urllib.parse.urlencode({
            "response-content-disposition": f'attachment; filename="{os.path.basename(file.name)}";',
            "Expires": expires, "Signature": self.sign(file.sha256, expires), "Key-Pair-Id": "K2L8F4GPSG1IFC"})
        return (f"{self.scheme}://{self.settings['storage']}:{self.ports['storage']}"
                f"/repos/5b/{file.sha256}?{query}")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, place, hub, tls, handler):
        self.place, self.hub, self.tls = place, hub, tls
        super().__init__(("127.0.0.1", 0), handler)

    def handle_error(self, request, client_address):
        kind = sys.exc_info()[0]
        if not issubclass(kind, (ConnectionError, ssl.SSLError, TimeoutError)):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_version, sys_version = "stand-in", ""

    def setup(self):
        if self.server.tls:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def log_message(self, *args):
        pass

    def begin(self):
        """Notes the request and returns what its path says."""
        self.hub = self.server.hub
        self.hub.refresh()
        self.id = self.hub.number()
        self.began = time.time()
        self.hub.log(id=self.id, host=self.server.place, port=self.server.server_port, method=self.command,
                     path=self.path, time=round(self.began, 6),
                     headers={key.title(): value for key, value in self.headers.items()})
        split = urllib.parse.urlsplit(self.path)
        return split.path, urllib.parse.parse_qs(split.query, keep_blank_values=True)

    def token(self):
        """The token that was sent, None without one."""
        value = self.headers.get("Authorization")
        return value.removeprefix("Bearer ") if value is not None else None

    def do_GET(self):
        path, query = self.begin()
        place, name, reply = self.route(path, query)
        self.send(place, name, reply)

    do_HEAD = do_GET

    def do_POST(self):
        self.begin()
        self.close_connection = True
        self.send("api", None, error(404, "Not found"))

    # ---- what is answered if nothing goes wrong

    def range_of(self, size):
        """(first, length) of the Range that was asked for, None without one, False for one beyond."""
        value = self.headers.get("Range")
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", value.strip()) if value else None
        if not match or match.groups() == ("", ""):
            return None
        first, last = match.groups()
        if first == "":
            length = min(int(last), size)
            return (size - length, length) if length else False
        first, last = int(first), min(int(last), size - 1) if last else size - 1
        if first >= size:
            return False
        return (first, last - first + 1) if last >= first else None

    def contents(self, file, headers):
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"} | headers
        wanted = self.range_of(file.size)
        if "If-Range" in self.headers and self.headers["If-Range"] != headers.get("ETag"):
            wanted = None
        if wanted is False:
            return Reply(416, headers | {"Content-Range": f"bytes */{file.size}"})
        if wanted is None:
            return Reply(200, headers, file=file, length=file.size)
        first, length = wanted
        headers["Content-Range"] = f"bytes {first}-{first + length - 1}/{file.size}"
        return Reply(206, headers, file=file, start=first, length=length)

    def route(self, path, query):
        """(place, file name, Reply)"""
        hub = self.hub
        if self.server.place == "storage":
            return self.route_storage(path, query)
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(/.*)?)?", path)
        if match:
            name, kind, revision, folder = match.groups()
            place, rest = "api", urllib.parse.unquote((folder or "")[1:])
        else:
            match = re.fullmatch(r"/([^/]+/[^/]+)/(resolve)/([^/]+)/(.+)", path) or re.fullmatch(
                r"/api/(resolve-cache)/models/([^/]+/[^/]+)/([0-9a-f]{40})/(.+)", path)
            if not match:
                return "api", None, error(404, "Sorry, we can't find the page you are looking for.")
            name, kind, revision, rest = match.groups()
            if name == "resolve-cache":
                name, kind = kind, name
            place, rest = "resolve", urllib.parse.unquote(rest, errors="surrogateescape")
        revision = urllib.parse.unquote(revision) if revision else "main"
        token = self.token()
        if token is not None and token not in hub.settings["tokens"]:
            return place, rest, error(401, BAD_TOKEN)
        if name in hub.settings["moved"]:
            to = self.path.replace(name, hub.settings["moved"][name], 1)
            return place, rest, Reply(307, {"Location": to}, f"Temporary Redirect. Redirecting to {to}".encode())
        if not hub.revisions(name) or token not in hub.settings["private"].get(name, [token]):
            return place, rest, no_repository(token)
        found = hub.snapshot(name, revision)
        if not found:
            return place, rest, error(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        commit, files = found
        if place == "api":
            if kind == "tree":
                return place, None, self.tree(files, rest, query)
            return place, None, self.model(name, commit, files, query)
        return place, rest, self.resolve(name, commit, files, rest, token, kind == "resolve-cache")

    def model(self, name, commit, files, query):
        blobs = query.get("blobs", ["false"])[0].lower() in ("true", "1")
        gates = self.hub.settings["gated"]
        siblings = [file.sibling(blobs) for file in files.values()] + self.hub.settings["extra"]
        return Reply(200, {"Content-Type": "application/json; charset=utf-8"}, json.dumps({
            "_id": "621ffdc036468d709f17434d", "id": name, "modelId": name, "author": name.split("/")[0],
            "sha": commit, "lastModified": "2025-06-01T10:00:00.000Z", "createdAt": "2025-06-01T09:00:00.000Z",
            "private": name in self.hub.settings["private"], "gated": "manual" if name in gates else False,
            "disabled": False, "downloads": 0, "likes": 0, "tags": [], "siblings": siblings,
            "spaces": [], "usedStorage": sum(file.size for file in files.values())}).encode())

    def tree(self, files, folder, query):
        recursive = query.get("recursive", ["false"])[0].lower() in ("true", "1")
        inside = {name: file for name, file in files.items() if not folder or name.startswith(folder + "/")}
        if folder and not inside:
            return error(404, f"{folder} does not exist", "EntryNotFound")
        entries, folders = [], set()
        for name, file in inside.items():
            parts = name.split("/")
            depth = len(folder.split("/")) if folder else 0
            for end in range(depth + 1, len(parts)):
                parent = "/".join(parts[:end])
                if parent not in folders and (recursive or end == depth + 1):
                    folders.add(parent)
                    entries.append({"type": "directory", "oid": hashlib.sha1(parent.encode()).hexdigest(),
                                    "size": 0, "path": parent})
            if recursive or len(parts) == depth + 1:
                entries.append(file.tree_entry())
        begin, page = int(query.get("cursor", ["0"])[0]), self.hub.settings["page"]
        headers = {"Content-Type": "application/json; charset=utf-8"}
        if begin + page < len(entries):
            path = urllib.parse.urlsplit(self.path).path
            rest = {key: value[0] for key, value in query.items()} | {"cursor": str(begin + page)}
            address = f"{self.hub.scheme}://{self.headers['Host']}{path}?{urllib.parse.urlencode(rest)}"
            headers["Link"] = f'<{address}>; rel="next"'
        return Reply(200, headers, json.dumps(entries[begin : begin + page]).encode())

    def resolve(self, name, commit, files, rest, token, cached):
        headers = {"X-Repo-Commit": commit}
        if rest not in files:
            return error(404, "Entry not found", "EntryNotFound", headers)
        if name in self.hub.settings["gated"] and token not in self.hub.settings["gated"][name]:
            return gated(name, token)
        file = files[rest]
        linked = headers | {"X-Linked-Size": str(file.size), "X-Linked-Etag": f'"{file.etag}"',
                            "Accept-Ranges": "bytes"}
        if file.large:
            to = self.hub.storage_address(file)
            return Reply(302, linked | {"Location": to, "Content-Type": "text/plain; charset=utf-8"},
                         f"Found. Redirecting to {to}".encode())
        if not cached and not self.hub.settings["direct"]:
            query = urllib.parse.urlencode({self.path: "", "etag": f'"{file.etag}"'})
            to = f"/api/resolve-cache/models/{name}/{commit}/{urllib.parse.quote(rest)}?{query}"
            return Reply(307, linked | {"Location": to, "Content-Type": "text/plain; charset=utf-8"},
                         f"Temporary Redirect. Redirecting to {to}".encode())
        return self.contents(file, headers | {
            "ETag": f'"{file.etag}"', "Content-Type": "text/plain; charset=utf-8",
            "Content-Disposition": f"inline; filename*=UTF-8''{urllib.parse.quote(os.path.basename(rest))}"})

    def route_storage(self, path, query):
        sha256 = path.rpartition("/")[2]
        file = self.hub.stored.get(sha256)
        name = file.name if file else None
        xml = {"Content-Type": "application/xml"}
        if "Authorization" in self.headers:
            return "storage", name, Reply(400, xml, b"<Error><Code>InvalidArgument</Code><Message>Only one "
                                          b"auth mechanism allowed</Message></Error>")
        expires, signature = (query.get(key, [""])[0] for key in ("Expires", "Signature"))
        if not file or not hmac.compare_digest(signature, self.hub.sign(sha256, expires)):
            return "storage", name, Reply(403, xml, b"<Error><Code>AccessDenied</Code></Error>")
        if float(expires) < time.time():
            return "storage", name, Reply(403, xml, b"<Error><Code>AccessDenied</Code><Message>Request has "
                                          b"expired</Message></Error>")
        return "storage", name, self.contents(file, {"ETag": f'"{sha256[:32]}"'})

    # ---- what goes wrong

    def send(self, place, name, reply):
        def covers(rule):
            if rule["do"] not in ("flip", "range", "size", "ignore_range"):
                return True
            if rule["do"] != "flip":
                return reply.status in (200, 206)
            return any(reply.start <= at < reply.start + reply.length for at in self.flips(rule, reply))

        reply.rate = self.hub.settings["rate"]
        ranged = "Range" in self.headers
        done = []
        for rule in self.hub.matching(place, self.command, name, ranged, covers):
            done.append(rule["do"])
            reply = self.spoil(reply, rule)
        self.transmit(reply, done)

    def flips(self, rule, reply):
        at = rule.get("offset", (reply.file.size if reply.file else reply.length) // 2)
        return at if isinstance(at, list) else [at]

    def spoil(self, reply, rule):
        """The reply that a rule makes of one."""
        do = rule["do"]
        pace = reply.rate
        if do == "status":
            reply = Reply(rule["status"], rule.get("headers", {}), rule.get("body", "").encode())
        elif do == "bad_token":
            reply = error(401, BAD_TOKEN)
        elif do == "gated":
            reply = gated("the/model", self.token())
        elif do == "no_repository":
            reply = no_repository(self.token())
        elif do == "no_revision":
            reply = error(404, "Invalid rev id", "RevisionNotFound")
        elif do == "no_file":
            reply = error(404, "Entry not found", "EntryNotFound")
        elif do == "redirect":
            reply = Reply(rule.get("status", 302), {"Location": rule.get("to", self.path)})
        elif do == "expire":
            self.hub.generation += 1
            reply = Reply(403, {"Content-Type": "application/xml"}, b"<Error><Code>AccessDenied</Code></Error>")
        elif do == "cut":
            reply.cut, reply.reset = rule["at"], rule["reset"]
        elif do == "stall":
            reply.stall = rule["at"]
        elif do == "flip":
            reply.flips += self.flips(rule, reply)
        elif do == "rate":
            reply.rate = rule["rate"]
        elif do == "endless":
            reply.endless = b"\0" * 65536
        elif do == "listing":
            reply.endless, reply.listing = b"", True
        elif do == "ignore_range":
            if reply.file:
                reply.status, reply.start, reply.length = 200, 0, reply.file.size
                reply.headers.pop("Content-Range", None)
        elif do == "range":
            first, last, total = map(int, re.findall(r"\d+", reply.headers.get("Content-Range", "0 0 0")))
            shift = rule.get("shift", 0)
            reply.headers["Content-Range"] = f"bytes {first + shift}-{last + shift}/{total + rule.get('total', 0)}"
        elif do == "size":
            data = reply.read_all()
            reply.set_data(data[: rule["by"]] if rule["by"] < 0 else data + b"\0" * rule["by"])
        elif do == "gzip":
            reply.set_data(gzip.compress(reply.read_all(), 1))
            reply.headers["Content-Encoding"] = "gzip"
        elif do == "body":
            reply.set_data(rule["body"].encode("utf-8", "surrogateescape"))
        elif do == "json":
            told = json.loads(reply.read_all()) | rule.get("set", {})
            for key in rule.get("remove", []):
                told.pop(key, None)
            reply.set_data(json.dumps(told).encode())
        elif do == "headers":
            for key, value in rule["set"].items():
                reply.headers = {k: v for k, v in reply.headers.items() if k.lower() != key.lower()}
                if value is not None:
                    reply.headers[key] = value
        elif do == "slow_head":
            reply.wait = rule["seconds"]
        elif do == "drip":
            reply.drip = rule["seconds"]
        elif do in ("long_head", "garbage", "hang_up"):
            setattr(reply, do, True)
        else:
            raise ValueError(f"a rule does '{do}'")
        reply.rate = reply.rate or pace
        return reply

    # ---- sending

    def transmit(self, reply, done):
        self.sent = 0
        try:
            self.transmit_all(reply)
        except (ConnectionError, ssl.SSLError, TimeoutError):
            self.close_connection = True
        finally:
            self.hub.log(id=self.id, end=reply.status, sent=self.sent, rules=done,
                         seconds=round(time.time() - self.began, 6))

    def transmit_all(self, reply):
        time.sleep(reply.wait)
        if reply.hang_up:
            return self.hang_up(True)
        reason = self.responses.get(reply.status, ("",))[0]
        lines = [f"HTTP/1.1 {reply.status} {reason}", "Date: " + self.date_time_string(), "Server: stand-in"]
        chunked = reply.endless is not None
        lines += [f"{key}: {value}" for key, value in reply.headers.items()]
        if not chunked and not any(key.lower() == "content-length" for key in reply.headers):
            lines.append(f"Content-Length: {reply.length}")
        if chunked:
            lines.append("Transfer-Encoding: chunked")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")
        if reply.garbage:
            self.connection.sendall(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
            return self.hang_up(False)
        if reply.long_head:
            self.connection.sendall(head[:-2])
            while True:
                self.connection.sendall(b"X-More: " + b"x" * 1000 + b"\r\n")
        if reply.drip:
            for byte in head:
                self.connection.sendall(bytes([byte]))
                time.sleep(reply.drip)
            head = b""
        if self.command == "HEAD":
            self.connection.sendall(head)
        elif chunked:
            self.send_endless(reply, head)
        elif reply.file and reply.file.path and not (reply.rate or reply.flips) and reply.cut is reply.stall is None:
            self.connection.sendall(head)
            self.send_file(reply)
        else:
            self.send_pieces(reply, head)

    def send_file(self, reply):
        with open(reply.file.path, "rb") as file:
            file.seek(reply.start)
            try:
                if reply.length:
                    self.connection.sendfile(file, reply.start, reply.length)
            finally:
                self.sent = file.tell() - reply.start

    def send_endless(self, reply, head):
        self.connection.sendall(head)
        number = 0
        if reply.listing:
            self.chunk(json.dumps({"id": "x/y", "sha": "0" * 40, "siblings": []})[:-2].encode())
        while True:
            piece = reply.endless
            if reply.listing:
                piece = "".join(f'{{"rfilename": "f{i}.json", "size": 1, "blobId": "{i:040x}"}}, '
                                for i in range(number, number + 500)).encode()
                number += 500
            self.chunk(piece)
            self.sent += len(piece)
            if reply.rate:
                time.sleep(len(piece) / reply.rate)

    def chunk(self, data):
        self.connection.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def send_pieces(self, reply, head):
        """A body with a pace, an end before its end, or wrong bytes."""
        ends = [end for end in (reply.cut, reply.stall, reply.length) if end is not None]
        end = min(ends)
        if reply.rate:  # what is sent is about what has arrived
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        step = max(1, min(65536, int(reply.rate / 50))) if reply.rate else 65536
        file = None
        if reply.file and reply.file.path:
            file = open(reply.file.path, "rb")
        try:
            began = time.monotonic()
            while self.sent < end or head:
                at, size = reply.start + self.sent, min(step, end - self.sent)
                if file:
                    file.seek(at)
                    piece = file.read(size)
                else:
                    data = reply.file.data if reply.file else reply.data
                    piece = data[at : at + size]
                for flip in reply.flips:
                    if at <= flip < at + len(piece):
                        piece = bytearray(piece)
                        piece[flip - at] ^= 0xFF
                self.connection.sendall(head + piece)
                head = b""
                self.sent += len(piece)
                if reply.rate:
                    time.sleep(max(0, began + self.sent / reply.rate - time.monotonic()))
        finally:
            if file:
                file.close()
        if end == reply.cut and end < reply.length:
            self.hang_up(reply.reset)
        elif end == reply.stall and end < reply.length:
            self.connection.recv(1)  # until the client has enough of it
            self.hang_up(False)

    def hang_up(self, reset):
        self.close_connection = True
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.connection.close()


class Proxy(Handler):
    """A proxy for tests alone: every name is this machine."""

    def setup(self):
        BaseHTTPRequestHandler.setup(self)

    def forward(self, port, head):
        try:
            there = socket.create_connection(("127.0.0.1", port), timeout=10)
        except OSError as err:
            return self.transmit(Reply(502, {}, str(err).encode()), [])
        there.settimeout(None)
        self.close_connection = True
        with there:
            if head:
                there.sendall(head)
            else:
                self.connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            selector = selectors.DefaultSelector()
            selector.register(self.connection, selectors.EVENT_READ, there)
            selector.register(there, selectors.EVENT_READ, self.connection)
            while True:
                for key, _ in selector.select():
                    data = key.fileobj.recv(65536)
                    if not data:
                        return None
                    key.data.sendall(data)

    def refused(self):
        self.begin()
        reply, done = Reply(0), []
        for rule in self.hub.matching("proxy", self.command, None, False, lambda rule: True):
            reply = self.spoil(reply, rule)
            done.append(rule["do"])
        if reply.status:
            self.close_connection = True
            self.transmit(reply, done)
        return reply.status

    def do_CONNECT(self):
        if not self.refused():
            self.forward(int(self.path.rpartition(":")[2]), None)

    def do_GET(self):
        if self.refused():
            return
        split = urllib.parse.urlsplit(self.path)
        headers = "".join(f"{key}: {value}\r\n" for key, value in self.headers.items()
                          if not key.lower().startswith(("proxy-", "connection")))
        rest = split.path + ("?" + split.query if split.query else "")
        self.forward(split.port or 80, f"{self.command} {rest} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n".encode())

    do_HEAD = do_GET


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", required=True)
    parser.add_argument("--info", required=True)
    parser.add_argument("--log")
    parser.add_argument("--control")
    parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"))
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    hub = Hub(options)
    tls = None
    if options.tls:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*options.tls)
    servers = [Server("hub", hub, tls, Handler), Server("storage", hub, tls, Handler),
               Server("proxy", hub, None, Proxy)]
    for server in servers:
        hub.ports[server.place] = server.server_port
        threading.Thread(target=server.serve_forever, args=(60,), daemon=True).start()
    with open(options.info + ".new", "w", encoding="utf-8") as file:
        for server in servers:
            scheme = "http" if server.place == "proxy" else hub.scheme
            file.write(f"{server.place}={scheme}://127.0.0.1:{server.server_port}\n")
    os.rename(options.info + ".new", options.info)
    parent = os.getppid()
    while os.getppid() == parent:  # it doesn't outlive the test
        time.sleep(0.5)


if __name__ == "__main__":
    main()
