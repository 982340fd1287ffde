/* SPDX-License-Identifier: MIT */
#include "tool/clipboard.h"

#include <nettle/base64.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "tool/say.h"
#include "tool/terminal.h"

int clipboard_set(const char *text, size_t length)
{
    if (!terminal_can_draw())
        return say_error("expected a terminal that has a clipboard, found none");
    if (length > CLIPBOARD_BYTES)
        return say_error("expected at most %d bytes, which terminals take, found %zu; /save FILE "
                         "keeps all of it",
                         CLIPBOARD_BYTES, length);
    size_t n = BASE64_ENCODE_RAW_LENGTH(length);
    char *encoded = malloc(n + 1);
    if (encoded == NULL)
        return say_error("not enough memory for the clipboard");
    base64_encode_raw(encoded, length, (const uint8_t *)text);
    encoded[n] = '\0';
    fprintf(stderr, "\033]52;c;%s\a", encoded);
    fflush(stderr);
    free(encoded);
    return STATUS_OK;
}
