/* SPDX-License-Identifier: MIT */
/*
 * schema_check: reads files {"schema": ..., "tests": [{"data": ..., "valid": ...}, ...]} whose
 * names stand on its input, one a line, and prints a line for each: the name, a tab, and either a
 * verdict for each test (1: it can be said; v: an equal one can; 0: not), or why there is none.
 * scripts/check-schemas compares.
 */
#include <stdlib.h>
#include <time.h>

#include "member.h"

enum { MEMORY = 512 << 20, REACHED = 20000 /* exprs looked into */ };

static void check(const char *path)
{
    struct llama3_error err = {0};
    struct timespec start, opened, explored;
    struct buf text = {0};
    char bytes[4096];
    FILE *stream = fopen(path, "r");
    for (size_t n; stream != NULL && (n = fread(bytes, 1, sizeof bytes, stream)) > 0;)
        buf_add(&text, bytes, n);
    if (stream != NULL)
        fclose(stream);
    json_t *file = json_parse(text.data != NULL ? text.data : "", text.size, "file", &err), *test;
    buf_free(&text);
    printf("%s\t", path);
    if (file == NULL) {
        printf("unread: %s\n", err.message);
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &start);
    struct regexes *regexes = regexes_open(MEMORY, &err);
    struct schemas *schemas = schemas_open(regexes, json_object_get(file, "schema"), &err);
    clock_gettime(CLOCK_MONOTONIC, &opened);
    int result = schemas == NULL ? -1 : schema_reach(schemas, schemas_root(schemas), REACHED, &err);
    clock_gettime(CLOCK_MONOTONIC, &explored);
    double open_ms = (double)(opened.tv_sec - start.tv_sec) * 1e3 +
                     (double)(opened.tv_nsec - start.tv_nsec) / 1e6;
    double explore_ms = (double)(explored.tv_sec - opened.tv_sec) * 1e3 +
                        (double)(explored.tv_nsec - opened.tv_nsec) / 1e6;
    printf("%.2f %.2f %zu\t", open_ms, explore_ms, regexes_memory(regexes));
    if (result != 0) {
        printf("refused: %s\n", err.message);
    } else {
        size_t i;
        struct membership m = {.regexes = regexes, .schemas = schemas, .err = &err};
        json_array_foreach(json_object_get(file, "tests"), i, test)
        {
            bool yes = is_member(&m, schemas_root(schemas), json_object_get(test, "data"));
            m.by_value = !yes;
            bool equal =
                !yes && is_member(&m, schemas_root(schemas), json_object_get(test, "data"));
            putchar(m.failed ? 'x' : yes ? '1' : equal ? 'v' : '0');
            m.failed = m.by_value = false;
        }
        putchar('\n');
    }
    schemas_close(schemas);
    regexes_close(regexes);
    json_decref(file);
}

int main(void)
{
    char path[4096];
    while (fgets(path, sizeof path, stdin) != NULL) {
        path[strcspn(path, "\n")] = '\0';
        check(path);
        fflush(stdout);
    }
    return EXIT_SUCCESS;
}
