/* SPDX-License-Identifier: MIT */
/* test_regex_format: texts that are of a format, and texts that aren't. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "grammar/regex.h"
#include "run.h"

#define OR "\x1e"

static const struct format_case {
    const char *name, *yes, *no; /* texts, between them OR */
} formats[] = {
    {"date", "2026-12-01" OR "2024-02-29" OR "2000-02-29" OR "0000-02-29" OR "1999-04-30",
     "2026-13-01" OR "2026-00-01" OR "2026-01-32" OR "2026-01-00" OR "2023-02-29" OR "1900-02-29" OR
     "2026-04-31" OR "2026-1-1" OR "26-01-01" OR "2026-01-01 " OR ""},
    {"time",
     "08:30:06Z" OR "23:59:59.123456789z" OR "00:00:00+23:59" OR "23:59:60Z" OR
     "23:59:60.5+00:00" OR "12:00:00-08:00",
     "24:00:00Z" OR "23:60:00Z" OR "22:59:60Z" OR "23:59:61Z" OR "08:30:06" OR "08:30Z" OR
     "08:30:06.Z" OR "08:30:06+24:00" OR "8:30:06Z" OR "08:30:06 Z"},
    {"date-time",
     "1963-06-19T08:30:06.283185Z" OR "1998-12-31t23:59:60z" OR "2020-02-29T00:00:00-00:01",
     "1963-06-19 08:30:06Z" OR "1963-06-19T08:30:06" OR "1990-02-31T15:59:59Z" OR
     "1998-12-31T23:58:60Z" OR "06/19/1963 08:30:06 PST" OR "1963-06-19"},
    {"duration",
     "P1Y" OR "P4DT12H30M5S" OR "PT0S" OR "P1M" OR "PT36H" OR "P1Y2M3D" OR "P2W" OR "P1YT1S",
     "P" OR "PT" OR "P1" OR "P1YT" OR "P1D2H" OR "P2D1Y" OR "P1Y2W" OR "4DT1H" OR "PT1D" OR
     "P1Y1D" OR "PT1H1S" OR "P1.5D"},
    {"email",
     "joe.bloggs@example.com" OR "te~st@example.com" OR "~t@e.co" OR "\"joe bloggs\"@example.com" OR
     "\"a@b\\\"\"@x" OR "joe@[127.0.0.1]" OR "joe@[IPv6:::1]" OR "a+b=c@x-y.de",
     "2962" OR "@x.de" OR "joe@" OR ".test@example.com" OR "test.@example.com" OR
     "te..st@example.com" OR "joe@[127.0.0.300]" OR "joe@invalid=domain.com" OR
     "joe bloggs@example.com" OR "a@b@c.de" OR "joe@-x.de" OR "\xc3\xa4@x.de"},
    {"idn-email",
     "joe@example.com" OR "\xec\x8b\xa4\xeb\xa1\x80@\xec\x8b\xa4\xeb\xa1\x80.de" OR "\xc3\xa4@x.de",
     "2962" OR "\xc3\xa4" OR "@x.de" OR "\xc3\xa4 b@x.de"},
    {"hostname",
     "www.example.com" OR "a" OR "1.2.3" OR "a-b.c--"
     "d" OR "a-b" OR "A1",
     "-a-host" OR "a-" OR "a..b" OR ".a" OR "a." OR "" OR "a_b" OR "xn--X" OR "ab--cd" OR
     "\xc3\xa4.de"},
    {"idn-hostname",
     "example.com" OR "\xec\x8b\xa4\xeb\xa1\x80.\xed\x85\x8c\xec\x8a\xa4\xed\x8a\xb8" OR
     "m\xc3\xbcnchen.de" OR "\xc3\xa4-\xc3\xb6.x",
     "-\xc3\xa4" OR "\xc3\xa4-" OR "\xc3\xa4..b" OR "" OR "\xe3\x80\xae" OR "\xc3\x84"},
    {"ipv4", "192.168.0.1" OR "0.0.0.0" OR "255.255.255.255",
     "127.0.0.0.1" OR "256.1.1.1" OR "127.0" OR "01.1.1.1" OR "1.1.1.1 " OR "0x7f.0.0.1" OR
     "1.1.1."},
    {"ipv6",
     "::1" OR "::" OR "1::" OR "::abef" OR "1:2:3:4:5:6:7:8" OR "1:2:3:4:5:6:7::" OR
     "::2:3:4:5:6:7:8" OR "::ffff:192.168.0.1" OR "1:d6::42" OR "1:2::192.168.0.1" OR
     "1:2:3:4:5:6:1.2.3.4" OR "1::3:4:5:6:7:8",
     "12345::" OR "1:2:3:4:5:6:7" OR "1::d6::42" OR ":2:3:4:5:6:7:8" OR "1:2:3:4:5:6:7:" OR
     "::1%eth0" OR "1:2:3:4:5:6:7:8:9" OR "::laptop" OR "1:2:3:4::5:6:7:8" OR "::ffff:1.2.3" OR
     "1:2:3:4:5:6:7:1.2.3.4" OR "-2:3::" OR ""},
    {"uri",
     "http://foo.bar/?baz=qux#quux" OR "http://foo.com/blah_(wiki)_blah#cite-1" OR
     "http://-.~_!$&'()*+,;=:%40:80%2f::::::@example.com" OR "http://223.255.255.254" OR
     "ftp://ftp.is.co.za/rfc/rfc1808.txt" OR "ldap://[2001:db8::7]/c=GB?objectClass?one" OR
     "mailto:John.Doe@example.com" OR "tel:+1-816-555-1212" OR "urn:oasis:names" OR "a:" OR
     "http://[v1.a:b]:80" OR "file:///etc/x",
     "//foo.bar/" OR "/abs" OR "\\\\x" OR "abc" OR "http:// shouldfail.com" OR ":// x" OR
     "bar,baz:foo" OR "http://[1::2::3]" OR "http://a/%g1" OR "1a:b" OR "http://x/<>" OR
     "http://example.com:x/" OR "http://\xc3\xa4/" OR "" OR "https://[@example.org/x"},
    {"uri-reference",
     "http://x/y" OR "//foo.bar/?a#b" OR "/abc" OR "abc" OR "#frag" OR "" OR "a/b:c" OR "?q",
     "\\\\W" OR "#frag\\ment" OR "1:b" OR "a b" OR "/%zz"},
    {"iri",
     "http://\xc6\x92\xc3\xb8\xc3\xb8.\xc3\x9f\xc3\xa5r/?\xe2\x88\x82#\xc7\x82" OR "http://x" OR
     "http://[::1]/",
     "/abc" OR "http://2001:0db8::7/ b" OR "\\\\x" OR ""},
    {"iri-reference", "\xc3\xa2\xcf\x80" OR "#\xc6\x92" OR "//\xc6\x92/x" OR "",
     "#\xc6\x92\\r" OR "\\\\W"},
    {"uuid", "2EB8AA08-AA98-11EA-B4AA-73B441D16380" OR "2eb8aa08-aa98-11ea-b4aa-73b441d16380",
     "2eb8aa08-aa98-11ea-b4aa-73b441d1638" OR "2eb8aa08aa9811eab4aa73b441d16380" OR
     "2eb8aa08-aa98-11ea-b4ga-73b441d16380" OR ""},
    {"uri-template", "http://x/{a}/{?b,c*,d:3}" OR "" OR "{+a.b}" OR "x%20y" OR "\xc3\xa4{#x}",
     "http://x/{a" OR "a}" OR "{}" OR "{a:0}" OR "{a:12345}" OR "%2" OR "a b" OR "{a,}" OR "{.}"},
    {"json-pointer", "" OR "/" OR "/foo/bar~0~1" OR "//a" OR "/\xc3\xa4 \n" OR "/0",
     "foo" OR "/a~" OR "/~2" OR "#/a" OR "/~01~"},
    {"relative-json-pointer", "0" OR "1/a" OR "0#" OR "120/foo/bar" OR "0/",
     "" OR "/foo" OR "-1/a" OR "01/a" OR "0##" OR "+1/a" OR "a"},
    {"regex", "" OR "^a*(b|c)+[^d]?$" OR "a\\.b{2}" OR "[a-z0-9_]+" OR "(?:x|\\d)*?" OR "^$",
     "a**" OR "(a" OR "a)" OR "[a" OR "\\" OR "\\a" OR "+" OR "a{2" OR "^(abc]"},
    {"byte", "" OR "AAAA" OR "QQ==" OR "QUI=" OR "ab+/",
     "A" OR "AA" OR "AAA" OR "AAA==" OR "QR==" OR "QUJ=" OR "AA-_" OR "AAAA\n"},
};

START_TEST(test_formats)
{
    struct llama3_error err;
    struct regexes *all = regexes_open(64 << 20, &err);
    ck_assert_ptr_nonnull(all);
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        regex r = regex_format(all, formats[i].name);
        ck_assert_msg(r != REGEX_NONE, "%s", formats[i].name);
        ck_assert_uint_eq(regex_format(all, formats[i].name), r);
        ck_assert_msg(regex_includes(all, regex_text(all, 0, UINT32_MAX), r), "%s",
                      formats[i].name);
        for (int valid = 0; valid < 2; valid++) {
            const char *text = valid ? formats[i].yes : formats[i].no;
            while (text != NULL) {
                const char *end = strchr(text, '\x1e');
                size_t n = end != NULL ? (size_t)(end - text) : strlen(text);
                regex at = r;
                for (size_t k = 0; k < n; k++)
                    at = regex_step(all, at, (uint8_t)text[k]);
                ck_assert_msg(regex_nullable(all, at) == valid, "%s: %.*s", formats[i].name, (int)n,
                              text);
                text = end != NULL ? end + 1 : NULL;
            }
        }
    }
    ck_assert_uint_eq(regex_format(all, "int32"), REGEX_NONE);
    ck_assert_uint_eq(regex_format(all, ""), REGEX_NONE);
    ck_assert_int_eq(regexes_failed(all, &err), 0);
    regexes_close(all);
}
END_TEST

/* So many of a character, behind and before something. */
static bool matches_many(struct regexes *all, const char *format, const char *before, char c,
                         size_t n, const char *behind)
{
    regex r = regex_format(all, format);
    for (; *before != '\0'; before++)
        r = regex_step(all, r, (uint8_t)*before);
    for (size_t i = 0; i < n; i++)
        r = regex_step(all, r, (uint8_t)c);
    for (; *behind != '\0'; behind++)
        r = regex_step(all, r, (uint8_t)*behind);
    return regex_nullable(all, r);
}

START_TEST(test_lengths)
{
    struct llama3_error err;
    struct regexes *all = regexes_open(64 << 20, &err);
    char name[256] = "";
    ck_assert_ptr_nonnull(all);
    ck_assert(matches_many(all, "hostname", "", 'a', 63, ".b"));
    ck_assert(!matches_many(all, "hostname", "", 'a', 64, ".b"));
    ck_assert(matches_many(all, "email", "", 'a', 64, "@b"));
    ck_assert(!matches_many(all, "email", "", 'a', 65, "@b"));
    for (int i = 0; i < 126; i++)
        strcat(name, "a.");
    ck_assert(matches_many(all, "hostname", name, 'a', 1, ""));  /* 253 */
    ck_assert(!matches_many(all, "hostname", name, 'a', 2, "")); /* 254 */
    regexes_close(all);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("regex_format");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_formats);
    tcase_add_test(tests, test_lengths);
    return run_tests("regex_format", tests);
}
