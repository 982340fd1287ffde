#!/usr/bin/env python3
"""Holds our Jinja engine to Jinja2 over generated expressions and small templates.

    jinja_corpus.py --program tests/jinja_program [--count 10000] [--seed 1] [--minijinja]
    jinja_corpus.py --program tests/jinja_program --from FILE      cases of a file, a line of JSON each

Exits 1 where a text differs, or one engine fails and the other doesn't. The smallest cases come first.

What isn't generated, since we refuse it: integers beyond 64 bits, complex numbers, sets, bytes, blocks and
other templates, autoescape, cycler, lipsum, dict.fromkeys(), methods of numbers, str.translate(), names of
characters (\\N{}); the filters urlize, xmlattr and striptags, which make HTML or undo it.
Nor what Jinja2 does by computing constants while it compiles: it fails for infinity, and finds a slice
of what can't be cut undefined.
"""
import argparse
import collections
import json
import random
import subprocess
import sys
from pathlib import Path

ORACLE = Path(__file__).resolve().parent / "jinja_oracle.py"

VARIABLES = {
    "u": "Zażółć gęślą jaźń ŠČ ÀÉ ß ﬁ ǆ İı Σς 你好 مرحبا 🙂👍🏽 \u00a0\u2003x\u200b",
    "html": "<a href=\"x\">it's & more</a>",
    "lines": "one\ntwo\r\nthree\n\n  four \t\n",
    "empty": "",
    "blank": " \n\t ",
    "word": "hello",
    "text": "The quick brown fox jumps over the lazy dog, twice; it's well-known_name 42 times.",
    "number": "42",
    "price": "3.14",
    "inf": "inf",
    "nan": "nan",
    "n": 7,
    "z": 0,
    "big": 9007199254740993,
    "minus": -13,
    "f": 2.5,
    "tiny": 1e-7,
    "huge": 1e22,
    "yes": True,
    "no": False,
    "nothing": None,
    "items": [3, 1, 2],
    "words": ["pear", "Apple", "fig", "apple", "Fig"],
    "mixed": [1, "a", None, 2.5, True, [1], {"k": 1}],
    "nested": [[1, 2], [3, [4, 5]], []],
    "void": [],
    "d": {"b": 2, "a": 1, "C": 3},
    "deep": {"x": {"y": {"z": "bottom"}}, "list": [{"k": "v"}], "none": None, "items": "shadow"},
    "people": [
        {"name": "Zoë", "age": 31, "role": "user", "address": {"city": "Oslo"}},
        {"name": "al", "age": 25, "role": "system", "address": {"city": "rome"}},
        {"name": "Bob", "age": 31, "role": "user", "address": {"city": "Rome"}},
    ],
    "messages": [
        {"role": "system", "content": " Be brief. "},
        {"role": "user", "content": "Hi <|eot_id|>"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"type": "function", "function": {"name": "f", "arguments": {"q": "é", "n": 1.0, "l": [True, None]}}}]},
    ],
    "tree": [{"v": 1, "c": [{"v": 2, "c": [{"v": 3, "c": []}]}, {"v": 4, "c": []}]}, {"v": 5, "c": []}],
}  # fmt: skip

# By type: what expressions are made of.
VALUES = {
    "undefined": ["missing", "d.missing", "missing2"],
    "none": ["none", "nothing", "None"],
    "bool": ["true", "false", "yes", "no", "True", "False"],
    "int": ["0", "1", "2", "3", "5", "n", "z", "big", "minus", "10", "255", "1000000", "(-1)", "(-7)"],
    "float": ["0.0", "1.5", "(-2.5)", "f", "tiny", "huge", "1e16", "1e15", "123456789.125", "0.1", "(inf|float)", "(-0.0)",
              "(nan|float)", "2.0", "0.5"],
    "str": ["''", "'a'", "'b'", "'Hello World'", "u", "html", "lines", "empty", "blank", "word", "text", "number",
            "price", "'a,b,c'", "'äöü'", "'x'", "'%s'", "'ab' 'cd'", '"q\\"\\n"', "'-5'", "'1e3'", "' 12 '"],
    "markup": ["html|safe", "'<i>'|safe", "html|escape", "word|e", "''|safe"],
    "list": ["[]", "[1,2,3]", "['a','b']", "items", "words", "mixed", "nested", "void", "[[1,'a'],[2,'b']]",
             "[none,missing]", "[1.5,true]", "['b','a','C']", "(d|list)"],
    "tuple": ["()", "(1,)", "(1,2)", "('a',none)", "(1,(2,3))"],
    "dict": ["{}", "d", "deep", "{'a':1}", "{1:'x',none:'y'}", "{'k':[1]}", "{true:1,1.0:2}", "people[0]"],
    "view": ["d.items()", "d.keys()", "d.values()", "range(3)", "range(5,0,-2)", "range(0)"],
    "iterator": ["items|map('string')", "items|select", "words|map('upper')", "items|batch(2)", "items|reverse"],
    "other": ["namespace(a=1)", "people", "messages"],
}  # fmt: skip
TYPES = list(VALUES)
ALL_VALUES = [value for values in VALUES.values() for value in values]

LARGE = ["big", "1000000", "huge", "9007199254740993"]
OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]

# What a filter may be given; a filter's line: types it is for, and arguments.
FILTERS = {
    "abs": ("int float", ["", "(1)"]),
    "attr": ("dict other str", ["('a')", "('name')", "('__class__')", "('upper')", "(1)", "()", "('items')"]),
    "batch": ("list str view", ["(2)", "(3,'x')", "(2,fill_with=0)", "(0)", "('a')", "(10)", "()", "(linecount=2)", "(-1)", "(1.5)"]),
    "capitalize": ("str markup int", ["", "(1)", "()"]),
    "center": ("str markup int", ["(20)", "()", "", "(width=9)", "(0)", "(-3)", "('a')", "(81)", "(7)"]),
    "count": ("list str dict", ["", "()"]),
    "d": ("undefined none str", ["(1)", "('x',true)", "()", "", "(default_value='q')", "(boolean=true)"]),
    "default": ("undefined none str int list", ["('x')", "('x',true)", "('x',boolean=true)", "('x',false)", "(missing)", "(default='x')", "(1,2,3)"]),
    "dictsort": ("dict", ["", "(true)", "(by='value')", "(false,'key',true)", "(reverse=true)", "(by='x')", "(true,'value')"]),
    "e": ("str markup int none list", [""]),
    "escape": ("str markup int none undefined dict", ["", "()"]),
    "filesizeformat": ("int float str", ["", "(true)", "(binary=true)", "(false)"]),
    "first": ("list str dict view iterator tuple undefined", ["", "()", "(1)"]),
    "float": ("str int float none list undefined bool", ["", "(1.5)", "('x')", "(default=2)", "(none)"]),
    "forceescape": ("str markup int", [""]),
    "format": ("str", ["('x')", "(1)", "()", "(a=1)", "('a','b')", "(1,2)", "(1,a=2)", "(d)"]),
    "groupby": ("other list", ["('age')", "('role')", "('address.city')", "('missing')", "('missing',default='x')", "('name',case_sensitive=true)", "('address.city','q',true)", "()", "(0)", "(attribute='age')", "('age')|list", "('role')|map('first')|list", "('role')|map(attribute='list')|list", "('role')|map(attribute='grouper')|join(',')"]),
    "indent": ("str markup", ["", "(2)", "(2,true)", "(4,false,true)", "('>>')", "(width=1,first=true,blank=true)", "('  ',true,true)", "(0)", "(none)", "(-1)", "(true)"]),
    "int": ("str int float none list undefined bool", ["", "(5)", "(0,16)", "(base=8)", "(default='x')", "(0,2)", "(9,36)", "(1,0)", "(none)", "(0,99)"]),
    "items": ("dict undefined list none", ["", "|list", "()|first"]),
    "join": ("list tuple str dict view iterator markup none", ["", "(',')", "(', ')", "(d=' | ')", "('<>')", "('<>'|safe)", "(1)", "(',','name')", "(attribute='age')", "(none)", "(',',attribute=0)", "(missing)"]),
    "last": ("list str dict view tuple", ["", "()"]),
    "length": ("list str dict view tuple markup int none undefined iterator", ["", "()"]),
    "list": ("list str dict view iterator tuple none int undefined markup", ["", "()"]),
    "lower": ("str markup int none list", ["", "()"]),
    "map": ("list str dict iterator tuple", ["('upper')|list", "('string')|join", "(attribute='name')|list", "(attribute='missing',default='x')|list", "()|list", "('int')|list", "('default','x')|list", "('replace','a','b')|list", "('nope')|list", "(attribute='address.city')|list", "(attribute=0)|list", "('length')|list", "('trim')|list", "('join','-')|list", "('first')|list", "('tojson')|list", "('upper')", "('e')|join(',')", "(upper)|list", "(attribute='age',foo=1)|list", "('batch',2)|map('list')|list", "('indent',width=2)|list"]),
    "max": ("list str tuple view dict", ["", "(true)", "(attribute='age')", "(case_sensitive=true)", "(false,'age')"]),
    "min": ("list str tuple view dict", ["", "(true)", "(attribute='name')", "(case_sensitive=true)"]),
    "pprint": ("list str dict int none", ["", "()"]),
    "reject": ("list str iterator", ["|list", "('odd')|list", "('none')|list", "('in',[1,2])|list", "('eq',1)|list", "('nope')|list", "('equalto','a')|join", "('>',1)|list"]),
    "rejectattr": ("other list", ["('age')|list", "('age','odd')|map(attribute='name')|list", "('role','eq','user')|list|length", "('missing')|list|length", "('role','equalto','user')|map(attribute='age')|join(',')", "()|list", "('address.city','eq','Oslo')|list|count"]),
    "replace": ("str markup int list", ["('a','b')", "('a','')", "('','-')", "('l','L',1)", "(old='o',new='0')", "('a')", "('\\n',' ')", "('a',1)", "('<','&lt;')", "('<'|safe,'>')", "('a','<')", "('a','b',count=2)", "('a','b',0)", "(1,2)", "('','_',3)", "('a','b',-1)", "('a','b',none)"]),
    "reverse": ("str list tuple dict view markup int none iterator", ["", "|list", "|join('-')", "()|list"]),
    "round": ("float int str", ["", "(1)", "(2,'floor')", "(1,'ceil')", "(method='ceil')", "(-1)", "(0,'common')", "(0,'x')", "(precision=3)", "|int", "(20)", "(-2,'floor')"]),
    "safe": ("str markup int none list", [""]),
    "select": ("list str iterator tuple", ["|list", "('odd')|list", "('string')|list", "('in','ab')|list", "('gt',1)|list", "('==',1)|list", "('defined')|list", "('divisibleby',2)|list", "('mapping')|list", "('nope')|list", "()|list", "('number')|sum", "('lt')|list"]),
    "selectattr": ("other list", ["('age')|list|length", "('role','eq','user')|map(attribute='name')|join(',')", "('role','==','user')|list", "('age','gt',30)|list", "('age','nope')|list", "('missing','defined')|list", "('content','none')|list|length", "('content','string')|map(attribute='content')|list", "('role','in',['user','tool'])|list|last", "(0)|list", "('a.b')|list"]),
    "slice": ("list str view", ["(2)|list", "(3,'x')|list", "(0)|list", "(2)|map('join','-')|list", "('a')|list", "(slices=2)|list", "(5)|list", "(3,fill_with=none)|list", "(-1)|list"]),
    "sort": ("list str tuple dict view iterator", ["", "(true)", "(reverse=true)", "(case_sensitive=true)", "(attribute='age')", "(attribute='name')", "(false,true)", "(attribute='age,name')", "(attribute='address.city')|map(attribute='name')|list", "(true,false,'name')", "(attribute='missing')", "('x')", "(attribute=0)"]),
    "string": ("str int float none list dict undefined bool markup tuple view", ["", "()"]),
    "sum": ("list tuple view str", ["", "(start=10)", "('age')", "(attribute='age')", "(attribute='age',start=0.5)", "('age',1)", "(start='')", "(start=[])"]),
    "title": ("str markup int none", ["", "()"]),
    "tojson": ("str int float none list dict bool tuple markup undefined view", ["", "(indent=2)", "(indent=4)", "(ensure_ascii=true)", "(sort_keys=true)", "(separators=(',',':'))", "(separators=[', ',' = '])", "(indent='\\t')", "(indent=0)", "(true)", "(false,2)", "(indent=2,separators=(',',': '))", "(indent=none)", "(indent=true)", "(indent='')", "(separators=('<|>',':'),sort_keys=true,indent=1)", "(separators=none)", "(indent=-1)", "(separators=(',',))", "(ensure_ascii=false,indent=none,separators=none,sort_keys=false)", "(foo=1)", "(separators='ab')"]),
    "trim": ("str markup int none", ["", "('x')", "(' .')", "(chars='H')", "('')", "(none)", "(1)", "('hd')"]),
    "truncate": ("str markup", ["(5)", "(10)", "(10,true)", "(10,false,'...')", "(10,true,'')", "(20,leeway=0)", "(9,false,'…',0)", "(1)", "()", "(length=30,end='>>')", "(5,true,'..',0)", "(20,true,'<',3)"]),
    "unique": ("list str tuple view", ["|list", "(true)|list", "(attribute='age')|map(attribute='name')|list", "(case_sensitive=true)|join(',')", "()|list", "(false,'role')|list|length"]),
    "upper": ("str markup int none list", ["", "()", "(1)"]),
    "urlencode": ("str dict list int markup tuple", ["", "()"]),
    "wordcount": ("str markup int", ["", "()"]),
    "wordwrap": ("str markup", ["(10)", "(20,false)", "(5,true,'|')", "(15,break_on_hyphens=false)", "()", "(7,false,'\\n',false)", "(1)", "(width=30)", "(12,wrapstring='<br>')", "(0)"]),
    "nope": ("str", ["", "(1)"]),
}  # fmt: skip

TESTS = {
    "boolean": [""], "callable": [""], "defined": ["", "()"], "divisibleby": ["(2)", " 3", "(0)", "('a')", "", "(num=2)"],
    "eq": ["(1)", " 'a'", "([1,2,3])", "(none)", ""], "==": ["(1)"], "equalto": ["('a')", "(missing)"], "escaped": [""],
    "even": ["", "(1)"], "odd": [""], "false": [""], "true": [""], "filter": [""], "test": [""], "float": [""], "ge": ["(1)", "('a')"],
    "gt": ["(1)", " 0.5"], "greaterthan": ["(2)"], "in": ["([1,'a'])", "('abc')", "(d)", "(5)", " items", "(none)"],
    "integer": [""], "iterable": [""], "le": ["(1)"], "lower": [""], "lt": ["(1)", "('b')"], "lessthan": ["(2)"],
    "mapping": [""], "ne": ["(1)", " none"], "none": ["", "(1)"], "number": [""], "sameas": ["(none)", "(true)", "(1)", " false"],
    "sequence": [""], "string": [""], "undefined": [""], "upper": [""], "nope": [""], "not defined": [""],
    "not none": [""], "not in": ["([1,2])"],
}  # fmt: skip

METHODS = {
    "str markup": {
        "upper": [""], "lower": [""], "title": [""], "capitalize": [""], "swapcase": [""], "casefold": [""],
        "strip": ["", "'ab'", "none", "' \\n'", "''", "1"], "lstrip": ["", "'aH'", "none"], "rstrip": ["", "'\\n'", "'d!'"],
        "split": ["", "','", "' '", "none", "',',1", "none,1", "''", "'\\n'", "maxsplit=1", "sep='l'", "'l',-1", "'ab',0", "1", "sep='o',maxsplit=1"],
        "rsplit": ["", "','", "',',1", "none,1", "' ',2", "''"], "splitlines": ["", "true", "keepends=true"],
        "startswith": ["'a'", "('a','H')", "'He',1", "''", "'l',2,4", "1", "['a']", "()", "'a',-3", "'lo',-2,none"],
        "endswith": ["'a'", "('d','o')", "''", "'l',0,3", "none"], "find": ["'l'", "'l',3", "'zz'", "''", "'l',1,2", "1", "'o',-3"],
        "rfind": ["'l'", "''", "'l',0,3"], "index": ["'l'", "'zz'"], "rindex": ["'o'", "'q'"], "count": ["'l'", "''", "'a',1", "'l',0,3"],
        "replace": ["'l','L'", "'l','L',1", "'','.'", "'l'", "'a','b','c'", "'l','<b>'", "count=1", "'l','',-1"],
        "join": ["['a','b']", "'abc'", "[1]", "[]", "('x',)", "d", "items|map('string')", "[html]", "5"], "zfill": ["5", "0", "'a'"],
        "ljust": ["8", "8,'*'", "8,'ab'", "-1"], "rjust": ["8", "8,'é'"], "center": ["9", "9,'-'", "10"], "expandtabs": ["", "4", "tabsize=2", "0"],
        "partition": ["'l'", "'zz'", "''", "' '"], "rpartition": ["'l'", "'zz'"], "removeprefix": ["'He'", "''", "'zz'"], "removesuffix": ["'ld'", "''"],
        "isalpha": [""], "isdigit": [""], "isnumeric": [""], "isdecimal": [""], "isalnum": [""], "isspace": [""], "isupper": [""], "islower": [""],
        "istitle": [""], "isascii": [""], "isidentifier": [""], "isprintable": [""], "format": ["", "1", "'x','y'", "a=1", "d"],
        "format_map": ["d"], "nope": [""], "__len__": [""], "__class__": [""],
    },
    "list tuple": {
        "append": ["1"], "extend": ["[1]"], "insert": ["0,1"], "pop": ["", "0"], "remove": ["1"], "clear": [""], "reverse": [""], "sort": [""],
        "count": ["1", "'a'", "none", ""], "index": ["1", "'zz'", "3,1", "2,0,3", "1,-3"], "copy": [""], "items": [""],
    },
    "dict": {
        "get": ["'a'", "'zz'", "'zz',1", "'a',none", "", "[]", "key='a'", "none", "1", "'zz','x'"], "items": ["", "1"], "keys": [""], "values": [""],
        "copy": [""], "update": ["{}"], "pop": ["'a'"], "setdefault": ["'a',1"], "clear": [""], "popitem": [""], "missing": [""],
    },
    "int float": {"upper": [""], "real": [""]},
    "view": {"count": ["1"], "index": ["1"], "start": [""]},
    "other": {"update": ["{}"], "get": ["'a'"]},
}  # fmt: skip

FORMATS = ["%s", "%r", "%d", "%i", "%5d", "%-5d|", "%05d", "%+d", "% d", "%x", "%X", "%#x", "%o", "%#o", "%c", "%e", "%.2e", "%E", "%f", "%.2f",
           "%10.3f", "%-10.3f|", "%g", "%.3g", "%G", "%#g", "%.0f", "%%", "%5s", "%-5s|", "%.2s", "%8.3s", "%a", "%u", "%b", "%", "%z", "%(a)s",
           "%(a)5.2f", "%(b)s%(a)s", "%*d", "%.*f", "%5%", "a%sb%sc", "%s %s", "%ld", "%+.1e", "%010.2f", "%(a", "%()s", "%05s", "%#.3x", "%.5d", "%+x"]  # fmt: skip
FORMAT_ARGS = ["1", "(1,)", "-42", "3.14159", "'é<b>'", "none", "true", "(1,2)", "('a','b')", "{'a':1,'b':2}", "d", "[1,2]", "()", "65", "'x'",
               "(5,42)", "(2,3.14159)", "big", "huge", "(inf|float)", "missing", "html", "128578", "(html|safe)", "0", "0.5", "1e-5", "123456789.0"]  # fmt: skip
STR_FORMATS = ["{}", "{0}", "{1}{0}", "{a}", "{:>8}|", "{:<8}|", "{:^9}|", "{:*^9}|", "{:5d}", "{:05}", "{:,}", "{:_}", "{:.2f}", "{:e}", "{:g}", "{:%}", "{:x}",
               "{:#x}", "{:b}", "{:#b}", "{:o}", "{:c}", "{:+}", "{: }", "{!r}", "{!s}", "{!a}", "{!r:>10}", "{{}}", "{{{}}}", "{", "}", "{0[a]}", "{0.x}", "{0[0]}", "{a.b}",
               "{a[b]}", "{:{}}", "{:{w}}", "{:10.3}", "{:.1%}", "{:s}", "{:n}", "{:d}", "{} {}", "{0} {}", "{!x}", "{:z}", "{:=+8}", "{:<08}", "{0.__class__}", "{:,.2f}", "{:G}", "{:10}|", "{:.3}", "{:é>5}"]  # fmt: skip
STR_FORMAT_ARGS = ["1", "-42", "3.14159", "'é<b>'", "none", "true", "1,2", "'a','b'", "a=1", "a=d,w=5", "[1,2]", "d", "", "1234567", "1234567.891", "65", "0.25",
                   "1e20", "'abc',7", "a={'b':2},b=1", "missing", "html|safe", "(1,2)", "inf|float", "w=3"]  # fmt: skip


class Maker:
    """Makes cases from one source of randomness."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.depth = 0

    def pick(self, items):
        return self.random.choice(items)

    def chance(self, p):
        return self.random.random() < p

    # ---- expressions

    def value(self, types=None):
        kinds = (types or "").split() or TYPES
        return self.pick(VALUES[self.pick(kinds)])

    def shown(self, e):
        """An expression as it is shown: itself, inside of a list, its type's tests, as JSON."""
        how = self.random.random()
        if how < 0.65:
            return "{{ " + e + " }}"
        if how < 0.85:
            return "{{ [" + e + "] }}"
        if how < 0.9:
            return "{{ (" + e + ") is string }}{{ (" + e + ") is number }}{{ (" + e + ") is escaped }}"
        if how < 0.95:
            return "{% set v = " + e + " %}{{ v }}|{{ v is defined }}"
        return "{{ (" + e + ")|tojson }}"

    def operands(self, a, operator, b):
        """Without what Python computes for minutes, complex numbers, and sets of what dicts have."""
        if operator == "-" and ("()" in a or "()" in b):
            operator = "+"
        if operator == "**" and ("-" in a or "minus" in a):
            b = "3"
        if operator == "**" and (a in LARGE or b in LARGE):
            a, b = "2", "10"
        if operator == "*" and (a in LARGE or b in LARGE):
            a, b = "3", b if a in LARGE else a
        return f"{a} {operator} {b}"

    def binary(self):
        return self.operands(self.value(), self.pick(OPERATORS), self.value())

    def alike(self):
        kind = self.pick(TYPES)
        if kind in ("int", "float", "bool"):
            kind = "int float bool"
        return self.operands(self.value(kind), self.pick(OPERATORS), self.value(kind))

    def chained(self):
        parts = [self.value("int float bool str") if self.chance(0.2) else self.value("int float")]
        for _ in range(self.pick([1, 2, 2, 3, 4])):
            parts += [self.pick(["<", "<=", ">", ">=", "==", "!=", "in", "not in", "is", "+", "-", "*", "//", "%", "**", "~"])]
            if parts[-1] == "is":
                parts += [self.pick(["odd", "even", "not odd", "number", "divisibleby 2", "eq 1"])]
            elif parts[-1] in ("in", "not in"):
                parts += [self.value("list tuple view")]
            else:
                parts += [self.pick(["", "", "", "-", "+", "not "]) + self.value("int float")]
        text = " ".join(parts)
        return text if "**" not in parts or not any(large in text for large in [*LARGE, "-", "minus"]) else "2 ** 3 ** 2"

    def logic(self):
        def part(depth):
            how = self.random.random()
            if depth == 0 or how < 0.3:
                return self.value()
            if how < 0.5:
                return f"{part(depth - 1)} and {part(depth - 1)}"
            if how < 0.7:
                return f"{part(depth - 1)} or {part(depth - 1)}"
            if how < 0.8:
                return f"not {part(depth - 1)}"
            if how < 0.9:
                return f"({part(depth - 1)})"
            return f"{part(depth - 1)} if {part(depth - 1)}" + (f" else {part(depth - 1)}" if self.chance(0.7) else "")

        return part(self.pick([1, 2, 3]))

    def slice(self):
        def bound():
            return self.pick(["", "", "0", "1", "2", "-1", "-2", "5", "100", "-100", "none", "n", "true", "word", "f", "missing"])

        inside = self.pick([f"{bound()}:{bound()}", f"{bound()}:{bound()}:{self.pick(['', '1', '2', '-1', '-2', '0', 'none'])}",
                            bound() or "0", "'a'", "'missing'", "-1", "1,2", "::-1"])  # fmt: skip
        return f"{self.pick(['d', 'n', 'nothing', 'f', 'missing', 'yes', 'items', 'word'])}[{inside}]" if self.chance(0.3) else \
               f"{self.value('str list tuple markup view')}[{inside}]"

    def attribute(self):
        names = ["a", "b", "x", "missing", "items", "keys", "get", "name", "upper", "0", "1", "x.y.z", "list", "append",
                 "__class__", "_x", "count", "real", "C", "none", "address.city", "first", "values"]  # fmt: skip
        how = self.pick([".", ".", "[", "|attr"])
        name = self.pick(names)
        object = self.value("dict other list str int none undefined tuple view")
        if how == ".":
            return f"{object}.{name}"
        return f"{object}['{name}']" if how == "[" else f"{object}|attr('{name}')"

    def filtered(self):
        name = self.pick(list(FILTERS))
        types = FILTERS[name][0]
        object = self.value(types) if self.chance(0.8) else self.value(" ".join(t for t in TYPES if t != "iterator"))
        if name in ("groupby", "rejectattr", "selectattr", "sort", "map", "sum", "max", "min", "unique") and self.chance(0.5):
            object = self.pick(["people", "messages", "words", "items", "nested", "[[2,'b'],[1,'a']]"])
        return f"{object}|{self.filter(name)}"

    def filter(self, name):
        """With arguments. A generator as a list: Python fails in it only when it is read, and its text is an address."""
        e = name + self.pick(FILTERS[name][1])
        lazy = name in ("batch", "items", "map", "reject", "rejectattr", "select", "selectattr", "slice", "unique", "reverse")
        return e + "|list" if lazy and "|" not in e else e

    def chained_filters(self):
        e = self.filtered()
        for _ in range(self.pick([1, 1, 2])):
            e += "|" + self.filter(self.pick(list(FILTERS)))
        return e

    def tested(self):
        name = self.pick(list(TESTS))
        return f"{self.value()} is {name}{self.pick(TESTS[name])}"

    def method(self):
        types = self.pick(["str markup"] * 6 + list(METHODS))
        name = self.pick(list(METHODS[types]))
        object = self.value(types)
        if types == "str markup" and self.chance(0.4):
            object = self.pick(["'Hello World'", "'hello'", "'a,b,,c'", "'  x y '", "u", "lines", "'ÀÉß'", "'12½'"])
        return f"({object}).{name}({self.pick(METHODS[types][name])})"

    def percent(self):
        if self.chance(0.5):
            return f"'{self.pick(FORMATS)}' % {self.pick(FORMAT_ARGS)}"
        if self.chance(0.3):
            return f"('<{self.pick(FORMATS)}>'|safe) % {self.pick(FORMAT_ARGS)}"
        return f"'{self.pick(STR_FORMATS)}'.format({self.pick(STR_FORMAT_ARGS)})" if self.chance(0.8) else \
               f"('<{self.pick(STR_FORMATS)}>'|safe).format({self.pick(STR_FORMAT_ARGS)})"

    def json(self):
        e = self.pick(["u", "html", "lines", "d", "deep", "people", "messages", "mixed", "nested", "{}", "[]", "[[]]", "{'a':{}}", "{1:2,none:3,true:4,1.5:5}",
                       "f", "huge", "tiny", "inf|float", "big", "(1,2)", "range(3)", "missing", "{'x':missing}", "'\\x00\\x1f\\x7f\\u2028'", "{(1,2):3}",
                       "'<x>'|safe", "namespace(a=1)", "[1.0,0.1,1e-7,1e16]", "d.items()", "words|map('upper')", "{'b':1,'a':[{'d':1,'c':2}]}"])  # fmt: skip
        return f"{e}|tojson{self.pick(FILTERS['tojson'][1])}"

    def literal(self):
        return self.pick([
            "007", "0", "00", "1_000", "0x1F", "0o17", "0b101", "1.", "1.5e3", "1e3", "1e-3", "1E+2", "1_0.5_0", ".5", "1__0", "0xg", "1e", "9223372036854775807",
            "9223372036854775808", "-9223372036854775808", "0x7fffffffffffffff", "1.7976931348623157e308", "5e-324", "123456789012345678.0", "1e23", "0.1+0.2",
            "'\\t\\n\\\\\\''", "'\\x41\\u00e9\\U0001F642\\101\\q'", "'\\u12'", "'a' \"b\" 'c'", "'line\\\nbreak'", "'new\nline'", "[1,2,]", "[,]", "{'a':1,}",
            "(1)", "(1,)", "()", "1,2", "[]", "{}", "{1:2,1:3}", "{'a':{'b':[1,(2,)]}}", "[1,[2,[3,[4]]]]", "{[]:1}", "{(1,):1}", "{missing:1}", "true", "True", "TRUE",
            "None", "none", "nil", "null", "_", "é", "a.b", "1.real", "1 .real", "'a'.upper()", "- 1", "--1", "+-+1", "-'a'", "not", "not not 1", "1 if", "1 if 0", "{%",
            "'unclosed", "(1", "1)", "[1}", "1 1", "a b", "a..b", "'a'[0]", "[1,2][0]", "{'a':1}.a", "(1,2).0", "1|abs", "-1|abs", "-1.5|abs|int", "1 + 2|abs", "2**-1",
            "2**3**2", "-2**2", "2**0.5", "0**0", "7//2", "-7//2", "7%-3", "-7%3", "7.5//2", "-7.5%2", "1/3", "10/2", "1//0", "1%0", "1/0", "0.0/0", "'a'*3", "3*'ab'",
            "'a'*-1", "[1]*2", "[1]+[2]", "(1,)+(2,)", "'a'+1", "1+'a'", "1~2~'a'~none~true", "'a'~(1,2)", "9223372036854775807+1", "10**18", "10**19", "2**62", "2**63",
            "1 < 2 < 3", "1 < 3 < 2", "1 < 'a'", "none < 1", "[1,2] < [1,3]", "(1,) < (1,2)", "'a' < 'b'", "'Z' < 'a'", "true < 2", "true + true", "1 == 1.0", "1 == true",
            "'1' == 1", "none == false", "[] == []", "[1] == (1,)", "{} == {}", "missing == missing", "missing == none", "missing is undefined", "nan == nan",
        ])  # fmt: skip

    EXPRESSIONS = [("binary", 10), ("alike", 12), ("chained", 7), ("logic", 6), ("slice", 8), ("attribute", 6), ("filtered", 25),
                   ("chained_filters", 5), ("tested", 9), ("method", 16), ("percent", 13), ("json", 7), ("literal", 6)]  # fmt: skip

    def expression(self):
        names, weights = zip(*self.EXPRESSIONS)
        return getattr(self, self.random.choices(names, weights)[0])()

    def safe_value(self):
        """One that seldom fails where it is printed or looped over."""
        return self.pick(["n", "word", "items", "words", "d", "x", "y", "loop.index", "html", "1", "'s'", "x ~ y", "(x, y)", "u|upper", "people[0].name",
                          "ns.a", "missing", "items|length", "[x]", "x|default('-')", "loop.first", "loop", "m", "caller", "self", "d|list"])  # fmt: skip

    # ---- white space

    def space(self):
        return self.pick(["", "", " ", "  ", "\n", "\n\n", " \n", "\n  ", "\t", "x", " x ", "x\n", "\nx", "\r\n", "\u00a0", "\r", " \n \n "])

    def tag(self):
        left, right = self.pick(["", "", "", "-", "+"]), self.pick(["", "", "", "-", "+"])
        kind = self.pick(["{}", "%", "%", "#", "raw", "if", "for", "print", "verbatim"])
        s = self.pick([" ", " ", "", "\n"])
        if kind == "{}":
            return f"{{{{{left}{s}1{s}{right if right != '+' or self.chance(0.2) else ''}}}}}"
        if kind == "%":
            return f"{{%{left}{s}set a{s}={s}1{s}{right}%}}"
        if kind == "#":
            return f"{{#{left}{s}c {self.pick(['', '#', '{{', '%}', '-'])}{s}{right}#}}"
        left2, right2 = self.pick(["", "", "-", "+"]), self.pick(["", "", "-", "+"])
        if kind == "raw":
            return f"{{%{left}{s}raw{s}{right}%}}{self.space()}{self.pick(['{{ x }}', '{% y %}', '{# z #}', ''])}{self.space()}{{%{left2}{s}endraw{s}{right2}%}}"
        if kind == "if":
            return f"{{%{left}{s}if {self.pick(['1', '0'])}{s}{right}%}}{self.space()}{{%{left2}{s}else{s}{right}%}}{self.space()}{{%{left}{s}endif{s}{right2}%}}"
        if kind == "for":
            return f"{{%{left}{s}for i in [1,2]{s}{right}%}}{self.space()}{{{{{left2} i {right2 if right2 != '+' else ''}}}}}{self.space()}{{%{left2}{s}endfor{s}{right2}%}}"
        return f"{{%{left} print 1, 2 {right}%}}"

    def whitespace(self):
        return self.space() + "".join(self.tag() + self.space() for _ in range(self.pick([1, 2, 3, 4])))

    # ---- statements

    def target(self):
        return self.pick(["x", "y", "x", "a", "n", "word", "x, y", "ns.a", "(x, y)", "loop", "m", "range"])

    def statement(self):
        self.depth += 1
        kinds = ["print"] * 4 + ["set"] * 4 + ["text"] * 2
        if self.depth < 5:
            kinds += ["if"] * 3 + ["for"] * 4 + ["setblock", "with", "with", "macro", "macro", "callmacro", "callmacro", "filter", "call", "generation", "loopctl", "ns", "ns"]
        text = getattr(self, "s_" + self.pick(kinds))()
        self.depth -= 1
        return text

    def body(self, n=None):
        return "".join(self.statement() for _ in range(n or self.pick([1, 1, 2, 3])))

    def s_text(self):
        return self.pick(["-", "|", "\n", " ", "t"])

    def s_print(self):
        e = self.pick(["x", "y", "x", "y", "a", "n", "ns.a", "loop.index", "word", self.safe_value(), self.expression()])
        return "{{ " + e + " }}"

    def s_set(self):
        target = self.target()
        if "," in target:
            return "{% set " + target + " = " + self.pick(["1, 2", "(y, x)", "x, y", "[5, 6]", "'ab'", "items", "'a', n"]) + " %}"
        e = self.pick(["1", "2", "x", "y", "n + 1", "x ~ 'q'", "[x, y]", "loop.index", self.safe_value()])
        return "{% set " + target + " = " + e + " %}"

    def s_ns(self):
        return self.pick(["{% set ns = namespace(a=0) %}", "{% set ns = namespace() %}", "{% set ns.a = ns.a + 1 %}", "{% set ns.b = [x] %}", "{{ ns.a }}",
                          "{% set ns = namespace({'a': 5}, b=2) %}", "{% set ns.a = n %}", "{% set ns.a, x = 1, 2 %}"])  # fmt: skip

    def s_if(self):
        condition = self.pick(["x", "y", "1", "0", "n > 3", "loop.first", "loop.last", "x is defined", "y is not defined", "not x", "x == y", "ns.a", self.tested()])
        text = "{% if " + condition + " %}" + self.body()
        if self.chance(0.3):
            text += "{% elif " + self.pick(["x", "1", "y is undefined"]) + " %}" + self.body()
        if self.chance(0.5):
            text += "{% else %}" + self.body()
        return text + "{% endif %}"

    def s_for(self):
        head = self.pick(["x in items", "x in items", "x in words", "x, y in d.items()", "x in d", "x in []", "x in range(3)", "x, y in [(1, 2), (3, 4)]", "y in items",
                          "x in 'abc'", "x in missing", "x in items if x > 1", "x in items if loop", "x in [1, 2] if x == y", "x in people", "x in tree recursive",
                          "x in y", "x in x", "y in [x, y]", "x in words|sort", "x in people|map(attribute='name')", "x in items|select('odd')", "x in 5", "_, x in d|dictsort",
                          "(x, y) in [[1, 2]]", "x, (a, y) in [[1, [2, 3]]]", "loop in items", "x in people if x.age > 30"])  # fmt: skip
        text = "{% for " + head + " %}"
        if "recursive" in head:
            text += "{{ x.v }}" + self.pick(["", "{{ loop.depth }}", "{{ loop.depth0 }}-{{ loop.index }}"])
            text += self.pick(["({{ loop(x.c) }})", "{% if x.c %}[{{ loop(x.c) }}]{% endif %}", "{{ loop() }}", "{{ loop([]) }}"])
        text += self.body()
        if self.chance(0.3):
            text += self.pick(["{{ loop.index }}/{{ loop.length }}", "{{ loop.revindex }}{{ loop.revindex0 }}", "{{ loop.previtem }}{{ loop.nextitem }}", "{{ loop.cycle('o', 'e') }}",
                               "{{ loop.changed(x) }}", "{{ loop.index0 }}{{ loop.first }}{{ loop.last }}", "{{ loop.depth }}", "{{ loop.missing }}", "{{ loop.changed(1) }}", "{{ loop.cycle() }}"])  # fmt: skip
        if self.chance(0.2):
            text += "{% else %}" + self.body()
        return text + "{% endfor %}" + self.pick(["", "", "{{ x }}", "{{ loop }}"])

    def s_loopctl(self):
        return "{% for x in items %}" + self.body() + "{% if " + self.pick(["x == 1", "loop.index == 2", "y", "1"]) + " %}{% " + \
            self.pick(["break", "continue"]) + " %}{% endif %}" + self.body() + "{% endfor %}"  # fmt: skip

    def s_setblock(self):
        return "{% set " + self.pick(["x", "y", "ns.a", "word"]) + self.pick(["", "", "|upper", "|trim|length", "|replace('x','y')", "|safe"]) + " %}" + self.body() + "{% endset %}"

    def s_with(self):
        head = self.pick(["x = 1", "x = y", "x = 1, y = x", "", "a = n", "x, y = 1, 2", "x = items", "n = 1, word = 2", "(x, y) = (1, 2)"])
        return "{% with " + head + " %}" + self.body() + "{% endwith %}"

    def s_filter(self):
        return "{% filter " + self.pick(["upper", "trim", "replace('1', 'one')", "indent(2, true)", "upper|lower", "length", "escape", "title|reverse", "default('x')", "join('-')", "nope"]) + \
            " %}" + self.body() + "{% endfilter %}"  # fmt: skip

    def s_macro(self):
        head = self.pick(["m()", "m(x)", "m(x, y=2)", "m(x=1, y=x)", "m(a, b=n)", "m(x, x)", "m(y=missing)", "m(a=1, b)"])
        body = self.body()
        if self.chance(0.25):
            body += self.pick(["{{ caller() }}", "{{ caller(1) }}", "{{ varargs }}", "{{ kwargs }}", "{{ caller }}", "{{ caller is defined }}", "{{ caller() if caller else '-' }}", "{{ varargs|length }}{{ kwargs|tojson }}"])
        if self.chance(0.15):
            body += "{% if x is number and x > 0 and x < 4 %}{{ m(x + 1) }}{% endif %}"
        text = "{% macro " + head + " %}" + body + "{% endmacro %}"
        return text + (self.s_callmacro() if self.chance(0.7) else "")

    def s_callmacro(self):
        return "{{ m(" + self.pick(["", "1", "x", "1, 2", "x=3", "1, y=4", "1, 2, 3", "q=1", "*items", "**d", "*[1], **{'y': 2}", "1, x=1", "caller=1", "y"]) + ") }}" + \
            self.pick(["", "", "", "{{ m.name }}", "{{ m.arguments }}", "{{ m.catch_varargs }}{{ m.catch_kwargs }}{{ m.caller }}"])  # fmt: skip

    def s_call(self):
        return "{% call" + self.pick([" ", "(x) ", "(x, y=1) ", "() "]) + "m(" + self.pick(["", "1", "x", "x=2"]) + ") %}" + self.body() + "{% endcall %}"

    def s_generation(self):
        return "{% generation %}" + self.body() + "{% endgeneration %}"

    def program(self):
        text = ""
        if self.chance(0.5):
            text += self.pick(["{% set x = 1 %}", "{% set x, y = 1, 2 %}", "{% set ns = namespace(a=0) %}", "{% macro m(x) %}<{{ x }}>{% endmacro %}",
                               "{% macro m() %}{{ x }}{{ caller() }}{% endmacro %}", "{% set x = items|map('string') %}"])  # fmt: skip
        text += self.body(self.pick([1, 2, 2, 3, 4]))
        return text + self.pick(["", "|{{ x }}{{ y }}", "{{ ns.a }}", "\n", "\n\n"])

    TRAPS = [
        "{% set x = 1 %}{% for i in [1,2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}",
        "{% for i in [1,2,3] %}{{ x }}{% set x = i %}{{ x }}{% endfor %}{{ x is defined }}",
        "{% macro m() %}{{ x }}{% endmacro %}{% set x = 5 %}{{ m() }}",
        "{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% set x = 5 %}{{ m() }}",
        "{% if 1 %}{% set x = 1 %}{% endif %}{{ x }}", "{% if 0 %}{% set x = 1 %}{% endif %}{{ x is defined }}",
        "{% set x = 1 %}{% if 1 %}{% set x = 2 %}{% endif %}{{ x }}", "{% for x in items %}{% endfor %}{{ x }}",
        "{% set x = 9 %}{% for x in items %}{{ x }}{% endfor %}{{ x }}", "{% set a %}{{ n }}<b>{% endset %}{{ a }}{{ a|length }}{{ a is escaped }}",
        "{% set g = items|map('string') %}{{ g|list }}{{ g|list }}", "{% set g = items|select('odd') %}{% for x in g %}{{ x }}{% endfor %}{% for x in g %}{{ x }}{% else %}none{% endfor %}",
        "{% set g = items|map('string') %}{{ g|first }}{{ g|list }}", "{% set g = d.items() %}{{ g|list }}{{ g|list }}", "{% set g = items|reverse %}{{ g|list }}{{ g|list }}",
        "{% set g = items|batch(2) %}{{ g|list }}{{ g|list }}", "{{ (items|map('string'))|length }}", "{{ (items|map('string'))[0] }}", "{% set g = items|map('string') %}{{ '1' in g }}{{ g|list }}",
        "{% for x in items|map('string') %}{{ loop.length }}{{ loop.last }}{{ loop.revindex }}{% endfor %}", "{% set g = items|map('string') %}{{ g is iterable }}{{ g is sequence }}{% if g %}y{% endif %}",
        "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(1, 2) }}", "{% macro m(a, b=c, c=1) %}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}", "{% set c = 7 %}{% macro m(b=c, c=1) %}{{ b }}{{ c }}{% endmacro %}{{ m() }}",
        "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}", "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
        "{% for i in items %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}{{ m is defined }}", "{% macro m() %}{% set x = 1 %}{{ x }}{% endmacro %}{{ m() }}{{ x is defined }}",
        "{% call(x) (m) %}{% endcall %}", "{% macro m() %}[{{ caller(1, 2) }}]{% endmacro %}{% call(a, b=5) m() %}{{ a }}{{ b }}{% endcall %}", "{% set x = 1 %}{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}{{ x }}{% set x = 2 %}{% endcall %}{{ x }}",
        "{% with %}{% set x = 1 %}{{ x }}{% endwith %}{{ x is defined }}", "{% set a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% filter upper %}{% set x = 'a' %}{{ x }}{% endfilter %}{{ x }}",
        "{% set ns = namespace(x=0) %}{% for i in items %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}", "{% set ns = namespace(x=0) %}{{ ns['x'] }}{{ ns.y is defined }}{{ ns }}", "{% set d.x = 1 %}", "{% set d['x'] = 1 %}", "{% set ns = d %}{% set ns.x = 1 %}",
        "{% set ns = namespace(_x=0) %}", "{% set ns = namespace() %}{% set ns._x = 1 %}", "{% set ns = namespace([('a', 1)]) %}{{ ns.a }}", "{{ namespace(self=1).self }}", "{{ dict(a=1, b=2) }}{{ dict([(1, 2)]) }}{{ dict(d, z=1) }}{{ dict() }}", "{{ dict(1) }}",
        "{{ range(3) }}{{ range(1, 10, 3)|list }}{{ range(3)[1] }}{{ range(5)[1:3] }}{{ range(3)|length }}", "{{ range(100001)|length }}", "{{ range(100000)|length }}", "{{ range(1, 2, 0) }}", "{{ range('a') }}", "{{ range(2.0) }}", "{{ range(true)|list }}", "{{ 3 in range(5) }}{{ range(3) == range(0, 3) }}",
        "{% set j = joiner(', ') %}{% for x in items %}{{ j() }}{{ x }}{% endfor %}", "{% set j = joiner() %}{{ j() }}|{{ j() }}", "{{ lipsum }}",
        "{{ raise_exception('no ' ~ 1) }}", "{% if 0 %}{{ raise_exception('x') }}{% endif %}ok", "{{ raise_exception() }}", "{{ strftime_now('%Y-%m-%d %H:%M:%S %j %U %w %p %I %y %B %b %A %a %%') }}", "{{ strftime_now('é%d') }}", "{{ strftime_now(1) }}", "{{ strftime_now('') }}",
        "{% if 0 %}{{ x|nope }}{% endif %}ok", "{{ x|nope if 0 else 1 }}", "{% for x in [] %}{{ x|nope }}{% endfor %}", "{% if 0 %}{{ x is nope }}{% endif %}ok", "{% macro m() %}{{ x|nope }}{% endmacro %}", "{% if x is filter %}a{% endif %}", "{{ 'upper' is filter }}{{ 'nope' is filter }}{{ 'odd' is test }}",
        "{{ missing }}", "{{ missing.x }}", "{{ missing[0] }}", "{{ missing.x is defined }}", "{{ d.missing.x is defined }}", "{{ d.missing is defined }}", "{{ missing|length }}", "{{ missing + 1 }}", "{{ missing ~ 1 }}", "{{ missing == '' }}", "{{ missing|list }}", "{{ missing() }}", "{{ missing|upper }}",
        "{{ missing|join }}", "{{ missing in [1] }}", "{{ 1 in missing }}", "{{ missing|string }}", "{{ missing|int }}", "{{ missing|tojson }}", "{{ missing|first }}", "{{ [missing] }}", "{{ not missing }}", "{{ missing or 1 }}", "{{ -missing }}", "{{ missing < 1 }}", "{{ missing is none }}", "{{ missing|default(missing2) }}",
        "{{ 'a'.upper }}{{ d.items is callable }}", "{{ items.append(1) }}", "{{ items.append is defined }}", "{% do items.append(1) %}", "{% set _ = items.append(1) %}{{ items }}", "{% set _ = d.update({'x': 1}) %}", "{{ d.pop('a') }}", "{{ ''.__class__.__mro__ }}", "{{ ''['__class__'] }}", "{{ ''|attr('__class__') }}",
        "{% extends 'x' %}", "{% include 'x' %}", "{% import 'x' as y %}", "{% trans %}x{% endtrans %}", "{% debug %}", "{{ self }}", "{{ self.x() }}", "{{ super() }}", "{{ loop }}", "{{ loop.index }}",
        "{% break %}", "{% for x in items %}{% break %}{% else %}e{% endfor %}", "{% for x in items %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{{ loop.index }}{% endfor %}", "{% for x in items %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}", "{% for x in [] %}{% else %}{% break %}{% endfor %}", "{% for y in items %}{% for x in [] %}{% else %}{% break %}{% endfor %}{{ y }}{% endfor %}",
        "{% for x in items %}{% call (m)() %}{% break %}{% endcall %}{% endfor %}", "{% for x in items %}{% filter upper %}{% break %}{% endfilter %}{% endfor %}", "{% for x in items %}a{% set y %}{% break %}{% endset %}{% endfor %}", "{% for x in items %}{% with %}{{ x }}{% break %}{% endwith %}{% endfor %}", "{% for x in items %}{% generation %}{% break %}{% endgeneration %}{% endfor %}",
        "{% for x in items recursive %}{{ loop.depth }}{% endfor %}", "{% for x in tree recursive %}{{ x.v }}{{ loop.index }}/{{ loop.length }}{% if x.c %}({{ loop(x.c) }}){% endif %}{{ x.v }}{% endfor %}", "{% for x in tree recursive %}{% set loop_ = loop %}{% for y in x.c %}{{ loop_([y]) }}{% endfor %}{{ x.v }}{% endfor %}", "{% for x in items %}{{ loop(x) }}{% endfor %}",
        "{% for x in items %}{% for y in words %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}", "{% for x in items %}{% set outer = loop %}{% for y in [1,2] %}{{ outer.index }}{{ loop.index }}{% endfor %}{% endfor %}", "{% for x in items if x > 1 %}{{ loop.index }}{{ loop.length }}{{ x }}{% else %}e{% endfor %}", "{% for x in items if loop.index > 1 %}{{ x }}{% endfor %}",
        "{% for x in words %}{{ loop.changed(x|lower) }}{% endfor %}", "{% for x in items %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for x in items %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{% endfor %}", "{% for x in items %}{{ loop }}{% endfor %}", "{% for a, b in items %}{% endfor %}", "{% for a, b in ['ab', 'cd'] %}{{ a }}{{ b }}{% endfor %}", "{% for a in d %}{{ a }}{% endfor %}",
        "{% set a, b = [1, 2] %}{{ a }}{{ b }}", "{% set a, b = 1 %}", "{% set a, b = [1] %}", "{% set (a, b), c = [[1, 2], 3] %}{{ a }}{{ b }}{{ c }}", "{% set a = b = 1 %}", "{% set a %}", "{% set %}", "{% set 1 = 2 %}", "{% set true = 1 %}", "{% set none = 1 %}{{ none }}", "{% for true in items %}{% endfor %}", "{% set a = 1, %}{{ a }}", "{% set a = 1, 2 %}{{ a }}", "{% set [a, b] = [1, 2] %}{{ a }}",
        "{{ html|e }}{{ html|safe }}{{ html|safe|e }}{{ html|e|e }}{{ html|forceescape }}", "{{ (html|safe) ~ html }}", "{{ (html|safe) + html }}", "{{ html + (html|safe) }}", "{{ [html|safe, html]|join(html) }}", "{{ [html, html]|join('<'|safe) }}", "{{ (html|safe).replace('a', '<') }}", "{{ (html|e).upper() }}", "{{ (html|e)|upper }}", "{{ (html|safe)[1:3] is escaped }}", "{{ (html|safe) * 2 }}", "{{ ('%s'|safe) % html }}", "{{ ('{}'|safe).format(html) }}", "{{ (html|safe)|replace('<', '>') }}", "{{ ('a'|safe) == 'a' }}", "{{ (html|safe).split('<') }}", "{{ (html|safe).join([html]) }}", "{{ (html|safe)|string is escaped }}", "{{ (html|safe)|lower is escaped }}", "{{ (html|e)|tojson }}", "{{ html|e|trim is escaped }}",
        "{%- set x = 1 -%}\n\n {{- x -}} \n{%- if x -%} a {%- endif -%} \n", "  {% if 1 %}  \n  a\n  {% endif %}\nb\n", "  {%+ if 1 %}a{% endif %}", "{% if 1 +%}\na{% endif +%}\nb", "a {#- c -#} b", "  {# c #}\nb", "  {#+ c +#}\nb", "{{ 1 }}\n{{ 2 }}\n", "  {{ 1 }}  \n", "{% raw %}{{ x }}{% endraw %}\n", "{%- raw -%} {{ x }} {%- endraw -%} b", "  {% raw %}\n a{% endraw %}\nb", "{% raw %}{% raw %}{% endraw %}", "{% raw %}", "{# unclosed", "{{ unclosed", "{% if 1", "}} %} #}", "{ {x} { % }", "{{ '}}' }}{{ '%}' }}", "{{ {'a': {'b': 1}}['a']['b'] }}", "{{ {'a':{}} }}", "{{{'a':1}}}", "{{ {} }}{{ {'a':1}}}", "{{ -1 }}{{- 1 }}{{+ 1 }}", "a\r\nb\rc\n", "\n", "\n\n", "", " ", "{{ '\n' }}",
        "{% if 1 %}a{% elif 2 %}b{% else %}c{% endif %}", "{% if %}a{% endif %}", "{% if 1 %}", "{% endif %}", "{% if 1 %}{% endfor %}", "{% else %}", "{% if 1: %}a{% endif %}", "{% for x in items: %}{{ x }}{% endfor %}", "{% if (1) %}a{% endif %}", "{% if not 1 %}a{% else if %}{% endif %}", "{% if x = 1 %}{% endif %}", "{% if 1, 2 %}a{% endif %}", "{% if 1 if 0 else 1 %}a{% endif %}", "{{ 1, 2 }}", "{{ 1, }}", "{{ }}", "{% %}", "{% nope %}", "{{ 'a' if 0 }}|", "{{ ('a' if 0) is defined }}", "{{ ('a' if 0)|default('b') }}",
        "{% print 1 %}{% print 1, 'a' %}{% print %}", "{% set x | upper %}a{% endset %}{{ x }}", "{% for k, v in d.items() %}{{ k }}={{ v }}{% if not loop.last %},{% endif %}{% endfor %}", "{% for k, v in d|items %}{{ k }}{{ v }}{% endfor %}", "{% for k, v in d|dictsort %}{{ k }}{{ v }}{% endfor %}", "{{ d.b }}{{ d['b'] }}{{ d['z'] }}{{ d.get('z', 0) }}", "{{ deep.items }}", "{{ deep['items'] }}", "{{ deep.items() }}", "{{ people[0].name }}{{ people[-1]['name'] }}{{ people[9] }}", "{{ 'abc'[1] }}{{ 'abc'[-1] }}{{ 'abc'[9] }}{{ 'abc'['x'] }}", "{{ items[1.0] }}", "{{ items[true] }}", "{{ items['0'] }}", "{{ d[[]] }}", "{{ d[none] }}", "{{ {1: 'a'}['1'] }}", "{{ {1: 'a'}[1.0] }}{{ {1: 'a'}[true] }}", "{{ items.0 }}{{ items.1 }}", "{{ (1).real }}", "{{ true.real }}", "{{ none.x }}", "{{ none.x.y }}", "{{ none['x'] }}",
        "{{ messages[-1].tool_calls[0].function.arguments|tojson }}", "{{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|list|tojson }}", "{{ messages|map(attribute='role')|unique|join(',') }}", "{{ messages[1:] }}", "{{ messages[::-1]|map(attribute='role')|list }}", "{{ messages|length }}", "{% for m in messages %}{{ m.role }}:{{ m.content|trim if m.content is string else '' }}{% endfor %}", "{{ messages[0]['content'].strip().split(' ')[0] }}", "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "{{ messages|groupby('role') }}", "{{ u|upper }}{{ u|lower }}{{ u|title }}{{ u|capitalize }}{{ u.swapcase() }}{{ u.casefold() }}", "{{ u|length }}{{ u[0:5] }}{{ u[::-1] }}", "{{ u.split() }}", "{{ u|urlencode }}", "{{ u|tojson(ensure_ascii=true) }}", "{{ [u] }}", "{{ u|wordcount }}", "{{ u.isalpha() }}{{ 'ǅ'.istitle() }}{{ '²'.isdigit() }}{{ '½'.isnumeric() }}{{ '٣'|int }}{{ '٣.٥'|float }}", "{{ '１２'|int + 1 }}", "{{ 'ŉ'|upper }}{{ 'ΑΣ'|lower }}{{ 'ΑΣ Σ'|lower }}{{ 'ǆ'|title }}{{ 'ﬁx'|capitalize }}", "{{ 'I'|lower }}{{ 'İ'|lower|length }}",
        "{{ 0.1 + 0.2 }}{{ 1e16 }}{{ 1e15 }}{{ 123456.789e3 }}{{ 1e-4 }}{{ 1e-5 }}{{ 5e-324 }}{{ 1.0 }}{{ 100.0 }}{{ 1e22 }}{{ 1e23 }}", "{{ 1e400 }}{{ -1e400 }}{{ 1e400 - 1e400 }}", "{{ 2.5|round }}{{ 3.5|round }}{{ 0.5|round }}{{ -0.5|round }}{{ 2.675|round(2) }}{{ 1e300|round(2) }}", "{{ 42|round }}{{ 42.7|int }}{{ -42.7|int }}{{ '42.7'|int }}{{ '0x1f'|int(0, 16) }}{{ '1_000'|int }}{{ ' 5 '|int }}{{ '1e3'|int }}{{ 'inf'|float }}{{ 'nan'|float }}{{ '1_0.5'|float }}{{ 1e400|int }}", "{{ 1000|filesizeformat }}{{ 1|filesizeformat }}{{ 1023|filesizeformat(true) }}{{ 1048576|filesizeformat(true) }}{{ 1e24|filesizeformat }}{{ 1500000|filesizeformat }}", "{{ true + 1 }}{{ true ~ 1 }}{{ true * 'a' }}{{ -true }}{{ +true }}", "{{ 7 / 2 }}{{ 6 / 2 }}{{ 7 // 2 }}{{ -7 // 2 }}{{ 7 % -3 }}{{ 2 ** 10 }}{{ 2 ** -1 }}{{ 2.0 ** 3 }}", "{{ 10 ** 20 }}", "{{ 'a' * 1000000000000 }}",
        "{% macro m(x) %}{{ x }}{% endmacro %}{{ m('<b>') }}{{ m('<b>') is escaped }}{{ m(html|e) }}", "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, a=3) }}", "{% macro m(a) %}{{ a }}{{ kwargs.b }}{% endmacro %}{{ m(1, b=2) }}", "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{% endmacro %}{{ m(b=2) }}", "{% macro m(a, b=1) %}{{ a }}{{ b }}{% endmacro %}{{ m() }}{{ m(b=2, a=1) }}{{ m(*[1, 2]) }}{{ m(**{'a': 1}) }}", "{{ m }}{% macro m() %}{% endmacro %}", "{% macro m() %}{% endmacro %}{{ m.name }}{{ m.arguments }}", "{% macro m(caller) %}{% endmacro %}{{ m(1) }}", "{% macro m(caller=none) %}{{ caller }}{% endmacro %}{{ m() }}", "{% set m = 5 %}{{ m() }}", "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}", "{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}",
        "{% generation %}{{ x }}{% endgeneration %}", "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}", "{% generation %}{% set x = 1 %}{% endgeneration %}{{ x is defined }}", "{% set x = 1 %}{% generation %}{{ x }}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}", "{%- generation -%} a {%- endgeneration -%} b",
    ]  # fmt: skip

    def trap(self, i):
        return self.TRAPS[i]

    def case(self, template):
        return {"template": template, "variables": {k: v for k, v in VARIABLES.items() if k in template}}

    def cases(self, count):
        """All traps, and then templates of each kind by turns."""
        made = [self.case(t) for t in self.TRAPS]
        while len(made) < count:
            how = self.random.random()
            if how < 0.1:
                text = self.whitespace()
            elif how < 0.35:
                text = self.program()
            else:
                text = self.shown(self.expression())
            made.append(self.case(text))
        return made[:count]


# ---- comparison ------------------------------------------------------------------------------


def run(command, cases):
    """Answers of a program, which begins anew where it ended early."""
    answers = []
    while len(answers) < len(cases):
        lines = "".join(json.dumps(case, ensure_ascii=False) + "\n" for case in cases[len(answers) :])
        done = subprocess.run(command, input=lines.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        answers += [json.loads(line) for line in done.stdout.split(b"\n") if line]
        if len(answers) < len(cases):
            answers.append({"crash": f"{done.returncode}: {done.stderr.decode(errors='replace')[-3000:]}"})
    return answers


def run_oracle(cases, *options):
    """The same, where an end is a limit of Python."""
    answers = run([sys.executable, str(ORACLE), *options], cases)
    return [{"error": "limit: time"} if "crash" in answer else answer for answer in answers]


# Where we stop and Python goes on: limits that are ours.
LIMITS = ["of 64 bits", "at most", "that needs at most"]
# What no engine can say the same of: addresses, and the order of sets.
ADDRESSES = [" at 0x", "<TemplateReference", "<generator", "<function", "<bound method", "<built-in", "<class ", "<Macro", "<jinja2", "<dict_", "object at"]


def verdict(ours, theirs):
    """What differs, or None."""
    if "crash" in ours:
        return "crash"
    if "text" in ours and ours["text"] == theirs.get("text"):
        return None
    if any(a.lower() in theirs.get("text", "").lower() for a in ADDRESSES):
        return "address"
    if "text" in ours and "text" in theirs:
        return "text differs"
    if "error" in ours and "error" in theirs:
        return None
    if "error" in ours:
        return "limit" if any(limit in ours["error"] for limit in LIMITS) else "we fail"
    return "limit of Python" if theirs["error"].startswith("limit:") else "they fail"


def report(cases, answers, others, examples):
    """Prints what differs, and says whether anything does that has no excuse."""
    kinds = collections.defaultdict(list)
    for case, ours, theirs in zip(cases, answers, others):
        kind = verdict(ours, theirs)
        if kind is not None:
            kinds[kind].append((case, ours, theirs))
    texts = sum("text" in answer for answer in others)
    print(f"{len(cases)} cases, {texts} with a text; " + (", ".join(f"{k}: {len(v)}" for k, v in kinds.items()) or "all alike"))
    for kind, group in kinds.items():
        if kind in ("address", "limit", "limit of Python") and examples < 1000:
            continue
        print(f"\n---- {kind}: {len(group)}")
        for case, ours, theirs in sorted(group, key=lambda g: len(g[0]["template"]))[:examples]:
            print(f"{case.get('name', '')}{json.dumps(case['template'], ensure_ascii=False)[:400]}")
            for who, answer in (("ours  ", ours), ("theirs", theirs)):
                print(f"    {who} {json.dumps(answer.get('text', answer.get('error', answer.get('crash'))), ensure_ascii=False)[:400]}")
    return any(kind in ("crash", "text differs", "we fail", "they fail") for kind in kinds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--examples", type=int, default=20, help="of each kind")
    parser.add_argument("--minijinja", action="store_true", help="and what minijinja says too")
    parser.add_argument("--from", dest="source", help="cases from a file")
    args = parser.parse_args()
    if args.source:
        cases = [json.loads(line) for line in open(args.source)]
    else:
        cases = Maker(args.seed).cases(args.count)
    others = run_oracle(cases)
    answers = run([args.program], cases)
    bad = report(cases, answers, others, args.examples)
    if args.minijinja:
        seconds = run_oracle(cases, "--minijinja")
        agreed = [i for i in range(len(cases)) if "text" in seconds[i] and seconds[i] == others[i]
                  and verdict(answers[i], others[i]) not in ("address", "limit")]  # fmt: skip
        same = sum(answers[i].get("text") == seconds[i]["text"] for i in agreed)
        print(f"\nminijinja agrees with Jinja2 on {len(agreed)} texts, and we with both on {same} of them")
        bad = bad or same != len(agreed)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
