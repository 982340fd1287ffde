#!/usr/bin/env python3
"""Holds our Jinja engine to Jinja2 over chat templates as they are published, and attacks each of them.

    jinja_conversations.py --program tests/jinja_program [--count 300] [--seed 1] TEMPLATE.jinja...

Each template renders generated conversations, whose characters are compared with those that Jinja2
writes. Then control tokens stand in every field of a conversation: what comes from a field has to be
marked as given, which private characters around each field and in its place show.
"""
import argparse
import copy
import json
import random
import re
import sys
from pathlib import Path

from jinja_corpus import report, run, run_oracle

TEXTS = [
    "Hello!", "What is the weather in Oslo?", "", " ", "\n", "  spaces around  ", "\n\nlines\n\nand lines\n", "Grüße aus Köln — schön!", "你好，世界", "مرحبا بالعالم", "🙂👍🏽",
    "{{ 7 * 7 }}{% if x %}", "a\tb\r\nc", "<b>&amp; \"quotes\" 'n' \\ backslashes \\n</b>", "null", "None", "[]", "{\"a\": 1}", "0", "x" * 300, "ends with colon:",
    "<think>\nfirst\n</think>\n\nThen.", "<think>never ends", "no start</think>answer", "```python\nprint('x')\n```", "<tool_call>\n{\"name\": \"f\"}\n</tool_call>", "\u00a0nbsp\u00a0", "/think", "do it /no_think",
    "<tool_response>\nx\n</tool_response>", "<|python_tag|>f()", "\ufeffmark\u2028sep\u0000nul",
]  # fmt: skip
NAMES = ["get_weather", "search", "f", "名前", "a-b.c", "brave_search", "wolfram_alpha", "code_interpreter", "python"]


class Maker:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.tame = False

    def pick(self, items):
        return self.random.choice(items)

    def chance(self, p):
        return self.random.random() < p

    def text(self):
        return self.pick(TEXTS[:2]) if self.chance(0.4) else self.pick(TEXTS)

    def content(self):
        if self.tame or self.chance(0.8):
            return self.text()
        return [{"type": "text", "text": self.text()} for _ in range(self.pick([1, 1, 2, 0]))]

    def scalar(self):
        return self.pick([1, -5, 0, 2.5, 1e20, True, False, None, "text", "é<>&'\"", "", "line\nline", "Oslo"])

    def arguments(self):
        made = {self.pick(["city", "q", "n", "flag", "żółć", "unit"]): self.scalar() for _ in range(self.pick([0, 1, 2, 3]))}
        if self.chance(0.2):
            made["nested"] = {"list": [self.scalar(), {"k": self.scalar()}], "empty": {}}
        return made

    def schema(self, depth=0):
        kind = self.pick(["string", "integer", "number", "boolean", "array", "object", "enum", "union", "const", "any"])
        made = {"type": kind, "description": self.text()}
        if kind == "enum":
            made = {"type": "string", "enum": ["a", "b", self.text()]}
        elif kind == "union":
            made = {"type": ["string", "null"], "default": None} if self.chance(0.5) else {"anyOf": [{"type": "string"}, {"type": "integer"}]}
        elif kind == "const":
            made = {"type": "integer", "minimum": 0, "maximum": 1.5, "default": 3, "title": "T", "nullable": True}
        elif kind == "any":
            made = {}
        elif kind == "array":
            made["items"] = self.schema(depth + 1) if depth < 2 else {"type": "string"}
        elif kind == "object":
            made["properties"] = {name: self.schema(depth + 1) for name in ["x", "y"][: self.pick([0, 1, 2])]} if depth < 2 else {}
            made["additionalProperties"] = self.pick([True, False, {"type": "string"}])
        return made

    def tool(self):
        names = ["city", "unit", "żółć", "n"][: self.pick([0, 1, 2, 3])]
        function = {"name": self.pick(NAMES), "description": self.text(),
                    "parameters": {"type": "object", "properties": {name: self.schema() for name in names}}}  # fmt: skip
        if self.chance(0.7):
            function["parameters"]["required"] = names[:1]
        if self.chance(0.1):
            function["return"] = {"type": "string", "description": self.text()}
        if self.chance(0.1):
            del function["parameters"]
        return {"type": "function", "function": function} if self.chance(0.95) else function

    def call(self, i):
        arguments = self.arguments()
        made = {"type": "function", "id": f"call{i:05d}", "function": {"name": self.pick(NAMES), "arguments": arguments}}
        if self.tame:
            return made
        if self.chance(0.3):
            made["function"]["arguments"] = json.dumps(arguments)
        if self.chance(0.2):
            del made["id"]
        if self.chance(0.05):
            made = made["function"]
        return made

    def turn(self, calls):
        """What a user says, and what becomes of it."""
        made = [{"role": "user", "content": self.content()}]
        if self.chance(calls):
            calls = [self.call(i) for i in range(self.pick([1, 1, 1, 2]))]
            assistant = {"role": "assistant", "content": self.pick([None, "", "Let me look.", self.text()]), "tool_calls": calls}
            if not self.tame and self.chance(0.2):
                del assistant["content"]
            made.append(assistant)
            for call in calls if self.tame or self.chance(0.9) else []:
                result = {"role": self.pick(["tool", "tool", "tool", "ipython"]), "content": self.pick([self.text(), json.dumps({"t": 1.5}), self.content(), {"t": [1, None]}])}
                if self.tame:
                    result.update(role="tool", content=self.text())
                if self.tame or self.chance(0.6):
                    result.update(name=call.get("function", call)["name"], tool_call_id=call.get("id", "x"))
                made.append(result)
        if self.tame or self.chance(0.9):
            assistant = {"role": "assistant", "content": self.content()}
            if self.chance(0.2):
                assistant.update(reasoning_content=self.text())
            if self.chance(0.1):
                assistant.update(thinking=self.text())
            made.append(assistant)
        return made

    def conversation(self):
        """Every other one is as clients send them, the rest have what templates may stumble over."""
        self.tame = self.chance(0.5)
        messages = []
        if self.chance(0.5):
            messages.append({"role": "system" if self.tame or self.chance(0.8) else "developer", "content": self.content()})
        calls = self.pick([0, 0.4])
        for _ in range(self.pick([1, 1, 1, 2, 2, 3, 5])):
            messages += self.turn(calls)
        if self.chance(0.4):
            while messages and messages[-1]["role"] != "user" and len(messages) > 1:
                messages.pop()
        if self.tame:
            pass
        elif self.chance(0.1):
            self.random.shuffle(messages)
        elif self.chance(0.06):
            messages.append({"role": self.pick(["critic", "", "documents", "System"]), "content": self.text()})
        elif self.chance(0.02):
            messages = []
        made = {"messages": messages, "tools": None, "documents": None, "add_generation_prompt": self.chance(0.6)}
        if self.chance(0.45):
            made["tools"] = [self.tool() for _ in range(self.pick([1, 1, 2, 3, 0]))]
        if self.chance(0.15):
            made["documents"] = [{"title": self.text(), "text": self.text(), "contents": self.text()} for _ in range(self.pick([1, 2]))]
        options = {"enable_thinking": [True, False], "date_string": ["26 Jul 2024", self.text()], "thinking": [True, False], "tools_in_user_message": [True, False],
                   "reasoning_effort": ["high", "low", "none"], "builtin_tools": [["brave_search", "code_interpreter"]], "custom_tools": [[self.tool()]],
                   "keep_past_thinking": [True], "preserve_thinking": [True, False], "system_prompt": [self.text()], "categories": [{"S1": "Violent"}], "xml_tools": [True],
                   "add_vision_id": [True], "truncate_history_thinking": [False], "model_identity": [self.text()], "citation_mode": ["fast"], "safety_mode": ["strict"]}  # fmt: skip
        for name, values in options.items():
            if self.chance(0.35 if name in ("enable_thinking", "date_string") else 0.08):
                made[name] = self.pick(values)
        return made


# ---- cases -----------------------------------------------------------------------------------

CONSTANTS = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "unk_token": "<unk>", "pad_token": "<pad>"}
NOW = "2024-07-26 12:34:56"


def case_of(name, template, variables):
    return {"name": f"{name}: ", "template": template, "variables": variables, "constants": CONSTANTS, "now": NOW}


def control_tokens(template):
    """What looks like one in a template's own text, but for what it cuts fields at."""
    found = set(re.findall(r"<[|｜][^<>\s]{1,40}[|｜]>|</?[a-z_]{2,20}>|\[/?[A-Z_]{3,20}\]|<[a-z_]+>", template))
    cut = set(re.findall(r"(?:split|find|replace|partition)\(['\"](\S+?)['\"]", template))
    return sorted(t for t in found if "think" not in t and t not in cut) + list(CONSTANTS.values())


BEGIN, END = "\ue000", "\ue001"
PRIVATE = 0xF0000  # + an ASCII character: the same as a private one


def attacked(value, change, path=()):
    """A copy with every text changed, but for the keys, and for what templates look at."""
    if isinstance(value, dict):
        return {k: attacked(v, change, (*path, k)) for k, v in value.items()}
    if isinstance(value, list):
        return [attacked(v, change, path) for v in value]
    if isinstance(value, str):
        return change(value, path[-1] if path else "")
    return value


KEPT = {"type", "reasoning_effort", "citation_mode", "safety_mode"}


def attack(maker, tokens, variables, roles):
    """The conversation with control tokens in its fields; roles and names of tools too, if asked."""

    def change(text, key):
        if key in KEPT or (key == "role" and not roles):
            return text
        text = "" if "think" in text else text
        return BEGIN + maker.pick(tokens) + maker.pick(["", text, "x"]) + maker.pick(tokens) + END

    made = attacked(copy.deepcopy(variables), change)
    if made["tools"] and roles:
        for tool in made["tools"]:
            parameters = tool.get("function", tool).get("parameters", {})
            parameters["properties"] = {BEGIN + maker.pick(tokens) + k + END: v for k, v in parameters.get("properties", {}).items()}
    return made


def marked(answer):
    """For each character of a text whether it is given."""
    flags = bytearray(len(answer["text"]))
    for begin, end in answer["given"]:
        flags[begin:end] = b"\1" * (end - begin)
    return flags


def texts_of(value):
    """Every text of a conversation, without white space; as it is, and as JSON has it."""
    if isinstance(value, dict):
        return {t for k, v in value.items() for t in texts_of(k) | texts_of(v)}
    if isinstance(value, list):
        return {t for v in value for t in texts_of(v)}
    return {squeezed(value), squeezed(json.dumps(value, ensure_ascii=False)[1:-1])} if isinstance(value, str) else set()


def squeezed(text):
    return "".join(c for c in text if not c.isspace() and c not in (BEGIN, END))


def is_within(part, whole):
    """Whether all characters of a part are there, in order."""
    rest = iter(whole)
    return all(c in rest for c in part)


def not_given(text, flags, variables):
    """Pieces of a text that come from a field and are not marked. Between the marks of a field there
    may be more, which the template put in, as long as all of the field is there and given."""
    found, known = [], texts_of(variables)
    for i, c in enumerate(text):
        if (c in (BEGIN, END) or ord(c) >= PRIVATE) and not flags[i]:
            found.append(text[max(0, i - 30) : i + 30])
    for field in re.finditer(f"{BEGIN}[^{BEGIN}]*?{END}", text):
        given = squeezed("".join(text[i] for i in range(*field.span()) if flags[i]))
        if not all(flags[slice(*field.span())]) and not any(is_within(t, given) for t in known if len(t) > 8):
            found.append(field.group())
    return found


def private(text, key):
    return text if key in KEPT or key == "role" else "".join(chr(PRIVATE + ord(c)) if ord(c) < 0x80 else c for c in text)


def check_attacks(program, attacks):
    """Fields that a template's output has as its own."""
    bad, rendered, tokens = 0, 0, 0
    for case, answer in zip(attacks, run([program], attacks)):
        if "crash" in answer:
            bad += 1
            print(f"{case['name']}crash {answer['crash'][:2000]}")
        if "text" not in answer:
            continue
        rendered += 1
        flags = marked(answer)
        tokens += answer["text"].count(BEGIN)
        pieces = not_given(answer["text"], flags, case["variables"])
        if pieces:
            bad += 1
            print(f"{case['name']}expected given characters, found {len(pieces)} others, as in {pieces[0]!r}")
    print(f"{len(attacks)} attacks, {rendered} rendered with {tokens} fields; {bad} got through")
    return bad > 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--count", type=int, default=300, help="conversations for each template")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--examples", type=int, default=10)
    parser.add_argument("templates", nargs="+")
    args = parser.parse_args()
    cases, attacks = [], []
    for path in args.templates:
        maker, name = Maker(f"{args.seed} {Path(path).name}"), Path(path).stem
        template = Path(path).read_text(encoding="utf-8")
        tokens = control_tokens(template)
        for i in range(args.count):
            variables = maker.conversation()
            cases.append(case_of(name, template, variables))
            if i % 4 == 0:
                attacks.append(case_of(name, template, attack(maker, tokens, variables, roles=i % 8 == 0)))
                attacks.append(case_of(name, template, attacked(copy.deepcopy(variables), private)))
    bad = report(cases, run([args.program], cases), run_oracle(cases), args.examples)
    sys.exit(1 if check_attacks(args.program, attacks) or bad else 0)


if __name__ == "__main__":
    main()
