/* SPDX-License-Identifier: MIT */
/* replay.c: main() of the fuzz targets in a build without libFuzzer, whose command line it takes:
 * each file once. `make check` runs the corpus like that, with any compiler. */
#include <stdio.h>
#include <string.h>

#include "fuzz.h"

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        struct llama3_error err = {0};
        size_t size;
        if (argv[i][0] == '-') /* libFuzzer's options */
            continue;
        printf("%s\n", argv[i]);
        fflush(stdout);
        char *text = file_read(argv[i], SIZE_MAX - 1, &size, NULL, &err);
        if (text == NULL) {
            fprintf(stderr, "%s\n", err.message);
            return 1;
        }
        uint8_t *data = malloc(size > 0 ? size : 1); /* without file_read()'s NUL */
        if (data == NULL)
            return 1;
        memcpy(data, text, size);
        free(text);
        LLVMFuzzerTestOneInput(data, size);
        free(data);
    }
    return 0;
}
