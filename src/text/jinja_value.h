/* SPDX-License-Identifier: MIT */
/*
 * jinja_value.h: values of a template that runs, which are Python's, and what works on them. They
 * lie in one arena, which ends with the rendering. A failure is a jump to where the rendering
 * began (as in Lua): nothing here holds anything but that memory.
 *
 * A string is an array of characters, so that it is indexed and cut as Python's; each character
 * carries JINJA_GIVEN with it wherever it is copied, and no function has to think of that.
 * Characters that a function makes up (a number's digits, the quotes of tojson) are given ones.
 */
#ifndef TEXT_JINJA_VALUE_H
#define TEXT_JINJA_VALUE_H

#include <setjmp.h>

#include "base/hash.h"
#include "text/jinja.h"

struct jinja_run;
struct jinja_list;
struct jinja_dict;
struct jinja_loop;

enum jinja_type {
    JINJA_ABSENT, /* an argument that was not passed; no expression has this value */
    JINJA_UNDEFINED,
    JINJA_NONE,
    JINJA_BOOL,
    JINJA_INT,
    JINJA_FLOAT,
    JINJA_STRING,
    JINJA_LIST,
    JINJA_DICT,
    JINJA_NAMESPACE,
    JINJA_FUNCTION,
    JINJA_LOOP
};

struct jinja_string {
    const uint32_t *chars; /* [n] with JINJA_GIVEN */
    size_t n;
    bool markup; /* Markup, which `safe` and `escape` make: what is added to it is escaped */
};

struct jinja_value {
    enum jinja_type type;
    enum jinja_type of; /* of an undefined value: of what `missing` is no attribute or item; or 0 */
    union {
        bool boolean;
        int64_t integer;
        double real;
        const struct jinja_string *string;
        struct jinja_list *list;
        struct jinja_dict *dict; /* of a namespace as well */
        const struct jinja_function *function;
        struct jinja_loop *loop;
        const struct jinja_string *missing; /* of an undefined value: what was not there, or NULL */
    };
};

/* Python's sequences and what it iterates over. */
enum jinja_list_kind {
    JINJA_PLAIN, /* list */
    JINJA_TUPLE,
    JINJA_RANGE, /* its numbers are there; start, stop and step follow: made by jinja_range() */
    JINJA_KEYS,  /* views of a dict */
    JINJA_VALUES,
    JINJA_ITEMS,
    JINJA_ITERATOR /* a generator: items[next..n) are still to come, and are used up */
};

struct jinja_list {
    enum jinja_list_kind kind;
    bool group; /* a tuple of groupby: item 0 is .grouper as well, item 1 .list */
    size_t n, capacity, next;
    struct jinja_value *items; /* [capacity] */
};

struct jinja_args {
    const struct jinja_value *items; /* [n] */
    size_t n;
    const struct jinja_named {
        const struct jinja_string *name;
        struct jinja_value value;
    } * named; /* [n_named] */
    size_t n_named;
};

/* self: what a filter or a test is applied to, or whose method it is. */
typedef struct jinja_value jinja_builtin(struct jinja_run *run, struct jinja_value self,
                                         const struct jinja_args *args);

struct jinja_function {
    const char *name;
    jinja_builtin *builtin;    /* NULL: a macro, */
    struct jinja_value self;   /* of a method */
    const struct macro *macro; /* and the scope that it was made in (jinja_run.c) */
    struct scope *scope;
};

/* ---- failing, and the limits -------------------------------------------------------------- */

/* Ends the rendering. */
void jinja_fail(struct jinja_run *run, const char *format, ...)
    __attribute__((noreturn, format(printf, 2, 3)));

/* A string for an error: in quotes, in ASCII, and not all of a long one. In the arena. */
char *jinja_quoted(struct jinja_run *run, const struct jinja_string *string);

/* Ends it for an undefined value, where `what` was expected. */
_Noreturn void jinja_fail_undefined(struct jinja_run *run, const char *what,
                                    struct jinja_value value);

/* Counts work: n steps, each worth a few dozen instructions. Fails once there were too many. Loops
 * over characters or items call it with their number before they run. */
void jinja_work(struct jinja_run *run, size_t n);

/* Memory of the arena, zeroed, for n things of a size; fails where it is too much. */
void *jinja_alloc(struct jinja_run *run, size_t n, size_t size);

/* The same bytes in memory of another size, which may have moved: old was of jinja_alloc(), and
 * nothing else points to it. What is new is not zeroed. */
void *jinja_resize(struct jinja_run *run, void *old, size_t old_bytes, size_t bytes);

/* Enter and leave what may be nested without end. */
void jinja_deeper(struct jinja_run *run);
void jinja_higher(struct jinja_run *run);

/* The secret of this run's dicts (jinja_run.c). */
const struct hash_key *jinja_secret(struct jinja_run *run);

/* ---- making values ------------------------------------------------------------------------ */

struct jinja_value jinja_none(void);
struct jinja_value jinja_undefined(const struct jinja_string *missing); /* kept; or NULL */
struct jinja_value jinja_bool(bool value);
struct jinja_value jinja_int(int64_t value);
struct jinja_value jinja_float(double value);
struct jinja_value jinja_string(struct jinja_run *run, const uint32_t *chars, size_t n); /* kept */
struct jinja_value jinja_ascii(struct jinja_run *run, const char *text);                 /* given */
struct jinja_value jinja_format(struct jinja_run *run, const char *format, ...)
    __attribute__((format(printf, 2, 3))); /* given, ASCII, up to 399 characters */
struct jinja_value jinja_list(struct jinja_run *run, enum jinja_list_kind kind, size_t capacity);
void jinja_append(struct jinja_run *run, struct jinja_list *list, struct jinja_value item);
struct jinja_value jinja_tuple2(struct jinja_run *run, struct jinja_value a, struct jinja_value b);
/* Python's range of the sandbox: fails for step 0, and for more than 100,000 numbers. */
struct jinja_value jinja_range(struct jinja_run *run, int64_t start, int64_t stop, int64_t step);
/* The string as Markup; nothing is escaped. */
struct jinja_value jinja_markup(struct jinja_run *run, const struct jinja_string *string);
struct jinja_value jinja_function(struct jinja_run *run, const char *name, jinja_builtin *builtin,
                                  struct jinja_value self);
struct jinja_value jinja_from_json(struct jinja_run *run, const json_t *json); /* given */

/* A string that grows. */
struct jinja_builder {
    struct jinja_run *run;
    uint32_t *chars;
    size_t n, capacity;
};
/* Goes on with a string that jinja_built() made and nothing else uses. */
struct jinja_builder jinja_reopen(struct jinja_run *run, const struct jinja_string *string);
void jinja_put(struct jinja_builder *b, uint32_t c);
void jinja_put_chars(struct jinja_builder *b, const uint32_t *chars, size_t n);
void jinja_put_ascii(struct jinja_builder *b, const char *text);         /* given */
void jinja_put_value(struct jinja_builder *b, struct jinja_value value); /* as str() */
void jinja_put_repr(struct jinja_builder *b, struct jinja_value value);  /* as repr() */
/* With & < > " ' as entities, whatever the string is. */
void jinja_put_escaped(struct jinja_builder *b, const struct jinja_string *string);
struct jinja_value jinja_built(struct jinja_builder *b); /* and nothing is put any more */

/* ---- dicts: in the order of their keys' arrival ------------------------------------------- */

struct jinja_item {
    struct jinja_value key, value;
    uint64_t hash;
};

struct jinja_dict {
    struct jinja_item *items; /* [n] */
    size_t n, capacity;
    uint32_t *table; /* [table_size] of indexes + 1; NULL while there are few */
    size_t table_size;
};

struct jinja_value jinja_dict(struct jinja_run *run);
/* Fails for a key that Python can't hash. */
void jinja_dict_set(struct jinja_run *run, struct jinja_dict *dict, struct jinja_value key,
                    struct jinja_value value);
/* NULL if the key is not there. Fails for a key that Python can't hash. */
const struct jinja_value *jinja_dict_get(struct jinja_run *run, const struct jinja_dict *dict,
                                         struct jinja_value key);
const struct jinja_value *jinja_dict_name(struct jinja_run *run, const struct jinja_dict *dict,
                                          const char *name);

/* ---- what Python does with values ---------------------------------------------------------- */

bool jinja_is_hashable(struct jinja_run *run, struct jinja_value value);
bool jinja_truth(struct jinja_run *run, struct jinja_value value);
bool jinja_equal(struct jinja_run *run, struct jinja_value a, struct jinja_value b);
/* <0, 0, >0 as Python orders them; fails where it doesn't. op: "<", "<=", ">" or ">=", for the
 * error, and because the order of NaN is one for which op is false. */
int jinja_order(struct jinja_run *run, struct jinja_value a, struct jinja_value b, const char *op);
bool jinja_contains(struct jinja_run *run, struct jinja_value container, struct jinja_value item);
size_t jinja_length(struct jinja_run *run, struct jinja_value value); /* len() */

/* What a loop goes over: the items of a list, the keys of a dict, the characters of a string, none
 * of an undefined value; what is left of an iterator, which has none afterwards. Fails for what
 * can't be iterated. The array must not be changed. */
struct jinja_span {
    const struct jinja_value *items;
    size_t n;
};
struct jinja_span jinja_iterate(struct jinja_run *run, struct jinja_value value);
bool jinja_is_iterable(struct jinja_value value);

bool jinja_is_number(struct jinja_value value);        /* bool included, as in Python */
double jinja_real(struct jinja_value value);           /* of a number */
const char *jinja_type_name(struct jinja_value value); /* Python's: "str" */

bool jinja_is(const struct jinja_string *string, const char *ascii);
bool jinja_same(const struct jinja_string *a, const struct jinja_string *b);
/* The first place of `part` in whole[from..n), or SIZE_MAX. */
size_t jinja_find(struct jinja_run *run, const struct jinja_string *whole,
                  const struct jinja_string *part, size_t from);

struct jinja_value jinja_str(struct jinja_run *run, struct jinja_value value);  /* str() */
struct jinja_value jinja_repr(struct jinja_run *run, struct jinja_value value); /* repr() */
/* repr(float): the shortest text that reads back as the same. */
void jinja_float_text(double value, char text[40]);

/* obj.name and obj[key], as Jinja looks them up: an undefined value where there is none. */
struct jinja_value jinja_attribute(struct jinja_run *run, struct jinja_value object,
                                   const struct jinja_string *name);
struct jinja_value jinja_subscript(struct jinja_run *run, struct jinja_value object,
                                   struct jinja_value key);
struct jinja_value jinja_slice(struct jinja_run *run, struct jinja_value object,
                               struct jinja_value from, struct jinja_value to,
                               struct jinja_value step);

/* + - * / // % ** of Python; op: '+', '-', '*', '/', 'f' for //, '%', 'p' for **. */
struct jinja_value jinja_arithmetic(struct jinja_run *run, char op, struct jinja_value a,
                                    struct jinja_value b);

/* a + b, where a was made by + of strings and nothing else uses it: it need not be copied. */
struct jinja_value jinja_extend(struct jinja_run *run, const struct jinja_string *a,
                                const struct jinja_string *b);

/* format % args of a string, or of Markup, whose arguments are escaped (jinja_percent.c). */
struct jinja_value jinja_percent(struct jinja_run *run, const struct jinja_string *format,
                                 struct jinja_value args);

/* loop.name (jinja_run.c); JINJA_ABSENT where there is none. "index" and "length" make repr(). */
struct jinja_value jinja_loop_attribute(struct jinja_run *run, struct jinja_loop *loop,
                                        const struct jinja_string *name);
/* The same of a macro. */
struct jinja_value jinja_macro_attribute(struct jinja_run *run,
                                         const struct jinja_function *function,
                                         const struct jinja_string *name);

/* ---- functions ----------------------------------------------------------------------------- */

struct jinja_value jinja_call(struct jinja_run *run, struct jinja_value function,
                              const struct jinja_args *args);

/* Sorts arguments into the parameters of a builtin: "old, new, count=": values[i] of each, or
 * JINJA_ABSENT for one that ends with '=' and was not passed. Fails where one is missing, unknown,
 * or too much. what: for errors. */
void jinja_bind(struct jinja_run *run, const char *what, const char *parameters,
                const struct jinja_args *args, struct jinja_value *values);
/* Fails where anything is passed to a builtin that takes nothing. */
void jinja_bind_none(struct jinja_run *run, const char *what, const struct jinja_args *args);
/* Of bound arguments; fails for another type. */
const struct jinja_string *jinja_want_string(struct jinja_run *run, const char *what,
                                             struct jinja_value value);
int64_t jinja_want_int(struct jinja_run *run, const char *what, struct jinja_value value);

/* By name; NULL if there is none. */
jinja_builtin *jinja_filter(const struct jinja_string *name); /* jinja_filters.c */
jinja_builtin *jinja_test(const struct jinja_string *name);   /* jinja_tests.c; gives a bool */
/* A method of a string, list or dict; NULL if there is none. *unsafe: there is one, which would
 * change the object, and which the sandbox forbids. */
jinja_builtin *jinja_method(struct jinja_value object, const struct jinja_string *name,
                            bool *unsafe);              /* jinja_methods.c */
const char *jinja_builtin_name(jinja_builtin *builtin); /* "str.upper", for repr() */

/* json.dumps() (jinja_json.c); indent NULL: on one line. */
void jinja_put_json(struct jinja_builder *b, struct jinja_value value, bool ensure_ascii,
                    const struct jinja_string *indent, const struct jinja_string *item_separator,
                    const struct jinja_string *key_separator, bool sort_keys);

/* ---- characters (jinja_chars.c), as Python's str has them ----------------------------------- */

static inline uint32_t jinja_scalar(uint32_t c)
{
    return c & ~(uint32_t)JINJA_GIVEN;
}

bool jinja_is_space(uint32_t scalar);     /* str.isspace() */
bool jinja_is_printable(uint32_t scalar); /* str.isprintable() */
bool jinja_is_alpha(uint32_t scalar);
bool jinja_is_digit(uint32_t scalar);
bool jinja_is_decimal(uint32_t scalar);
bool jinja_is_numeric(uint32_t scalar);
bool jinja_is_alnum(uint32_t scalar);
bool jinja_is_upper(uint32_t scalar);
bool jinja_is_lower(uint32_t scalar);
bool jinja_is_title(uint32_t scalar);   /* of the category Lt: not the upper ones */
int jinja_digit_value(uint32_t scalar); /* of a decimal, as int() reads it; else -1 */

/* str.upper() and so on. What becomes of a character is from where the character is. */
void jinja_put_upper(struct jinja_builder *b, const struct jinja_string *s);
void jinja_put_lower(struct jinja_builder *b, const struct jinja_string *s);
void jinja_put_title(struct jinja_builder *b, const struct jinja_string *s);
void jinja_put_capitalize(struct jinja_builder *b, const struct jinja_string *s);
void jinja_put_swapcase(struct jinja_builder *b, const struct jinja_string *s);
void jinja_put_casefold(struct jinja_builder *b, const struct jinja_string *s);

#endif
