/* SPDX-License-Identifier: MIT */
/* Converting: that what it says about how far it is fits the time that it takes. */
#include <check.h>
#include <stdlib.h>

#include "engine/convert_pace.h"
#include "run.h"

enum { LAYERS = 16, PIECES = 20 };

/* Bytes of embedding or head and of a layer, and the seconds that the steps take. */
struct times {
    uint64_t other, layer;
    double embed, advance, measure, rows, head;
};

static const struct times runs[] = {
    {1050000000, 436000000, 7, 3, 10, 12, 7},  /* as an 8B's */
    {1050000000, 436000000, 7, 1, 1, 44, 7},   /* whose rows are slow */
    {1050000000, 436000000, 2, 6, 30, 3, 2},   /* whose inputs are */
    {520000000, 120000000, 3, 0.5, 2, 3.5, 3}, /* as a 1B's, with as large a head */
};

struct clock {
    struct convert_pace pace;
    double now, end;
    uint64_t first; /* done when the clock began */
    size_t layer;
    double worst; /* factor by which the time left was wrong, from the third layer on */
};

/* What the programs make of it: the rate so far goes on. */
static void look(struct clock *c)
{
    double rate = (double)(c->pace.done - c->first) / c->now;
    double left = (double)(c->pace.total - c->pace.done) / rate, truth = c->end - c->now;
    ck_assert_uint_le(c->pace.done, c->pace.total);
    if (c->layer < 3 || truth < 30)
        return;
    double wrong = left > truth ? left / truth : truth / left;
    c->worst = wrong > c->worst ? wrong : c->worst;
}

static void rows(struct clock *c, bool in_layer, uint64_t bytes, double seconds)
{
    uint64_t before = c->pace.done;
    for (int i = 0; i < PIECES; i++) {
        c->now += seconds / PIECES;
        convert_pace_rows(&c->pace, in_layer, bytes / PIECES);
        ck_assert_uint_ge(c->pace.done, before);
        look(c);
    }
}

static double total(const struct times *t, size_t layers)
{
    return (double)layers * (t->advance + t->measure + t->rows) + t->head;
}

/* From the first layer, or behind `found` ones of an earlier run, which took no time at all. */
static struct clock run_all(const struct times *t, size_t found)
{
    struct clock c = {.pace.calibrates = true};
    convert_pace_add(&c.pace, false, t->other);
    for (size_t i = 0; i < LAYERS; i++)
        convert_pace_add(&c.pace, true, t->layer);
    convert_pace_add(&c.pace, false, t->other);
    c.end = total(t, LAYERS - found) + (found == 0 ? t->embed : 0);
    if (found == 0)
        rows(&c, false, t->other, t->embed);
    else
        convert_pace_found(&c.pace, false, t->other);
    for (size_t i = 0; i < found; i++)
        convert_pace_found(&c.pace, true, t->layer);
    c.first = found > 0 ? c.pace.done : 0;
    for (size_t i = found; i < LAYERS; i++) {
        c.layer = i - found;
        convert_pace_layer(&c.pace, t->layer, c.now);
        c.now += t->advance + t->measure;
        convert_pace_measured(&c.pace, c.now);
        look(&c);
        rows(&c, true, t->layer, t->rows);
    }
    rows(&c, false, t->other, t->head);
    ck_assert_uint_eq(c.pace.done, c.pace.total);
    return c;
}

START_TEST(the_time_left_is_right)
{
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++)
        for (size_t found = 0; found <= 8; found += 4) {
            struct clock c = run_all(&runs[i], found);
            ck_assert_msg(c.worst > 0 && c.worst < 1.2, "run %zu, %zu layers found: %f", i, found,
                          c.worst);
        }
}
END_TEST

/* Without a text bytes are what takes time. */
START_TEST(bytes_count_without_a_text)
{
    struct convert_pace pace = {0};
    convert_pace_add(&pace, false, 100);
    convert_pace_add(&pace, true, 50);
    ck_assert_uint_eq(pace.total, 150);
    convert_pace_rows(&pace, false, 100);
    convert_pace_rows(&pace, true, 30);
    ck_assert_uint_eq(pace.done, 130);
    convert_pace_rows(&pace, true, 20);
    ck_assert_uint_eq(pace.done, 150);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("convert");
    tcase_add_test(tests, the_time_left_is_right);
    tcase_add_test(tests, bytes_count_without_a_text);
    return run_tests("convert", tests);
}
