/* SPDX-License-Identifier: MIT */
/* cuda_answers.h: whether there is a device to test on. */
#ifndef TESTS_CUDA_ANSWERS_H
#define TESTS_CUDA_ANSWERS_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/cuda/cuda.h"

/* Says why, if there is none. A child asks: a process that has used CUDA can't fork for tests that
 * use it as well. */
static inline bool cuda_answers(void)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        struct llama3_error err;
        struct backend_device device;
        bool answers = cuda_ops.device(&(struct backend_options){.threads = 1}, &device, &err) == 0;
        if (!answers)
            printf("%s\n", err.message);
        fflush(stdout);
        _exit(answers ? EXIT_SUCCESS : EXIT_FAILURE);
    }
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

#endif
