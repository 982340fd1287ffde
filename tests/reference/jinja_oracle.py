#!/usr/bin/env python3
"""Renders chat templates as transformers does: the truth that tests/jinja_program.c is held to.

    jinja_oracle.py [--minijinja]    a line of JSON for each line of the input, as jinja_program has them

The environment is the one that transformers 5.23 makes, down to its extension and its globals. By
--minijinja the second opinion is asked, an engine that is not Python's: it stays apart from Jinja2
in what it has no notion of, so that only agreement says something.
"""
import argparse
import datetime
import json
import resource
import signal
import sys

import transformers.utils.chat_template_utils as utils

MEMORY, SECONDS = 2 << 30, 2  # of one case, at most: the process ends where it computes longer
EPOCH = "2026-11-30 00:00:00"


class Clock(datetime.datetime):
    """A datetime whose now() is what the input says."""

    moment = None

    @classmethod
    def now(cls, tz=None):
        return cls.moment


def set_time(text):
    Clock.moment = datetime.datetime.strptime(text, "%Y-%m-%d %H:%M:%S")


def render_jinja2(case):
    template = utils._compile_jinja_template(case["template"])
    return template.render(**case.get("variables", {}), **case.get("constants", {}))


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise RuntimeError(message)


def render_minijinja(case):
    import minijinja

    env = minijinja.Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        filters={"tojson": tojson},
        globals={"raise_exception": raise_exception, "strftime_now": lambda f: Clock.moment.strftime(f)},
    )
    return env.render_str(case["template"], **case.get("variables", {}), **case.get("constants", {}))


def answer(case, render):
    set_time(case.get("now", EPOCH))
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        text = render(case)
        text.encode()  # what has no UTF-8 has no answer
        return {"text": text}
    except (MemoryError, RecursionError) as error:
        return {"error": f"limit: {type(error).__name__}"}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minijinja", action="store_true")
    args = parser.parse_args()
    utils.datetime = Clock
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for line in sys.stdin:
        result = answer(json.loads(line), render_minijinja if args.minijinja else render_jinja2)
        print(json.dumps(result, ensure_ascii=True), flush=True)


if __name__ == "__main__":
    main()
