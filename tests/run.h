/* SPDX-License-Identifier: MIT */
/* run.h: how every test program ends. */
#ifndef TESTS_RUN_H
#define TESTS_RUN_H

#include <check.h>
#include <stdlib.h>

/* ck_assert_msg() for loops of many thousands of rounds: Check keeps a record of every assertion
 * that holds, which took most of the time of some tests. */
#define require(holds, ...)            \
    do {                               \
        if (!(holds))                  \
            ck_abort_msg(__VA_ARGS__); \
    } while (0)

/* Runs the tests, and is what main() returns. CK_RUN_CASE chooses one of the cases, which end with
 * NULL. */
static inline int run_cases(const char *name, TCase *const cases[])
{
    Suite *suite = suite_create(name);
    for (; *cases != NULL; cases++)
        suite_add_tcase(suite, *cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static inline int run_tests(const char *name, TCase *tests)
{
    return run_cases(name, (TCase *const[]){tests, NULL});
}

#endif
