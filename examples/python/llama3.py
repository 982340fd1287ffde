#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Llama 3 from Python: libllama3 by ctypes, in this one file.

    from llama3 import Llama3

    bot = Llama3("model.gguf")
    answer, history = bot.get_response("What is the capital of France?")
    answer, history = bot.get_response("And of Spain?", history)
    bot.chatbot(system_instructions="You are a helpful assistant.")

As a program it is that chatbot: llama3.py MODEL [SYSTEM INSTRUCTIONS]. The library is found as the
system finds libraries, or by LLAMA3_LIBRARY, a path.
"""
import ctypes
import os
import sys
from ctypes import POINTER, byref, c_char_p, c_double, c_int, c_int32, c_size_t, c_void_p

ON_TEXT = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)


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
                ("on_token", c_void_p), ("on_prompt", c_void_p), ("arg", c_void_p)]


class Result(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("finish", c_int), ("stop_id", c_int32), ("stop_string", c_int),
                ("prompt_tokens", c_size_t), ("cached_tokens", c_size_t),
                ("answer_tokens", c_size_t), ("prompt_seconds", c_double),
                ("answer_seconds", c_double)]


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
            ("session_generate", c_int, c_void_p, POINTER(c_int32), c_size_t, POINTER(Generation),
             POINTER(Result), err),
            ("sampling_open", c_void_p, c_void_p, err),
            ("sampling_close", None, c_void_p),
            ("sampling_set", c_int, c_void_p, c_char_p, c_char_p, err),
            ("apply_template", c_int, c_void_p, POINTER(Message), c_size_t, c_void_p, tokens,
             POINTER(c_size_t), err)]:
        function = getattr(library, "llama3_" + name)
        function.restype = result
        function.argtypes = arguments
    return library


class Llama3:
    """A model, and a session that keeps what it has read: a history that goes on is not read again.

    One thread at a time. Fields that are None are the checkpoint's defaults.
    """

    def __init__(self, model_path, context=0, threads=0):
        self.lib = load_library()
        self.err = Error(ctypes.sizeof(Error))
        self.session = self.model = None
        options = ModelOptions(ctypes.sizeof(ModelOptions), None, context, 0, threads)
        self.model = self._made(self.lib.llama3_model_open(
            os.fsencode(model_path), byref(options), byref(self.err)))
        self.session = self._made(self.lib.llama3_session_open(self.model, byref(self.err)))

    def close(self):
        self.lib.llama3_session_close(self.session)
        self.lib.llama3_model_close(self.model)
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
        history = list(message_history or []) + [{"role": "user", "content": query}]
        answer = self._generate(self._prompt(history), max_tokens, on_text, {
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

    def _prompt(self, history):
        """The tokens of a conversation up to the header of the answer."""
        size = ctypes.sizeof(Message)
        for message in history:
            if "\0" in message["content"]:
                raise ValueError("message: expected text, found a zero byte")
        messages = (Message * len(history))(*(
            Message(size, m["role"].encode(), m["content"].encode()) for m in history))
        tokens, n = POINTER(c_int32)(), c_size_t()
        self._check(self.lib.llama3_apply_template(
            self.model, messages, len(history), None, byref(tokens), byref(n), byref(self.err)))
        prompt = (c_int32 * n.value)(*tokens[:n.value])
        self.lib.llama3_free(tokens)
        return prompt

    def _generate(self, prompt, max_tokens, on_text, settings):
        pieces, raised = [], []

        def take(_, text, length):
            try:
                pieces.append(ctypes.string_at(text, length).decode())
                return 1 if on_text is not None and on_text(pieces[-1]) else 0
            except BaseException as exception:  # none may pass through the library
                raised.append(exception)
                return 1

        sampling = self._made(self.lib.llama3_sampling_open(self.model, byref(self.err)))
        try:
            for name, value in settings.items():
                if value is not None:
                    self._check(self.lib.llama3_sampling_set(
                        sampling, name.encode(), str(value).encode(), byref(self.err)))
            result = Result(ctypes.sizeof(Result))
            generation = Generation(ctypes.sizeof(Generation), sampling, max_tokens, None, 0,
                                    ON_TEXT(take), None, None, None)
            self._check(self.lib.llama3_session_generate(
                self.session, prompt, len(prompt), byref(generation), byref(result),
                byref(self.err)))
        finally:
            self.lib.llama3_sampling_close(sampling)
        if raised:
            raise raised[0]
        return "".join(pieces)


def main():
    if not 2 <= len(sys.argv) <= 3:
        sys.exit("usage: llama3.py MODEL [SYSTEM INSTRUCTIONS]")
    try:
        with Llama3(sys.argv[1]) as bot:
            bot.chatbot(*sys.argv[2:])
    except Llama3Error as error:
        sys.exit(f"llama3.py: {error}")


if __name__ == "__main__":
    main()
