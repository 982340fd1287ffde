/* SPDX-License-Identifier: MIT */
/* jinja_operators.c: what Python's operators do with a template's values. */
#include <math.h>
#include <string.h>

#include "text/jinja_value.h"

/* ---- numbers ------------------------------------------------------------------------------- */

bool jinja_is_number(struct jinja_value value)
{
    return value.type == JINJA_BOOL || value.type == JINJA_INT || value.type == JINJA_FLOAT;
}

static bool is_integer(struct jinja_value value)
{
    return value.type == JINJA_BOOL || value.type == JINJA_INT;
}

static int64_t integer_of(struct jinja_value value)
{
    return value.type == JINJA_BOOL ? value.boolean : value.integer;
}

double jinja_real(struct jinja_value value)
{
    return value.type == JINJA_FLOAT ? value.real : (double)integer_of(value);
}

static int sign(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

/* Exactly, where (double)a would be rounded. b is no NaN. */
static int order_int_real(int64_t a, double b)
{
    if (b >= 0x1p63)
        return -1;
    if (b < -0x1p63)
        return 1;
    double whole = trunc(b);
    int order = sign(a, (int64_t)whole);
    return order != 0 ? order : (whole > b) - (whole < b);
}

static bool is_nan(struct jinja_value value)
{
    return value.type == JINJA_FLOAT && isnan(value.real);
}

/* Neither is NaN. */
static int order_numbers(struct jinja_value a, struct jinja_value b)
{
    if (is_integer(a) && is_integer(b))
        return sign(integer_of(a), integer_of(b));
    if (is_integer(a))
        return order_int_real(integer_of(a), b.real);
    if (is_integer(b))
        return -order_int_real(integer_of(b), a.real);
    return (a.real > b.real) - (a.real < b.real);
}

/* ---- strings ------------------------------------------------------------------------------- */

bool jinja_is(const struct jinja_string *string, const char *ascii)
{
    size_t i = 0;
    for (; i < string->n && ascii[i] != '\0'; i++)
        if (jinja_scalar(string->chars[i]) != (unsigned char)ascii[i])
            return false;
    return i == string->n && ascii[i] == '\0';
}

/* How many characters at the begin are the same. */
static size_t same_chars(const uint32_t *a, const uint32_t *b, size_t n)
{
    size_t i = 0;
    while (i < n && jinja_scalar(a[i]) == jinja_scalar(b[i]))
        i++;
    return i;
}

bool jinja_same(const struct jinja_string *a, const struct jinja_string *b)
{
    return a->n == b->n && same_chars(a->chars, b->chars, a->n) == a->n;
}

size_t jinja_find(struct jinja_run *run, const struct jinja_string *whole,
                  const struct jinja_string *part, size_t from)
{
    if (from > whole->n || part->n > whole->n - from)
        return SIZE_MAX;
    if (part->n == 0)
        return from;
    for (size_t i = from; i <= whole->n - part->n; i++) {
        if (i % 64 == 0)
            jinja_work(run, 16);
        if (jinja_scalar(whole->chars[i]) != jinja_scalar(part->chars[0]))
            continue;
        size_t same = same_chars(whole->chars + i, part->chars, part->n);
        if (same == part->n)
            return i;
        jinja_work(run, same / 4);
    }
    return SIZE_MAX;
}

static int order_strings(struct jinja_run *run, const struct jinja_string *a,
                         const struct jinja_string *b)
{
    size_t n = a->n < b->n ? a->n : b->n;
    jinja_work(run, n / 4);
    size_t same = same_chars(a->chars, b->chars, n);
    if (same < n)
        return jinja_scalar(a->chars[same]) < jinja_scalar(b->chars[same]) ? -1 : 1;
    return (a->n > b->n) - (a->n < b->n);
}

/* ---- equality ------------------------------------------------------------------------------ */

static bool is_set(struct jinja_value value)
{
    return value.type == JINJA_LIST &&
           (value.list->kind == JINJA_KEYS || value.list->kind == JINJA_ITEMS);
}

static bool contains_all(struct jinja_run *run, struct jinja_value set, struct jinja_value items)
{
    for (size_t i = 0; i < items.list->n; i++)
        if (!jinja_contains(run, set, items.list->items[i]))
            return false;
    return true;
}

static bool equal_lists(struct jinja_run *run, const struct jinja_list *a,
                        const struct jinja_list *b)
{
    bool compared = a->kind == JINJA_PLAIN || a->kind == JINJA_TUPLE || a->kind == JINJA_RANGE;
    if (a == b)
        return true;
    if (a->kind != b->kind || a->n != b->n || !compared)
        return false;
    jinja_work(run, a->n);
    for (size_t i = 0; i < a->n; i++)
        if (!jinja_equal(run, a->items[i], b->items[i]))
            return false;
    return true;
}

static bool equal_dicts(struct jinja_run *run, const struct jinja_dict *a,
                        const struct jinja_dict *b)
{
    if (a == b)
        return true;
    if (a->n != b->n)
        return false;
    jinja_work(run, a->n);
    for (size_t i = 0; i < a->n; i++) {
        const struct jinja_value *other = jinja_dict_get(run, b, a->items[i].key);
        if (other == NULL || !jinja_equal(run, a->items[i].value, *other))
            return false;
    }
    return true;
}

static bool is_same_object(struct jinja_value a, struct jinja_value b)
{
    return a.type == b.type && (a.type == JINJA_STRING ? a.string == b.string
                                : a.type == JINJA_LIST ? a.list == b.list
                                                       : a.dict == b.dict);
}

/* A macro is itself alone; a method that was looked up twice is the same if the object is. */
static bool equal_functions(const struct jinja_function *a, const struct jinja_function *b)
{
    return a == b ||
           (a->builtin != NULL && a->builtin == b->builtin && is_same_object(a->self, b->self));
}

static bool equal_of_type(struct jinja_run *run, struct jinja_value a, struct jinja_value b)
{
    switch (a.type) {
    case JINJA_STRING:
        jinja_work(run, a.string->n == b.string->n ? a.string->n / 4 : 0);
        return jinja_same(a.string, b.string);
    case JINJA_LIST:
        if (is_set(a) && is_set(b))
            return a.list->n == b.list->n && contains_all(run, b, a);
        return equal_lists(run, a.list, b.list);
    case JINJA_DICT:
        return equal_dicts(run, a.dict, b.dict);
    case JINJA_NAMESPACE:
        return a.dict == b.dict;
    case JINJA_FUNCTION:
        return equal_functions(a.function, b.function);
    case JINJA_LOOP:
        return a.loop == b.loop;
    default: /* none, or undefined */
        return true;
    }
}

bool jinja_equal(struct jinja_run *run, struct jinja_value a, struct jinja_value b)
{
    if (jinja_is_number(a) && jinja_is_number(b))
        return !is_nan(a) && !is_nan(b) && order_numbers(a, b) == 0;
    if (a.type != b.type)
        return false;
    jinja_deeper(run);
    bool equal = equal_of_type(run, a, b);
    jinja_higher(run);
    return equal;
}

/* ---- order --------------------------------------------------------------------------------- */

/* An order for which op is not true. */
static int not_ordered(const char *op)
{
    return *op == '<' ? 1 : -1;
}

/* Less is to be a part, of another. */
static int order_sets(struct jinja_run *run, struct jinja_value a, struct jinja_value b,
                      const char *op)
{
    bool less = *op == '<';
    struct jinja_value part = less ? a : b, whole = less ? b : a;
    bool fits = op[1] == '=' ? part.list->n <= whole.list->n : part.list->n < whole.list->n;
    return (fits && contains_all(run, whole, part)) == less ? -1 : 1;
}

static int order_lists(struct jinja_run *run, const struct jinja_list *a,
                       const struct jinja_list *b, const char *op)
{
    size_t n = a->n < b->n ? a->n : b->n, i = 0;
    int order = (a->n > b->n) - (a->n < b->n);
    jinja_deeper(run);
    jinja_work(run, n);
    while (i < n && jinja_equal(run, a->items[i], b->items[i]))
        i++;
    if (i < n)
        order = jinja_order(run, a->items[i], b->items[i], op);
    jinja_higher(run);
    return order;
}

int jinja_order(struct jinja_run *run, struct jinja_value a, struct jinja_value b, const char *op)
{
    if (jinja_is_number(a) && jinja_is_number(b))
        return is_nan(a) || is_nan(b) ? not_ordered(op) : order_numbers(a, b);
    if (a.type == JINJA_UNDEFINED || b.type == JINJA_UNDEFINED)
        jinja_fail_undefined(run, "a value", a.type == JINJA_UNDEFINED ? a : b);
    if (a.type == JINJA_STRING && b.type == JINJA_STRING)
        return order_strings(run, a.string, b.string);
    if (is_set(a) && is_set(b))
        return order_sets(run, a, b, op);
    if (a.type == JINJA_LIST && b.type == JINJA_LIST && a.list->kind == b.list->kind &&
        (a.list->kind == JINJA_PLAIN || a.list->kind == JINJA_TUPLE))
        return order_lists(run, a.list, b.list, op);
    jinja_fail(run, "expected values that %s compares, found %s and %s", op, jinja_type_name(a),
               jinja_type_name(b));
}

/* ---- containers ---------------------------------------------------------------------------- */

bool jinja_truth(struct jinja_run *run, struct jinja_value value)
{
    (void)run;
    switch (value.type) {
    case JINJA_ABSENT:
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        return false;
    case JINJA_BOOL:
        return value.boolean;
    case JINJA_INT:
        return value.integer != 0;
    case JINJA_FLOAT:
        return fpclassify(value.real) != FP_ZERO;
    case JINJA_STRING:
        return value.string->n > 0;
    case JINJA_LIST:
        return value.list->n > 0 || value.list->kind == JINJA_ITERATOR;
    case JINJA_DICT:
        return value.dict->n > 0;
    default:
        return true;
    }
}

static struct jinja_value loop_length(struct jinja_run *run, struct jinja_loop *loop)
{
    return jinja_loop_attribute(run, loop, jinja_ascii(run, "length").string);
}

size_t jinja_length(struct jinja_run *run, struct jinja_value value)
{
    if (value.type == JINJA_UNDEFINED)
        return 0;
    if (value.type == JINJA_STRING)
        return value.string->n;
    if (value.type == JINJA_LIST && value.list->kind != JINJA_ITERATOR)
        return value.list->n;
    if (value.type == JINJA_DICT)
        return value.dict->n;
    if (value.type == JINJA_LOOP)
        return (size_t)loop_length(run, value.loop).integer;
    jinja_fail(run, "expected a value that has a length, found one of type %s",
               jinja_type_name(value));
}

bool jinja_is_iterable(struct jinja_value value)
{
    return value.type == JINJA_UNDEFINED || value.type == JINJA_STRING ||
           value.type == JINJA_LIST || value.type == JINJA_DICT || value.type == JINJA_LOOP;
}

static struct jinja_span each_char(struct jinja_run *run, const struct jinja_string *string)
{
    struct jinja_value *items = jinja_alloc(run, string->n, sizeof *items), known[2][128] = {0};
    jinja_work(run, string->n);
    for (size_t i = 0; i < string->n; i++) {
        uint32_t c = string->chars[i], scalar = jinja_scalar(c);
        struct jinja_value *same = scalar < 128 ? &known[c != scalar][scalar] : &items[i];
        if (same->type != JINJA_STRING)
            *same = jinja_string(run, &string->chars[i], 1);
        items[i] = *same;
    }
    return (struct jinja_span){.items = items, .n = string->n};
}

static struct jinja_span each_key(struct jinja_run *run, const struct jinja_dict *dict)
{
    struct jinja_value *items = jinja_alloc(run, dict->n, sizeof *items);
    jinja_work(run, dict->n);
    for (size_t i = 0; i < dict->n; i++)
        items[i] = dict->items[i].key;
    return (struct jinja_span){.items = items, .n = dict->n};
}

struct jinja_span jinja_iterate(struct jinja_run *run, struct jinja_value value)
{
    struct jinja_span span = {0};
    switch (value.type) {
    case JINJA_UNDEFINED:
        return span;
    case JINJA_STRING:
        return each_char(run, value.string);
    case JINJA_DICT:
        return each_key(run, value.dict);
    case JINJA_LIST:
        span = (struct jinja_span){.items = value.list->items, .n = value.list->n};
        if (value.list->kind == JINJA_ITERATOR) {
            span.items = span.n > 0 ? span.items + value.list->next : NULL;
            span.n -= value.list->next;
            value.list->next = value.list->n;
        }
        return span;
    default:
        jinja_fail(run, "expected a value to iterate over, found one of type %s",
                   jinja_type_name(value));
    }
}

/* What `in` finds in an iterator is used up, with what was before it. */
static bool list_contains(struct jinja_run *run, struct jinja_list *list, struct jinja_value item)
{
    size_t i = list->kind == JINJA_ITERATOR ? list->next : 0;
    if (list->kind == JINJA_KEYS && !jinja_is_hashable(run, item))
        jinja_fail(run, "expected a key that can be hashed, found a value of type %s",
                   jinja_type_name(item));
    jinja_work(run, list->n - i);
    while (i < list->n && !jinja_equal(run, list->items[i], item))
        i++;
    bool found = i < list->n;
    if (list->kind == JINJA_ITERATOR)
        list->next = found ? i + 1 : i;
    return found;
}

bool jinja_contains(struct jinja_run *run, struct jinja_value container, struct jinja_value item)
{
    if (container.type == JINJA_UNDEFINED)
        return false;
    if (container.type == JINJA_DICT)
        return jinja_dict_get(run, container.dict, item) != NULL;
    if (container.type == JINJA_LIST)
        return list_contains(run, container.list, item);
    if (container.type != JINJA_STRING)
        jinja_fail(run, "expected a container on the right of in, found a value of type %s",
                   jinja_type_name(container));
    if (item.type != JINJA_STRING)
        jinja_fail(run, "expected a str to look for in another, found a value of type %s",
                   jinja_type_name(item));
    return jinja_find(run, container.string, item.string, 0) != SIZE_MAX;
}

/* ---- attributes and items ------------------------------------------------------------------ */

/* What is not there: "role" of a dict. */
static struct jinja_value missing(struct jinja_run *run, struct jinja_value object,
                                  struct jinja_value name)
{
    if (name.type != JINJA_STRING)
        name = jinja_repr(run, name);
    return (struct jinja_value){.type = JINJA_UNDEFINED, .of = object.type, .missing = name.string};
}

static struct jinja_value absent(void)
{
    return (struct jinja_value){.type = JINJA_ABSENT};
}

/* Whether Python's objects have an attribute of this name, which the sandbox hides: it is not
 * looked for among the items of a dict. */
static bool is_of_python(const struct jinja_string *name)
{
    static const char *const names[] = {"__class__",
                                        "__delattr__",
                                        "__dir__",
                                        "__doc__",
                                        "__eq__",
                                        "__format__",
                                        "__ge__",
                                        "__getattribute__",
                                        "__getitem__",
                                        "__getstate__",
                                        "__gt__",
                                        "__hash__",
                                        "__init__",
                                        "__le__",
                                        "__len__",
                                        "__lt__",
                                        "__init_subclass__",
                                        "__iter__",
                                        "__ne__",
                                        "__new__",
                                        "__reduce__",
                                        "__reduce_ex__",
                                        "__repr__",
                                        "__setattr__",
                                        "__sizeof__",
                                        "__str__",
                                        "__subclasshook__"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (jinja_is(name, names[i]))
            return true;
    return false;
}

static struct jinja_value number_attribute(struct jinja_value number,
                                           const struct jinja_string *name)
{
    bool integer = is_integer(number);
    struct jinja_value zero = integer ? jinja_int(0) : jinja_float(0);
    struct jinja_value same = integer ? jinja_int(integer_of(number)) : number;
    if (jinja_is(name, "real") || (integer && jinja_is(name, "numerator")))
        return same;
    if (jinja_is(name, "imag"))
        return zero;
    return integer && jinja_is(name, "denominator") ? jinja_int(1) : absent();
}

static struct jinja_value range_attribute(const struct jinja_list *range,
                                          const struct jinja_string *name)
{
    static const char *const names[] = {"start", "stop", "step"};
    for (size_t i = 0; i < 3; i++)
        if (jinja_is(name, names[i]))
            return range->items[range->n + i];
    return absent();
}

/* What is not a method. */
static struct jinja_value data_attribute(struct jinja_run *run, struct jinja_value object,
                                         const struct jinja_string *name)
{
    const struct jinja_value *value = NULL;
    struct jinja_value key = {.type = JINJA_STRING, .string = name};
    if (jinja_is_number(object))
        return number_attribute(object, name);
    if (object.type == JINJA_LIST && object.list->kind == JINJA_RANGE)
        return range_attribute(object.list, name);
    if (object.type == JINJA_LIST && object.list->group && jinja_is(name, "grouper"))
        return object.list->items[0];
    if (object.type == JINJA_LIST && object.list->group && jinja_is(name, "list"))
        return object.list->items[1];
    if (object.type == JINJA_LOOP)
        return jinja_loop_attribute(run, object.loop, name);
    if (object.type == JINJA_FUNCTION && object.function->builtin == NULL)
        return jinja_macro_attribute(run, object.function, name);
    if (object.type == JINJA_NAMESPACE)
        value = jinja_dict_get(run, object.dict, key);
    return value != NULL ? *value : absent();
}

/* Python's getattr() in the sandbox: absent where there is none, undefined where it is forbidden,
 * which every name with an underscore is. */
static struct jinja_value get_attribute(struct jinja_run *run, struct jinja_value object,
                                        const struct jinja_string *name)
{
    bool unsafe = false;
    struct jinja_value key = {.type = JINJA_STRING, .string = name};
    if (name->n > 0 && jinja_scalar(name->chars[0]) == '_') {
        if (is_of_python(name))
            return missing(run, object, key);
        if (object.type == JINJA_UNDEFINED)
            jinja_fail_undefined(run, "a value", object);
        return object.type == JINJA_DICT ? absent() : missing(run, object, key);
    }
    if (object.type == JINJA_UNDEFINED)
        jinja_fail_undefined(run, "a value", object);
    struct jinja_value data = data_attribute(run, object, name);
    if (data.type != JINJA_ABSENT || object.type == JINJA_NAMESPACE)
        return data;
    jinja_builtin *method = jinja_method(object, name, &unsafe);
    if (unsafe)
        return missing(run, object, key);
    return method != NULL ? jinja_function(run, jinja_builtin_name(method), method, object)
                          : absent();
}

/* The place an index means, or SIZE_MAX. */
static size_t place(struct jinja_value index, size_t n)
{
    if (!is_integer(index))
        return SIZE_MAX;
    int64_t at = integer_of(index);
    if (at < 0)
        at += (int64_t)n;
    return at >= 0 && (uint64_t)at < n ? (size_t)at : SIZE_MAX;
}

static bool is_indexed(const struct jinja_list *list)
{
    return list->kind == JINJA_PLAIN || list->kind == JINJA_TUPLE || list->kind == JINJA_RANGE;
}

static struct jinja_value part_of(struct jinja_run *run, const struct jinja_string *string,
                                  const uint32_t *chars, size_t n)
{
    struct jinja_string part = {.chars = chars, .n = n};
    return string->markup ? jinja_markup(run, &part) : jinja_string(run, chars, n);
}

/* Python's object[key]: absent where there is none. */
static struct jinja_value get_item(struct jinja_run *run, struct jinja_value object,
                                   struct jinja_value key)
{
    size_t at;
    if (object.type == JINJA_UNDEFINED)
        jinja_fail_undefined(run, "a value", object);
    if (object.type == JINJA_DICT && jinja_is_hashable(run, key)) {
        const struct jinja_value *value = jinja_dict_get(run, object.dict, key);
        return value != NULL ? *value : absent();
    }
    if (object.type == JINJA_STRING) {
        at = place(key, object.string->n);
        return at != SIZE_MAX ? part_of(run, object.string, object.string->chars + at, 1)
                              : absent();
    }
    if (object.type == JINJA_LIST && is_indexed(object.list)) {
        at = place(key, object.list->n);
        return at != SIZE_MAX ? object.list->items[at] : absent();
    }
    return absent();
}

struct jinja_value jinja_attribute(struct jinja_run *run, struct jinja_value object,
                                   const struct jinja_string *name)
{
    struct jinja_value key = {.type = JINJA_STRING, .string = name};
    struct jinja_value value = get_attribute(run, object, name);
    if (value.type == JINJA_ABSENT)
        value = get_item(run, object, key);
    return value.type != JINJA_ABSENT ? value : missing(run, object, key);
}

struct jinja_value jinja_subscript(struct jinja_run *run, struct jinja_value object,
                                   struct jinja_value key)
{
    struct jinja_value value = get_item(run, object, key);
    if (value.type == JINJA_ABSENT && key.type == JINJA_STRING)
        value = get_attribute(run, object, key.string);
    return value.type != JINJA_ABSENT ? value : missing(run, object, key);
}

/* ---- slices -------------------------------------------------------------------------------- */

static int64_t number_or(struct jinja_run *run, struct jinja_value value, int64_t otherwise)
{
    if (value.type == JINJA_NONE || value.type == JINJA_ABSENT)
        return otherwise;
    if (!is_integer(value))
        jinja_fail(run, "expected an int in a slice, found a value of type %s",
                   jinja_type_name(value));
    return integer_of(value);
}

/* A place in n of them, which is cut to low..high. */
static int64_t bound(int64_t at, int64_t n, int64_t low, int64_t high)
{
    if (at < 0)
        at += n;
    return at < low ? low : at > high ? high : at;
}

struct cut {
    int64_t from, to, step;
    size_t n;
};

static struct cut slice_of(struct jinja_run *run, size_t length, struct jinja_value from,
                           struct jinja_value to, struct jinja_value step)
{
    int64_t n = (int64_t)length;
    struct cut slice = {.step = number_or(run, step, 1)};
    bool up = slice.step > 0;
    int64_t low = up ? 0 : -1, high = up ? n : n - 1; /* from the end down, -1 is after the last */
    if (slice.step == 0)
        jinja_fail(run, "expected a step of a slice that is not 0, found 0");
    if (slice.step == INT64_MIN)
        slice.step++; /* it steps over everything, and has an absolute value */
    slice.from = bound(number_or(run, from, up ? 0 : INT64_MAX), n, low, high);
    slice.to = bound(number_or(run, to, up ? INT64_MAX : INT64_MIN), n, low, high);
    if (up ? slice.from < slice.to : slice.from > slice.to)
        slice.n = (size_t)((slice.to - slice.from - (up ? 1 : -1)) / slice.step) + 1;
    return slice;
}

static struct jinja_value slice_string(struct jinja_run *run, const struct jinja_string *string,
                                       struct cut slice)
{
    if (slice.n == 0 || slice.step == 1)
        return part_of(run, string, slice.n > 0 ? string->chars + slice.from : NULL, slice.n);
    uint32_t *chars = jinja_alloc(run, slice.n, sizeof *chars);
    jinja_work(run, slice.n);
    for (size_t i = 0; i < slice.n; i++)
        chars[i] = string->chars[slice.from + (int64_t)i * slice.step];
    return part_of(run, string, chars, slice.n);
}

static struct jinja_value slice_range(struct jinja_run *run, const struct jinja_list *range,
                                      struct cut slice)
{
    int64_t start = range->items[range->n].integer, step = range->items[range->n + 2].integer;
    int64_t from, to, by;
    if (__builtin_mul_overflow(slice.from, step, &from) ||
        __builtin_add_overflow(from, start, &from) || __builtin_mul_overflow(slice.to, step, &to) ||
        __builtin_add_overflow(to, start, &to) || __builtin_mul_overflow(slice.step, step, &by))
        jinja_fail(run, "expected an integer of 64 bits, found a larger one");
    return jinja_range(run, from, to, by);
}

static struct jinja_value slice_list(struct jinja_run *run, const struct jinja_list *list,
                                     struct cut slice)
{
    if (list->kind == JINJA_RANGE)
        return slice_range(run, list, slice);
    struct jinja_value part = jinja_list(run, list->kind, slice.n);
    jinja_work(run, slice.n);
    for (size_t i = 0; i < slice.n; i++)
        jinja_append(run, part.list, list->items[slice.from + (int64_t)i * slice.step]);
    return part;
}

struct jinja_value jinja_slice(struct jinja_run *run, struct jinja_value object,
                               struct jinja_value from, struct jinja_value to,
                               struct jinja_value step)
{
    if (object.type == JINJA_UNDEFINED)
        jinja_fail_undefined(run, "a value", object);
    if (object.type == JINJA_STRING)
        return slice_string(run, object.string, slice_of(run, object.string->n, from, to, step));
    if (object.type == JINJA_LIST && is_indexed(object.list))
        return slice_list(run, object.list, slice_of(run, object.list->n, from, to, step));
    jinja_fail(run, "expected a str or a list to cut, found a value of type %s",
               jinja_type_name(object));
}
