/* SPDX-License-Identifier: MIT */
/*
 * regex_format.c: the formats of JSON Schema's section 7.3, and OpenAPI's `byte`.
 *
 * Subsets: a leap second is said in UTC alone; a host's labels have no "--" in the third place, so
 * no punycode, which would have to be decoded; labels of other scripts than Latin are short, and of
 * characters that IDNA 2008 takes as they are, anywhere; `regex` has groups of one level.
 */
#include "grammar/regex_parts.h"

/* ---- time: RFC 3339 -------------------------------------------------------------------------- */

#define DATE                                                              \
    "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|"       \
    "(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))|" \
    "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
#define FRACTION "(?:\\.[0-9]+)?"
#define TIME                                                 \
    "(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]" FRACTION \
    "(?:[Zz]|[+\\-](?:[01][0-9]|2[0-3]):[0-5][0-9])|"        \
    "23:59:60" FRACTION "(?:[Zz]|[+\\-]00:00))"
#define DURATION_TIME "T(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S)"
#define DURATION                                                                           \
    "P(?:(?:[0-9]+D|[0-9]+M(?:[0-9]+D)?|[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?)(?:" DURATION_TIME \
    ")?|" DURATION_TIME "|[0-9]+W)"

/* ---- hosts: RFC 1123, 5890, 3986 ------------------------------------------------------------- */

#define ALNUM   "[A-Za-z0-9]"
#define HYPHENS "[A-Za-z0-9\\-]"
/* 1 to 63 characters. */
#define LABEL                                                                            \
    "(?:" ALNUM "(?:" HYPHENS "?" ALNUM ")?|" ALNUM HYPHENS ALNUM HYPHENS "{0,59}" ALNUM \
    "|" ALNUM HYPHENS "-" ALNUM "(?:" HYPHENS "{0,58}" ALNUM ")?)"
#define HOST  LABEL "(?:\\." LABEL ")*"
#define OCTET "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
#define IPV4  OCTET "(?:\\." OCTET "){3}"
#define HEX   "[0-9A-Fa-f]"
#define H16   HEX "{1,4}"
#define LS32  "(?:" H16 ":" H16 "|" IPV4 ")"
#define IPV6                                                                                     \
    "(?:(?:" H16 ":){6}" LS32 "|::(?:" H16 ":){5}" LS32 "|(?:" H16 ")?::(?:" H16 ":){4}" LS32    \
    "|(?:(?:" H16 ":)?" H16 ")?::(?:" H16 ":){3}" LS32 "|(?:(?:" H16 ":){0,2}" H16 ")?::(?:" H16 \
    ":){2}" LS32 "|(?:(?:" H16 ":){0,3}" H16 ")?::" H16 ":" LS32 "|(?:(?:" H16 ":){0,4}" H16     \
    ")?::" LS32 "|(?:(?:" H16 ":){0,5}" H16 ")?::" H16 "|(?:(?:" H16 ":){0,6}" H16 ")?::)"
/* 11 characters are less than 60 in punycode. */
#define UNICODE_CHAR                                                          \
    "[a-z0-9\\u{df}-\\u{f6}\\u{f8}-\\u{ff}\\u{3ac}-\\u{3ce}\\u{430}-\\u{45f}" \
    "\\u{3041}-\\u{3096}\\u{30a1}-\\u{30fa}\\u{4e00}-\\u{9fa5}\\u{ac00}-\\u{d7a3}]"
#define UNICODE_LABEL                                                              \
    "(?:" UNICODE_CHAR "{1,11}|" UNICODE_CHAR "{1,5}-" UNICODE_CHAR "{1,5}|" ALNUM \
    "(?:[A-Za-z0-9]{0,58}" ALNUM ")?)"
#define UNICODE_HOST UNICODE_LABEL "(?:\\." UNICODE_LABEL "){0,3}"

/* ---- mail: RFC 5321, 6531 -------------------------------------------------------------------- */

#define ATOM(more)  "[A-Za-z0-9!#$%&'*+/=?^_`{|}~\\-" more "]+"
#define LOCAL(more) ATOM(more) "(?:\\." ATOM(more) ")*|\"(?:[ !#-\\[\\]-~" more "]|\\\\[ -~])*\""
#define ADDRESS     "\\[(?:" IPV4 "|IPv6:" IPV6 ")\\]"

/* ---- identifiers: RFC 3986, 3987, 6570, 6901 ---------------------------------------------------
 */

#define UCS                                                                                \
    "\\u{a0}-\\u{d7ff}\\u{f900}-\\u{fdcf}\\u{fdf0}-\\u{ffef}\\u{10000}-\\u{1fffd}"         \
    "\\u{20000}-\\u{2fffd}\\u{30000}-\\u{3fffd}\\u{40000}-\\u{4fffd}\\u{50000}-\\u{5fffd}" \
    "\\u{60000}-\\u{6fffd}\\u{70000}-\\u{7fffd}\\u{80000}-\\u{8fffd}\\u{90000}-\\u{9fffd}" \
    "\\u{a0000}-\\u{afffd}\\u{b0000}-\\u{bfffd}\\u{c0000}-\\u{cfffd}\\u{d0000}-\\u{dfffd}" \
    "\\u{e1000}-\\u{efffd}"
#define PRIVATE       "\\u{e000}-\\u{f8ff}\\u{f0000}-\\u{ffffd}\\u{100000}-\\u{10fffd}"
#define PERCENT       "%" HEX "{2}"
#define PLAIN         "A-Za-z0-9\\-._~!$&'()*+,;="
#define SOME(chars)   "(?:[" PLAIN chars "]|" PERCENT ")"
#define SEGMENTS(ucs) "(?:/" SOME(":@" ucs) "*)*"
#define AUTHORITY(ucs)                                                   \
    "//(?:" SOME(":" ucs) "*@)?(?:\\[(?:" IPV6 "|[vV]" HEX "+\\.[" PLAIN \
                          ":]+)\\]|" SOME(ucs) "*)(?::[0-9]*)?" SEGMENTS(ucs)
#define ABSOLUTE(ucs)        "/(?:" SOME(":@" ucs) "+" SEGMENTS(ucs) ")?"
#define ENDING(ucs, private) "(?:\\?" SOME(":@/?" ucs private) "*)?(?:#" SOME(":@/?" ucs) "*)?"
#define URI(ucs, private)                                                      \
    "[A-Za-z][A-Za-z0-9+\\-.]*:(?:" AUTHORITY(ucs) "|" ABSOLUTE(ucs) "|" SOME( \
        ":@" ucs) "+" SEGMENTS(ucs) "|)" ENDING(ucs, private)
#define REFERENCE(ucs, private)                                                              \
    URI(ucs, private)                                                                        \
    "|(?:" AUTHORITY(ucs) "|" ABSOLUTE(ucs) "|" SOME("@" ucs) "+" SEGMENTS(ucs) "|)" ENDING( \
        ucs, private)
#define VARIABLE                                                        \
    "(?:[A-Za-z0-9_]|" PERCENT ")(?:\\.?(?:[A-Za-z0-9_]|" PERCENT "))*" \
    "(?::[1-9][0-9]{0,3}|\\*)?"
#define TEMPLATE                                                                                   \
    "(?:[!#$&(-;=?-\\[\\]_a-z~" UCS PRIVATE "]|" PERCENT "|\\{[+#./;?&]?" VARIABLE "(?:," VARIABLE \
    ")*\\})*"
#define POINTER "(?:/(?:[^~/]|~[01])*)*"

/* ---- patterns -------------------------------------------------------------------------------- */

#define SIGNS   "\\\\\\^$*+?.()\\[\\]{}|/"
#define ESCAPE  "\\\\[dDwWsStnrfv" SIGNS "]"
#define CLASS   "\\[\\^?(?:[^\\[\\]\\\\\\^\\-]|" ESCAPE "|a-z|A-Z|0-9)+\\]"
#define COUNT   "(?:(?:[*+?]|\\{[0-9]\\}|\\{[0-9],\\})\\?\?)?"
#define PIECE   "(?:[^" SIGNS "]|\\.|" ESCAPE "|" CLASS ")" COUNT
#define GROUP   "\\((?:\\?:)?(?:" PIECE ")*(?:\\|(?:" PIECE ")*)*\\)" COUNT
#define PATTERN "\\^?(?:" PIECE "|" GROUP ")*(?:\\|(?:" PIECE "|" GROUP ")*)*\\$?"

static const struct regex_format {
    const char *name, *pattern;
    uint32_t longest;   /* characters; 0: of any length */
    const char *domain; /* pattern is what stands before an @ */
} formats[] = {
    {"date-time", DATE "[Tt]" TIME, 0, NULL},
    {"date", DATE, 0, NULL},
    {"time", TIME, 0, NULL},
    {"duration", DURATION, 0, NULL},
    {"email", LOCAL(""), 64, HOST "|" ADDRESS},
    {"idn-email", LOCAL("\\u{a0}-\\u{10ffff}"), 64, UNICODE_HOST "|" HOST "|" ADDRESS},
    {"hostname", HOST, 253, NULL},
    {"idn-hostname", HOST "|" UNICODE_HOST, 253, NULL},
    {"ipv4", IPV4, 0, NULL},
    {"ipv6", IPV6, 0, NULL},
    {"uri", URI("", ""), 0, NULL},
    {"uri-reference", REFERENCE("", ""), 0, NULL},
    {"iri", URI(UCS, PRIVATE), 0, NULL},
    {"iri-reference", REFERENCE(UCS, PRIVATE), 0, NULL},
    {"uuid", HEX "{8}(?:-" HEX "{4}){3}-" HEX "{12}", 0, NULL},
    {"uri-template", TEMPLATE, 0, NULL},
    {"json-pointer", POINTER, 0, NULL},
    {"relative-json-pointer", "(?:0|[1-9][0-9]*)(?:#|" POINTER ")", 0, NULL},
    {"regex", PATTERN, 0, NULL},
    /* RFC 4648: the bits that pad are zero. */
    {"byte", "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=|[A-Za-z0-9+/][AQgw]==)?",
     0, NULL},
};
enum { N_FORMATS = sizeof formats / sizeof *formats };

static regex parse(struct regexes *all, const char *pattern)
{
    struct llama3_error err = {0};
    regex r = regex_parse(all, pattern, strlen(pattern), REGEX_WHOLE, &err);
    return r != REGEX_NONE ? r : regex_fail(all, err.code, err.message);
}

/* The longest that parts may be, in bytes. */
static regex at_most(struct regexes *all, regex r, uint32_t longest)
{
    return longest == 0 ? r : re_and(all, r, re_repeat(all, re_bytes(all, 0, 0xff), 1, longest));
}

static regex make(struct regexes *all, const struct regex_format *f)
{
    regex r = at_most(all, parse(all, f->pattern), f->longest);
    if (f->domain == NULL)
        return r;
    regex domain = at_most(all, parse(all, f->domain), 253);
    return re_concat(all, r, re_concat(all, re_bytes(all, '@', '@'), domain));
}

regex regex_format(struct regexes *all, const char *name)
{
    for (size_t i = 0; i < N_FORMATS; i++) {
        if (strcmp(name, formats[i].name) != 0)
            continue;
        if (all->formats == NULL)
            all->formats = regex_alloc(all, N_FORMATS, sizeof *all->formats);
        if (all->formats == NULL)
            return REGEX_NONE;
        if (all->formats[i] == REGEX_NONE)
            all->formats[i] = regex_settle(all, make(all, &formats[i]));
        return all->formats[i];
    }
    return REGEX_NONE;
}
