/* SPDX-License-Identifier: MIT */
/* opening.h: a model opened while the terminal shows how far that is. */
#ifndef TOOL_OPENING_H
#define TOOL_OPENING_H

#include "tool/args.h"

/* Opens the model that args name, with its prefix cache; one that is not on this machine may be
 * fetched first. NULL after an error, which is on stderr; *status then says which. */
struct llama3_model *opening_model(const struct args *args, int *status);

#endif
