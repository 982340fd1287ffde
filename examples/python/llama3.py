#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Llama 3 from Python: libllama3 by ctypes, in this one file.

    from llama3 import Llama3

    bot = Llama3("model.gguf")
    answer, history = bot.get_response("What is the capital of France?")
    answer, history = bot.get_response("And of Spain?", history)
    bot.chatbot(system_instructions="You are a helpful assistant.")

    history = load_session("french.json")  # as llama3 --session and the chat page keep it
    save_session("french.json", history)

As a program it is that chatbot: llama3.py MODEL [SYSTEM INSTRUCTIONS]. The library is found as the
system finds libraries, or by LLAMA3_LIBRARY, a path.
"""
import ctypes
import json
import os
import signal
import sys
import tempfile
import threading
from ctypes import POINTER, byref, c_char_p, c_int, c_int32, c_size_t, c_void_p

ON_TEXT = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)
ON_PROMPT = ctypes.CFUNCTYPE(None, c_void_p, c_size_t, c_size_t)
MAX_SIZE = c_size_t(-1).value


class Error(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("code", c_int), ("message", ctypes.c_char * 512)]


class Message(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("role", c_char_p), ("content", c_char_p)]


class ModelOptions(ctypes.Structure):
    """The first fields of struct llama3_model_options: its size says that there are no more."""
    _fields_ = [("size", c_size_t), ("template_name", c_char_p), ("context", c_size_t),
                ("kv_type", c_int), ("threads", c_int)]


class Generation(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("sampling", c_void_p), ("max_tokens", c_size_t),
                ("stop", POINTER(c_char_p)), ("n_stop", c_size_t), ("on_text", ON_TEXT),
                ("on_token", c_void_p), ("on_prompt", ON_PROMPT), ("arg", c_void_p)]


class Llama3Error(Exception):
    """A call of the library that failed, with its line that says why."""


def load_library():
    library = ctypes.CDLL(os.environ.get("LLAMA3_LIBRARY", "libllama3.so.0"))
    err = POINTER(Error)
    tokens = POINTER(POINTER(c_int32))
    for name, result, *arguments in [
            ("free", None, c_void_p),
            ("model_open", c_void_p, c_char_p, POINTER(ModelOptions), err),
            ("model_close", None, c_void_p),
            ("session_open", c_void_p, c_void_p, err),
            ("session_close", None, c_void_p),
            ("session_cancel", None, c_void_p),
            ("session_generate", c_int, c_void_p, POINTER(c_int32), c_size_t, POINTER(Generation),
             c_void_p, err),
            ("sampling_open", c_void_p, c_void_p, err),
            ("sampling_close", None, c_void_p),
            ("sampling_set", c_int, c_void_p, c_char_p, c_char_p, err),
            ("apply_template", c_int, c_void_p, POINTER(Message), c_size_t, c_void_p, tokens,
             POINTER(c_size_t), err)]:
        function = getattr(library, "llama3_" + name)
        function.restype = result
        function.argtypes = arguments
    return library


def to_bytes(name, text):
    """UTF-8, as the library takes it: it would end the text at a zero byte."""
    if not isinstance(text, str):
        raise TypeError(f"{name}: expected text, found {text!r}")
    if "\0" in text:
        raise ValueError(f"{name}: expected text, found a zero byte")
    try:
        return text.encode()
    except UnicodeEncodeError:  # what input() makes of bytes that are not UTF-8
        raise ValueError(f"{name}: expected valid UTF-8, found text that is not") from None


def to_integer(name, value, most):
    """A number that fits the field it is for: ctypes would cut it."""
    if not hasattr(value, "__index__"):
        raise TypeError(f"{name}: expected an integer, found {value!r}")
    if not 0 <= value <= most:
        raise OverflowError(f"{name}: expected 0 to {most}, found {value}")
    return value


def check_session(session, path):
    """The session, if it is one as llama3(1) describes them under "Sessions"."""
    keys = {"format", "version", "title", "model", "system", "sampling", "messages"}
    if not isinstance(session, dict) or session.get("format") != "llama3-session":
        raise ValueError(f"{path}: expected a llama3-session")
    if session.get("version") != 1 or set(session) - keys:
        raise ValueError(f"{path}: expected version 1, found {session.get('version')!r} "
                         f"and keys {sorted(set(session) - keys)}")
    messages = session.get("messages")
    if not isinstance(messages, list):
        raise ValueError(f"{path}: expected a list of messages")
    for i, message in enumerate(messages):
        role = "assistant" if i % 2 else "user"
        if not isinstance(message, dict) or set(message) != {"role", "content"} \
                or message["role"] != role or not isinstance(message["content"], str):
            raise ValueError(f"{path}: message {i}: expected role and content of the {role}")
    return session


def load_session(path):
    """A conversation's file as a history for get_response()."""
    with open(path, encoding="utf-8") as file:
        session = check_session(json.load(file), path)
    system = [{"role": "system", "content": session["system"]}] if session.get("system") else []
    return system + session["messages"]


def save_session(path, history):
    """Keeps a history as a conversation's file, whole or not at all. Title, model and sampling of
    the conversation that it replaces stay."""
    session = {"format": "llama3-session", "version": 1}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            session = check_session(json.load(file), path)
    session.pop("system", None)
    if history and history[0]["role"] == "system":
        session["system"] = history[0]["content"]
    session["messages"] = [m for i, m in enumerate(history) if i > 0 or m["role"] != "system"]
    check_session(session, path)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", delete=False,
                                     dir=os.path.dirname(os.path.abspath(path))) as file:
        json.dump(session, file, ensure_ascii=False, indent=2)
    os.replace(file.name, path)


class Llama3:
    """A model, and a session that keeps what it has read: a history that goes on is not read again.

    One call at a time: another one, of whatever thread, is an error meanwhile. After os.fork() the
    child can only close it. Fields that are None are the checkpoint's defaults.
    """

    def __init__(self, model_path, context=0, threads=0):
        self.session = self.model = None
        self.in_use = threading.Lock()
        self.process = os.getpid()
        try:
            self.lib = load_library()
        except (OSError, AttributeError) as error:
            raise OSError("expected libllama3, installed or as the path in LLAMA3_LIBRARY, "
                          f"found {error}") from error
        self.err = Error(ctypes.sizeof(Error))
        options = ModelOptions(ctypes.sizeof(ModelOptions), None,
                               to_integer("context", context, MAX_SIZE), 0,
                               to_integer("threads", threads, 1024))
        path = os.fsencode(model_path)
        if b"\0" in path:
            raise ValueError("model_path: expected a path, found a zero byte")
        self.model = self._made(self.lib.llama3_model_open(path, byref(options), byref(self.err)))
        self.session = self._made(self.lib.llama3_session_open(self.model, byref(self.err)))

    def close(self):
        if os.getpid() == self.process:
            self._begin_use()
            try:
                self.lib.llama3_session_close(self.session)
                self.lib.llama3_model_close(self.model)
                self.session = self.model = None
            finally:
                self.in_use.release()
        else:  # after a fork: the threads that closing would wait for are the parent's
            self.session = self.model = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        if getattr(self, "model", None) is not None:
            self.close()

    def get_response(self, query, message_history=None, max_tokens=4096, temperature=0.6,
                     top_p=0.9, seed=None, on_text=None):
        """The answer to a query after a history, and the history extended by both.

        message_history: a list of {"role": ..., "content": ...}, which is not changed.
        on_text: called with each piece of text as it comes; ends the answer by returning true.
        """
        to_bytes("query", query)
        history = list(message_history or []) + [{"role": "user", "content": query}]
        answer = self._generate(history, max_tokens, on_text, {
            "temperature": temperature, "top_p": top_p, "seed": seed})
        return answer, history + [{"role": "assistant", "content": answer}]

    def chatbot(self, system_instructions=""):
        """Asks and answers in the terminal until "exit" or "quit"."""
        history = []
        if system_instructions:
            history.append({"role": "system", "content": system_instructions})
        while True:
            try:
                query = input("User: ")
            except EOFError:
                break
            except UnicodeDecodeError:
                raise ValueError("stdin: expected valid UTF-8, found text that is not") from None
            if query.strip().lower() in ("exit", "quit"):
                break
            if query.strip():
                print("Assistant: ", end="", flush=True)
                _, history = self.get_response(
                    query, history, on_text=lambda text: print(text, end="", flush=True))
                print()
        print("Exiting the chatbot. Goodbye!")

    # ---- inside ----

    def _failure(self):
        return Llama3Error(self.err.message.decode("utf-8", "replace"))

    def _made(self, handle):
        if not handle:
            raise self._failure()
        return handle

    def _check(self, status):
        if status != 0:
            raise self._failure()

    def _begin_use(self):
        """Keeps other calls away until in_use is released."""
        if not self.in_use.acquire(blocking=False):
            raise Llama3Error("an answer is being generated: expected to be called after it")

    def _prompt(self, history):
        """The tokens of a conversation up to the header of the answer."""
        size = ctypes.sizeof(Message)
        messages = (Message * len(history))(*(
            Message(size, to_bytes("role", m["role"]), to_bytes("content", m["content"]))
            for m in history))
        tokens, n = POINTER(c_int32)(), c_size_t()
        self._check(self.lib.llama3_apply_template(
            self.model, messages, len(history), None, byref(tokens), byref(n), byref(self.err)))
        prompt = (c_int32 * n.value)(*tokens[:n.value])
        self.lib.llama3_free(tokens)
        return prompt

    def _generate(self, history, max_tokens, on_text, settings):
        if os.getpid() != self.process:
            raise Llama3Error("expected the process that opened the model, found a fork of it")
        pieces, raised = [], []

        def take(_, text, length):
            try:
                pieces.append(ctypes.string_at(text, length).decode())
                return bool(raised or (on_text is not None and on_text(pieces[-1])))
            except BaseException as exception:  # none may pass through the library
                raised.append(exception)
                return True

        def on_prompt(*_):  # where signals are handled while a prompt is read
            if raised:
                self.lib.llama3_session_cancel(self.session)

        def on_signal(number, frame):
            try:
                handlers[number](number, frame)
            except BaseException as exception:  # KeyboardInterrupt; ctypes would drop it
                raised.append(exception)

        handlers = {}
        if threading.current_thread() is threading.main_thread():
            found = ((number, signal.getsignal(number)) for number in signal.valid_signals())
            handlers = {number: handler for number, handler in found if callable(handler)}
        sampling, begun = None, False
        try:
            for number in handlers:
                signal.signal(number, on_signal)
            self._begin_use()
            begun = True
            if self.session is None:
                raise Llama3Error("expected an open model, found one that was closed")
            prompt = self._prompt(history)
            sampling = self._made(self.lib.llama3_sampling_open(self.model, byref(self.err)))
            for name, value in settings.items():
                if value is not None:
                    self._check(self.lib.llama3_sampling_set(
                        sampling, name.encode(), to_bytes(name, str(value)), byref(self.err)))
            generation = Generation(ctypes.sizeof(Generation), sampling,
                                    to_integer("max_tokens", max_tokens, MAX_SIZE), None, 0,
                                    ON_TEXT(take), None, ON_PROMPT(on_prompt), None)
            self._check(self.lib.llama3_session_generate(
                self.session, prompt, len(prompt), byref(generation), None, byref(self.err)))
        finally:
            self.lib.llama3_sampling_close(sampling)
            if begun:
                self.in_use.release()
            for number, handler in handlers.items():
                if signal.getsignal(number) is on_signal:  # on_text may have set another one
                    signal.signal(number, handler)
            if raised:
                raise raised[0]
        return "".join(pieces)


def main():
    if not 2 <= len(sys.argv) <= 3:
        sys.exit("usage: llama3.py MODEL [SYSTEM INSTRUCTIONS]")
    try:
        with Llama3(sys.argv[1]) as bot:
            bot.chatbot(*sys.argv[2:])
    except (Llama3Error, OSError, ValueError) as error:
        sys.exit(f"llama3.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
