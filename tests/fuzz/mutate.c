/* SPDX-License-Identifier: MIT */
/* mutate.c: how libFuzzer changes safetensors files. Their header's length stands before it, and
 * hardly any change of a header fits it: the length follows the header, most of the time. */
#include <string.h>

#include "fuzz.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

enum { LENGTH = 8 };

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    uint64_t header = 0;
    if (size >= LENGTH)
        memcpy(&header, data, LENGTH);
    if (size < LENGTH || size == max_size || header > size - LENGTH || seed % 8 == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    size_t n = (size_t)header, rest = size - LENGTH - n;
    if (seed % 8 <= 2) /* the tensors' bytes */
        return LENGTH + n + LLVMFuzzerMutate(data + LENGTH + n, rest, max_size - LENGTH - n);
    uint8_t *tail = malloc(rest > 0 ? rest : 1);
    if (tail == NULL)
        return size;
    memcpy(tail, data + LENGTH + n, rest);
    header = LLVMFuzzerMutate(data + LENGTH, n, max_size - LENGTH - rest);
    memcpy(data, &header, LENGTH);
    memcpy(data + LENGTH + header, tail, rest);
    free(tail);
    return LENGTH + (size_t)header + rest;
}
