/* SPDX-License-Identifier: MIT */
/* tool_templates.h: small chat templates that write calls as those of published models do. */
#ifndef TESTS_TOOL_TEMPLATES_H
#define TESTS_TOOL_TEMPLATES_H

/* Messages without calls, by turns of Llama 3; a template goes on with those that have some. */
#define TURNS(tools, text, calls, results)                                                         \
    "{{ bos_token }}" tools "{% for m in messages %}{% set h = '<|start_header_id|>' ~ "           \
    "m.role ~ '<|end_header_id|>\n\n' %}{% if m.tool_calls %}{{ h }}" calls                        \
    "{% elif m.role == 'tool' %}" results "<|eot_id|>{% elif m.role == 'assistant' %}{{ h }}" text \
    "{{ m.content }}<|eot_id|>{% else %}{{ h ~ m.content }}<|eot_id|>{% endif %}"                  \
    "{% endfor %}{% if add_generation_prompt %}"                                                   \
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
#define TOOLS   "{% if tools %}{{ tools | tojson }}\n{% endif %}"
#define IPYTHON "<|start_header_id|>ipython<|end_header_id|>\n\n{{ m.content }}"
#define CALLS   "{% for c in m.tool_calls %}{% set f = c.function %}"

/* Llama 3.1 and later: {"name": "f", "parameters": {...}}, one alone; built-in tools by Python. */
#define JSON_TEMPLATE                                                                            \
    TURNS(TOOLS "{% if builtin_tools is defined %}Tools: {{ builtin_tools | join(', ') }}\n"     \
                "{% endif %}",                                                                   \
          "",                                                                                    \
          "{% if m.tool_calls | length != 1 %}{{ raise_exception('one at a time') }}{% endif %}" \
          "{% set f = m.tool_calls[0].function %}"                                               \
          "{% if builtin_tools is defined and f.name in builtin_tools %}"                        \
          "<|python_tag|>{{ f.name }}.call({% for k, v in f.arguments | items %}"                \
          "{{ k ~ '=\"' ~ v ~ '\"' }}{% endfor %})<|eom_id|>{% else %}"                          \
          "{\"name\": \"{{ f.name }}\", \"parameters\": {{ f.arguments | tojson }}}<|eot_id|>"   \
          "{% endif %}",                                                                         \
          IPYTHON)                                                                               \
    "{% endif %}"

/* Llama 3.2 by a list of Python: [f(a=1), g()]. */
#define PYTHONIC_TEMPLATE                                                      \
    TURNS(TOOLS, "",                                                           \
          "[" CALLS "{{ f.name }}({% for k in f.arguments %}{{ k ~ '=' ~ "     \
          "f.arguments[k] | tojson }}{{ ', ' if not loop.last }}{% endfor %})" \
          "{{ ', ' if not loop.last }}{% endfor %}]<|eot_id|>",                \
          IPYTHON)                                                             \
    "{% endif %}"

/* Hermes: <tool_call> around JSON. */
#define HERMES_TEMPLATE                                                               \
    TURNS("<tools>" TOOLS "</tools>", "",                                             \
          CALLS "{{ '\n' }}<tool_call>\n{\"name\": \"{{ f.name }}\", \"arguments\": " \
                "{{ f.arguments | tojson }}}\n</tool_call>{% endfor %}<|eot_id|>",    \
          "<tool_response>\n{{ m.content }}\n</tool_response>")                       \
    "{% endif %}"

/* functionary 3.1: the name in a tag, and text beside calls. */
#define TAGS_TEMPLATE                                                                 \
    TURNS(TOOLS, "",                                                                  \
          "{{ m.content }}" CALLS "<function={{ f.name }}>{{ f.arguments | tojson }}" \
          "</function>{% endfor %}<|eom_id|>",                                        \
          IPYTHON)                                                                    \
    "{% endif %}"

/* functionary 3.2: the one to whom text or arguments go, whom the answer's header asks for. */
#define RECIPIENT_TEMPLATE                                              \
    TURNS(TOOLS, ">>>all\n",                                            \
          "{% if m.content %}>>>all\n{{ m.content }}{% endif %}" CALLS  \
          ">>>{{ f.name ~ '\n' + f.arguments }}{% endfor %}<|eot_id|>", \
          "{{ h ~ m.content }}")                                        \
    ">>>{% endif %}"

/* firefunction: a list behind a word; tools as text. */
#define FUNCTOOLS_TEMPLATE                                                                  \
    TURNS("{{ 'Functions: ' + functions + '\nToday is ' + datetime }}", "",                 \
          "{{ m.content }} functools[" CALLS "{\"name\": \"{{ f.name }}\", \"arguments\": " \
          "{{ f.arguments | tojson }}}{{ ', ' if not loop.last }}{% endfor %}]<|eot_id|>",  \
          "{{ h ~ m.content }}")                                                            \
    "{% endif %}"

/* DeepSeek R1's distillates: no tools, and calls of messages without content alone. */
#define BEGIN_CALL                  \
    "<\xef\xbd\x9ctool\xe2\x96\x81" \
    "call\xe2\x96\x81"              \
    "begin\xef\xbd\x9c>"
#define END_CALL                    \
    "<\xef\xbd\x9ctool\xe2\x96\x81" \
    "call\xe2\x96\x81"              \
    "end\xef\xbd\x9c>"
#define SEPARATOR "<\xef\xbd\x9ctool\xe2\x96\x81sep\xef\xbd\x9c>"
#define BEGIN_CALLS                 \
    "<\xef\xbd\x9ctool\xe2\x96\x81" \
    "calls\xe2\x96\x81"             \
    "begin\xef\xbd\x9c>"
#define END_CALLS                   \
    "<\xef\xbd\x9ctool\xe2\x96\x81" \
    "calls\xe2\x96\x81"             \
    "end\xef\xbd\x9c>"
#define R1_TEMPLATE                                                                            \
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' and m.content is none " \
    "%}<A>" BEGIN_CALLS "{% for c in m.tool_calls %}{{ '\n' if not loop.first }}" BEGIN_CALL   \
    "{{ c.type }}" SEPARATOR                                                                   \
    "{{ c.function.name + '\n```json\n' + c.function.arguments + '\n```' }}" END_CALL          \
    "{% endfor %}" END_CALLS "<|end_of_text|>{% elif m.role == 'assistant' %}<A>{{ m.content " \
    "}}<|end_of_text|>{% elif m.role == 'tool' %}<O>{{ m.content }}</O>{% else %}<U>{{ "       \
    "m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<A><think>\n{% endif %}"

/* Without tools. */
#define PLAIN_TEMPLATE                                                           \
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<|eot_id|>{% endfor %}" \
    "{% if add_generation_prompt %}<assistant>{% endif %}"

#endif
