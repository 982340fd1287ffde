/* SPDX-License-Identifier: MIT */
/* jinja_tests.c: the tests of jinja2: what follows `is`. */
#include "text/jinja_builtins.h"

static void bind_nothing(struct jinja_run *run, const char *what, const struct jinja_args *args)
{
    jinja_bind_none(run, what, args);
}

/* ---- of numbers ---------------------------------------------------------------------------- */

/* Python's: a string is formatted. */
static bool has_remainder(struct jinja_run *run, struct jinja_value value, struct jinja_value by,
                          int64_t remainder)
{
    return jinja_equal(run, jinja_arithmetic(run, '%', value, by), jinja_int(remainder));
}

static struct jinja_value test_odd(struct jinja_run *run, struct jinja_value self,
                                   const struct jinja_args *args)
{
    bind_nothing(run, "odd", args);
    return jinja_bool(has_remainder(run, self, jinja_int(2), 1));
}

static struct jinja_value test_even(struct jinja_run *run, struct jinja_value self,
                                    const struct jinja_args *args)
{
    bind_nothing(run, "even", args);
    return jinja_bool(has_remainder(run, self, jinja_int(2), 0));
}

static struct jinja_value test_divisibleby(struct jinja_run *run, struct jinja_value self,
                                           const struct jinja_args *args)
{
    struct jinja_value num;

    jinja_bind(run, "divisibleby", "num", args, &num);
    return jinja_bool(has_remainder(run, self, num, 0));
}

/* ---- of types ------------------------------------------------------------------------------ */

static bool is_boolean(struct jinja_value value, bool which)
{
    return value.type == JINJA_BOOL && value.boolean == which;
}

/* len() and [] both work. */
static bool is_sequence(struct jinja_value value)
{
    if (value.type == JINJA_LIST)
        return value.list->kind == JINJA_PLAIN || value.list->kind == JINJA_TUPLE ||
               value.list->kind == JINJA_RANGE;
    return value.type == JINJA_STRING || value.type == JINJA_DICT || value.type == JINJA_UNDEFINED;
}

/* An undefined value has the method that makes things callable, which fails. */
static bool is_callable(struct jinja_value value)
{
    return value.type == JINJA_FUNCTION || value.type == JINJA_UNDEFINED ||
           value.type == JINJA_LOOP;
}

#define TYPE_TEST(name, condition)                                                        \
    static struct jinja_value test_##name(struct jinja_run *run, struct jinja_value self, \
                                          const struct jinja_args *args)                  \
    {                                                                                     \
        bind_nothing(run, #name, args);                                                   \
        return jinja_bool(condition);                                                     \
    }

TYPE_TEST(boolean, self.type == JINJA_BOOL)
TYPE_TEST(callable, is_callable(self))
TYPE_TEST(defined, self.type != JINJA_UNDEFINED)
TYPE_TEST(escaped, self.type == JINJA_STRING && self.string->markup)
TYPE_TEST(false, is_boolean(self, false))
TYPE_TEST(float, self.type == JINJA_FLOAT)
TYPE_TEST(integer, self.type == JINJA_INT)
TYPE_TEST(iterable, jinja_is_iterable(self))
TYPE_TEST(lower, jinja_is_lowered(run, jinja_soft_str(run, self)))
TYPE_TEST(mapping, self.type == JINJA_DICT)
TYPE_TEST(none, self.type == JINJA_NONE)
TYPE_TEST(number, jinja_is_number(self))
TYPE_TEST(sequence, is_sequence(self))
TYPE_TEST(string, self.type == JINJA_STRING)
TYPE_TEST(true, is_boolean(self, true))
TYPE_TEST(undefined, self.type == JINJA_UNDEFINED)
TYPE_TEST(upper, jinja_is_raised(run, jinja_soft_str(run, self)))

/* ---- of names ------------------------------------------------------------------------------ */

static bool is_name(struct jinja_run *run, const char *what, struct jinja_value value,
                    jinja_builtin *(*find)(const struct jinja_string *name))
{
    if (!jinja_is_hashable(run, value))
        jinja_fail(run, "%s: expected a name, found %s", what, jinja_type_name(value));
    return value.type == JINJA_STRING && find(value.string);
}

TYPE_TEST(filter, is_name(run, "filter", self, jinja_filter))
TYPE_TEST(test, is_name(run, "test", self, jinja_test))

/* ---- of two values ------------------------------------------------------------------------- */

/* Python's `is`. Numbers count as one object if they are equal, strings only if Python has one
 * object for all that are: those of one character of Latin-1, and the empty one. */
static bool is_same(struct jinja_run *run, struct jinja_value a, struct jinja_value b)
{
    if (a.type != b.type)
        return false;
    switch (a.type) {
    case JINJA_LIST:
        return a.list == b.list;
    case JINJA_DICT:
    case JINJA_NAMESPACE:
        return a.dict == b.dict;
    case JINJA_FUNCTION:
        return a.function == b.function;
    case JINJA_LOOP:
        return a.loop == b.loop;
    case JINJA_STRING:
        if (a.string->markup || b.string->markup || a.string->n > 1 ||
            (a.string->n == 1 && jinja_scalar(a.string->chars[0]) > 0xff))
            return a.string == b.string;
        return jinja_same(a.string, b.string);
    case JINJA_UNDEFINED: /* another one each time that it is looked up */
        return false;
    default:
        return jinja_equal(run, a, b);
    }
}

static struct jinja_value test_sameas(struct jinja_run *run, struct jinja_value self,
                                      const struct jinja_args *args)
{
    struct jinja_value other;

    jinja_bind(run, "sameas", "other", args, &other);
    return jinja_bool(is_same(run, self, other));
}

static struct jinja_value test_in(struct jinja_run *run, struct jinja_value self,
                                  const struct jinja_args *args)
{
    struct jinja_value seq;

    jinja_bind(run, "in", "seq", args, &seq);
    return jinja_bool(jinja_contains(run, seq, self));
}

#define ORDER_TEST(name, op, condition)                                                   \
    static struct jinja_value test_##name(struct jinja_run *run, struct jinja_value self, \
                                          const struct jinja_args *args)                  \
    {                                                                                     \
        struct jinja_value other;                                                         \
                                                                                          \
        jinja_bind_places(run, op, "other", args, &other);                                \
        return jinja_bool(condition);                                                     \
    }

ORDER_TEST(eq, "==", jinja_equal(run, self, other))
ORDER_TEST(ne, "!=", !jinja_equal(run, self, other))
ORDER_TEST(lt, "<", jinja_order(run, self, other, "<") < 0)
ORDER_TEST(le, "<=", jinja_order(run, self, other, "<=") <= 0)
ORDER_TEST(gt, ">", jinja_order(run, self, other, ">") > 0)
ORDER_TEST(ge, ">=", jinja_order(run, self, other, ">=") >= 0)

static const struct jinja_entry tests[] = {
    {"!=", test_ne},
    {"<", test_lt},
    {"<=", test_le},
    {"==", test_eq},
    {">", test_gt},
    {">=", test_ge},
    {"boolean", test_boolean},
    {"callable", test_callable},
    {"defined", test_defined},
    {"divisibleby", test_divisibleby},
    {"eq", test_eq},
    {"equalto", test_eq},
    {"escaped", test_escaped},
    {"even", test_even},
    {"false", test_false},
    {"filter", test_filter},
    {"float", test_float},
    {"ge", test_ge},
    {"greaterthan", test_gt},
    {"gt", test_gt},
    {"in", test_in},
    {"integer", test_integer},
    {"iterable", test_iterable},
    {"le", test_le},
    {"lessthan", test_lt},
    {"lower", test_lower},
    {"lt", test_lt},
    {"mapping", test_mapping},
    {"ne", test_ne},
    {"none", test_none},
    {"number", test_number},
    {"odd", test_odd},
    {"sameas", test_sameas},
    {"sequence", test_sequence},
    {"string", test_string},
    {"test", test_test},
    {"true", test_true},
    {"undefined", test_undefined},
    {"upper", test_upper},
};

jinja_builtin *jinja_test(const struct jinja_string *name)
{
    const struct jinja_entry *entry = jinja_entry(tests, sizeof tests / sizeof *tests, 0, name);

    return entry ? entry->builtin : NULL;
}
