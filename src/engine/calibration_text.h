/* SPDX-License-Identifier: MIT */
/*
 * calibration_text.h: the text that models are calibrated by (share/calibration.txt, built in), as
 * the tokens of a checkpoint.
 *
 * A line that begins with "%% " says what follows: "text" a document, "chat" a conversation, and in
 * it "system", "user" or "assistant" a message. Text before the first such line is a comment.
 */
#ifndef ENGINE_CALIBRATION_TEXT_H
#define ENGINE_CALIBRATION_TEXT_H

#include "base/tokens.h"
#include "checkpoint/model.h"

/* How many tokens of the built-in text are used. */
enum { CALIBRATION_TOKENS = 8192 };

/* Appends the first `limit` tokens of the built-in text: documents as raw text, conversations by
 * the checkpoint's chat template. Where that is missing or unknown, or doesn't take a conversation,
 * the names of the roles stand before the messages. */
int calibration_text(const struct model *model, size_t limit, struct tokens *out,
                     struct llama3_error *err);

/* The same for any text of that form. Errors name the line. */
int calibration_text_of(const struct model *model, const char *text, size_t n, size_t limit,
                        struct tokens *out, struct llama3_error *err);

#endif
