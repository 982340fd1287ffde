/* SPDX-License-Identifier: MIT */
/* The frequencies of rotary positions, scaled in every way, as transformers computes them. */
#include <check.h>
#include <jansson.h>
#include <math.h>

#include "checkpoint/hf.h"
#include "engine/forward.h"
#include "run.h"

/* A few roundings of float. */
static const double MAX_ERROR = 6e-7;

START_TEST(as_transformers)
{
    json_error_t error;
    json_t *root = json_load_file(TEST_DATA "/rope.json", 0, &error), *row, *value;
    size_t at, i;
    ck_assert_uint_gt(json_array_size(root), 10);
    json_array_foreach(root, at, row)
    {
        struct model model = {.path = NULL};
        struct llama3_error err = {0};
        float frequencies[MAX_HEAD_DIM / 2];
        ck_assert_msg(hf_config_read(json_array_get(row, 0), &model, "config.json", &err) == 0,
                      "%zu: %s", at, err.message);
        rope_frequencies(&model.config, frequencies);
        ck_assert_uint_eq(json_array_size(json_array_get(row, 1)), model.config.head_dim / 2);
        json_array_foreach(json_array_get(row, 1), i, value)
        {
            double expected = json_number_value(value);
            ck_assert_msg(fabs((double)frequencies[i] - expected) <= MAX_ERROR * expected,
                          "%zu: frequency %zu is %.9g, not %.9g", at, i, (double)frequencies[i],
                          expected);
        }
        double factor =
            model.config.rope.type == ROPE_YARN ? model.config.rope.attention_factor : 1;
        ck_assert_double_eq_tol(factor, json_real_value(json_array_get(row, 2)), 1e-12);
    }
    json_decref(root);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("rope");
    tcase_add_test(tcase, as_transformers);
    return run_tests("rope", tcase);
}
