/* SPDX-License-Identifier: MIT */
/* page.h: the chat page (share/chat.html), built into the program. */
#ifndef SERVER_PAGE_H
#define SERVER_PAGE_H

#include <stddef.h>

extern const unsigned char page_text[]; /* [page_size] */
extern const size_t page_size;

/* Its Content-Security-Policy: only the page's own script and style, by their SHA-256, and requests
 * to this server. */
void page_policy(char *out, size_t size);

#endif
