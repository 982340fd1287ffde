/* SPDX-License-Identifier: MIT */
/* number.h: numbers as text, whatever the locale. */
#ifndef BASE_NUMBER_H
#define BASE_NUMBER_H

#include <stdbool.h>

/* Reads a decimal number in C's notation, all of the text. */
bool number_read(const char *text, double *value);

#endif
