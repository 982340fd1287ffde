/* SPDX-License-Identifier: MIT */
/* Conversations as files: what is written is read again, and what is no session is refused, each by
 * the exact line that says what was expected and what was found. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "run.h"
#include "tiny.h"
#include "tool/say.h"
#include "tool/session_file.h"

const char say_program[] = "test_session";

static char *folder, path[512];

static void set_up(void)
{
    folder = tiny_folder();
    snprintf(path, sizeof path, "%s/session.json", folder);
}

static void tear_down(void)
{
    tiny_remove(folder);
}

static struct session_file *open_session(void)
{
    struct llama3_error err = {0};
    struct session_file *file = session_file_open(path, &err);
    ck_assert_msg(file != NULL, "%s", err.message);
    return file;
}

static char *text_of_session(void)
{
    struct llama3_error err = {0};
    size_t size;
    char *text = file_read(path, SIZE_MAX - 1, &size, NULL, &err);
    ck_assert_msg(text != NULL, "%s", err.message);
    return text;
}

/* As after a command line that says this. */
static void parse(struct args *args, int argc, const char *const *argv)
{
    char *copy[16];
    ck_assert_int_lt(argc, 16);
    for (int i = 0; i < argc; i++)
        copy[i] = (char *)(uintptr_t)argv[i];
    copy[argc] = NULL;
    int status = 0;
    ck_assert(args_begin(args, argc, copy, &status));
}

static const char whole[] = "{\"format\":\"llama3-session\",\"version\":1,\"title\":\"T\","
                            "\"model\":\"M\",\"system\":\"Be kind.\",\"sampling\":{\"temperature\":"
                            "0.2,\"top_k\":7,\"max_tokens\":99,\"seed\":9007199254740991,\"stop\":"
                            "[\"a\",\"b\"]},\"messages\":[{\"role\":\"user\",\"content\":\"\\u00e9"
                            "\\n\"},{\"role\":\"assistant\",\"content\":\"\"}]}";

START_TEST(comes_back_as_written)
{
    static const char *const none[] = {"x"};
    struct llama3_error err = {0};
    struct args args;
    tiny_put_text(folder, "session.json", whole);
    struct session_file *file = open_session();
    parse(&args, 1, none);
    ck_assert_int_eq(session_file_settle(file, &args, &err), 0);
    ck_assert_str_eq(args.system, "Be kind.");
    ck_assert_str_eq(args.temperature, "0.2");
    ck_assert_ptr_null(args.top_p);
    ck_assert_str_eq(args.top_k, "7");
    ck_assert_uint_eq(args.max_tokens, 99);
    ck_assert_str_eq(args.seed, "9007199254740991");
    ck_assert_uint_eq(args.stop.n, 2);
    ck_assert_str_eq(args.stop.items[1], "b");

    struct llama3_history *history = llama3_history_new();
    ck_assert_int_eq(llama3_history_add(history, "system", args.system, &err), 0);
    ck_assert_int_eq(session_file_load(file, history, &err), 0);
    ck_assert_uint_eq(llama3_history_length(history), 3);
    ck_assert_str_eq(llama3_history_message(history, 1)->content, "\xc3\xa9\n");
    ck_assert_str_eq(llama3_history_message(history, 2)->role, "assistant");
    ck_assert_int_eq(session_file_write(file, NULL, history, &err), 0);
    args_free(&args);
    session_file_close(file);

    char *first = text_of_session();
    ck_assert_ptr_nonnull(strstr(first, "\"temperature\": 0.2,"));
    ck_assert_ptr_nonnull(strstr(first, "\"title\": \"T\""));
    file = open_session();
    ck_assert_int_eq(session_file_write(file, NULL, history, &err), 0);
    char *second = text_of_session();
    ck_assert_str_eq(first, second);
    free(first);
    free(second);
    session_file_close(file);
    llama3_history_free(history);
}
END_TEST

static void refuses_to_save(const struct llama3_history *history, const char *text)
{
    struct llama3_error err = {.size = sizeof err};
    char expected[640];
    ck_assert_int_eq(llama3_history_save(history, path, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_EINPUT);
    snprintf(expected, sizeof expected, "%s: %s", path, text);
    ck_assert_str_eq(err.message, expected);
}

/* The library reads what the chat has written, and the chat what the library has. */
START_TEST(the_library_keeps_the_same_file)
{
    struct llama3_error err = {.size = sizeof err};
    tiny_put_text(folder, "session.json", whole);
    struct llama3_history *history = llama3_history_load(path, &err);
    ck_assert_msg(history != NULL, "%s", err.message);
    ck_assert_uint_eq(llama3_history_length(history), 3);
    ck_assert_str_eq(llama3_history_message(history, 0)->role, "system");
    ck_assert_str_eq(llama3_history_message(history, 0)->content, "Be kind.");
    ck_assert_str_eq(llama3_history_message(history, 1)->content, "\xc3\xa9\n");
    ck_assert_str_eq(llama3_history_message(history, 2)->role, "assistant");
    ck_assert_int_eq(llama3_history_add(history, "user", "More", &err), 0);
    ck_assert_int_eq(llama3_history_save(history, path, &err), 0);

    char *saved = text_of_session(); /* all that is not the library's has stayed */
    ck_assert_ptr_nonnull(strstr(saved, "\"title\": \"T\""));
    ck_assert_ptr_nonnull(strstr(saved, "\"model\": \"M\""));
    ck_assert_ptr_nonnull(strstr(saved, "\"seed\": 9007199254740991"));
    struct session_file *file = open_session();
    ck_assert_uint_eq(session_file_turns(file), 2);
    ck_assert_str_eq(session_file_system(file), "Be kind.");
    session_file_close(file);

    ck_assert_int_eq(llama3_history_add(history, "user", "Again", &err), 0);
    refuses_to_save(history, "message 4: expected a role of \"assistant\", found \"user\"");
    llama3_history_truncate(history, 1);
    ck_assert_int_eq(llama3_history_add(history, "tool", "x", &err), 0);
    refuses_to_save(history, "message 1: expected a role of \"user\", found \"tool\"");
    char *now = text_of_session();
    ck_assert_str_eq(now, saved);
    llama3_history_truncate(history, 1);
    tiny_put_text(folder, "session.json", "[1, 2]");
    refuses_to_save(history, "expected a JSON object, found an array");
    ck_assert_ptr_null(llama3_history_load(path, &err));
    ck_assert_int_eq(err.code, LLAMA3_EINPUT);
    ck_assert_int_eq(remove(path), 0);
    ck_assert_ptr_null(llama3_history_load(path, &err));
    ck_assert_int_eq(llama3_history_save(history, path, &err), 0); /* a new one */
    file = open_session();
    ck_assert_uint_eq(session_file_turns(file), 0);
    ck_assert_str_eq(session_file_system(file), "Be kind.");
    session_file_close(file);
    llama3_history_free(history);
    free(saved);
    free(now);
}
END_TEST

/* Of two that go on with one conversation the first one's turn stays. */
START_TEST(what_others_wrote_is_kept)
{
    struct llama3_error err = {0};
    struct llama3_history *history = llama3_history_new();
    for (int there = 0; there < 2; there++) {
        struct session_file *first = open_session(), *second = open_session();
        ck_assert_int_eq(session_file_write(first, NULL, history, &err), 0);
        ck_assert_int_eq(session_file_write(first, NULL, history, &err), 0);
        ck_assert_int_eq(session_file_write(second, NULL, history, &err), -1);
        ck_assert_ptr_nonnull(strstr(err.message, "another program has written it meanwhile"));
        ck_assert_int_eq(session_file_write(first, NULL, history, &err), 0);
        ck_assert_int_eq(remove(path), 0); /* what is gone can't be lost */
        ck_assert_int_eq(session_file_write(second, NULL, history, &err), 0);
        session_file_close(first);
        session_file_close(second);
    }
    llama3_history_free(history);
}
END_TEST

/* As llama3 wrote it once: scripts/check-page has the page export the same. */
START_TEST(the_format_stays)
{
    struct llama3_error err = {0};
    size_t size;
    char *text = file_read(TEST_DATA "/session.json", SIZE_MAX - 1, &size, NULL, &err);
    ck_assert_msg(text != NULL, "%s", err.message);
    tiny_put_text(folder, "session.json", text);
    struct session_file *file = open_session();
    struct llama3_history *history = llama3_history_new();
    ck_assert_int_eq(llama3_history_add(history, "system", "Be kind.", &err), 0);
    ck_assert_int_eq(session_file_load(file, history, &err), 0);
    ck_assert_int_eq(session_file_write(file, NULL, history, &err), 0);
    char *written = text_of_session();
    ck_assert_str_eq(written, text);
    free(written);
    free(text);
    session_file_close(file);
    llama3_history_free(history);
}
END_TEST

START_TEST(the_command_line_replaces_what_the_file_says)
{
    static const char *const some[] = {"x", "--temperature", "0.35",     "--seed", "5", "--stop",
                                       "c", "--system",      "Be brief."};
    struct llama3_error err = {0};
    struct args args;
    tiny_put_text(folder, "session.json", whole);
    struct session_file *file = open_session();
    parse(&args, sizeof some / sizeof *some, some);
    ck_assert_int_eq(session_file_settle(file, &args, &err), 0);
    ck_assert_str_eq(args.system, "Be brief.");
    ck_assert_str_eq(args.temperature, "0.35");
    ck_assert_str_eq(args.top_k, "7");
    ck_assert_uint_eq(args.stop.n, 1);
    struct llama3_history *history = llama3_history_new();
    llama3_history_add(history, "system", args.system, &err);
    session_file_load(file, history, &err);
    ck_assert_int_eq(session_file_write(file, "/some/where/Llama-3/", history, &err), 0);
    char *text = text_of_session();
    static const char *const lines[] = {"\"model\": \"Llama-3\"",
                                        "\"system\": \"Be brief.\"",
                                        "\"temperature\": 0.35,",
                                        "\"top_k\": 7",
                                        "\"seed\": 5",
                                        "\"c\""};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        ck_assert_msg(strstr(text, lines[i]) != NULL, "expected %s in %s", lines[i], text);
    ck_assert_ptr_null(strstr(text, "\"b\""));
    free(text);
    args_free(&args);
    session_file_close(file);
    llama3_history_free(history);
}
END_TEST

START_TEST(a_missing_file_is_an_empty_session)
{
    struct llama3_error err = {0};
    struct llama3_history *history = llama3_history_new();
    struct session_file *file = open_session();
    ck_assert_int_eq(session_file_load(file, history, &err), 0);
    ck_assert_uint_eq(llama3_history_length(history), 0);
    session_file_close(file);
    llama3_history_free(history);
    ck_assert_ptr_null(session_file_open("/nonexistent/folder/session.json", &err));
    ck_assert_str_eq(err.message, "/nonexistent/folder/session.json: No such file or directory");
    ck_assert_ptr_null(session_file_open(folder, &err));
}
END_TEST

static void refused(const char *text, size_t size, const char *expected)
{
    struct llama3_error err = {0};
    tiny_put(folder, "session.json", text, size);
    ck_assert_msg(session_file_open(path, &err) == NULL, "opened, where expected: %s", expected);
    ck_assert_msg(strncmp(err.message, path, strlen(path)) == 0, "%s", err.message);
    const char *found = err.message + strlen(path);
    ck_assert_msg(strncmp(found, expected, strlen(expected)) == 0, "expected %s, found %s",
                  expected, found);
}

/* {changed part, what is found instead, the error} of `whole` */
static const char *const changes[][3] = {
    {"\"llama3-session\"", "\"x\"", ": \"format\": expected \"llama3-session\", found \"x\""},
    {"\"format\":\"llama3-session\",", "", ": \"format\": expected a string, found nothing"},
    {":1,", ":2,", ": \"version\": expected 1, found 2"},
    {":1,", ":1.5,", ": \"version\": expected 1, found 1.5"},
    {"\"title\":\"T\"", "\"title\":1", ": \"title\": expected a string, found an integer"},
    {"\"title\"", "\"tiptle\"", ": \"tiptle\" is not known"},
    {"\"title\":\"T\"", "\"model\":\"T\"", ": expected JSON"},
    {"\"title\":\"T\"", "\"title\":\"\\u0000\"", ": expected JSON"},
    {"\"Be kind.\"", "{}", ": \"system\": expected a string, found an object"},
    {"0.2", "\"hot\"", ": \"temperature\": expected a number, found a string"},
    {"0.2", "-0.2", ": \"temperature\": expected a number in [0, 100], found \"-0.2\""},
    {"0.2", "1e400", ": expected JSON"},
    {"\"temperature\":0.2", "\"top_p\":0", ": \"top_p\": expected a number in (0, 1], found \"0\""},
    {"\"temperature\":0.2", "\"top_p\":1e-60",
     ": \"top_p\": expected a number in (0, 1], found \"1e-60\""},
    {"\"temperature\":0.2", "\"min_p\":2", ": \"min_p\": expected a number in [0, 1], found \"2\""},
    {"\"temperature\"", "\"warmth\"", ": \"warmth\" is not known"},
    {"\"top_k\"", "\"top-k\"", ": \"top-k\" is not known"},
    {"7", "7.5", ": \"top_k\": expected an integer in [0, 1048576], found \"7.5\""},
    {"99", "0", ": \"max_tokens\": expected an integer in [1, 16777216], found \"0\""},
    {"9007199254740991", "-1",
     ": \"seed\": expected an integer in [0, 9007199254740991], found \"-1\""},
    {"9007199254740991", "9007199254740992",
     ": \"seed\": expected an integer in [0, 9007199254740991], found"},
    {"9007199254740991", "99999999999999999999",
     ": \"seed\": expected an integer in [0, 9007199254740991], found \"1e+20\""},
    {"[\"a\",\"b\"]", "\"a\"", ": \"stop\": expected an array, found a string"},
    {"[\"a\",\"b\"]", "[1]", ": \"stop\": expected some text, found an integer"},
    {"[\"a\",\"b\"]", "[\"\"]", ": \"stop\": expected some text, found none"},
    {"\"messages\":[{", "\"messages\":[null,{", ": message 1: expected an object, found null"},
    {"\"user\"", "\"assistant\"", ": message 1: \"role\": expected \"user\", found \"assistant\""},
    {"\"assistant\"", "\"user\"", ": message 2: \"role\": expected \"assistant\", found \"user\""},
    {"\"assistant\"", "\"system\"",
     ": message 2: \"role\": expected \"assistant\", found \"system\""},
    {"\"content\":\"\"", "\"contents\":\"\"", ": message 2: \"contents\" is not known"},
    {"\"content\":\"\"", "\"content\":[]",
     ": message 2: \"content\": expected a string, found an array"},
    {"\"content\":\"\"", "\"content\":null",
     ": message 2: \"content\": expected a string, found null"},
    {"\\u00e9", "\\ud800", ": expected JSON"},
    {"\\u00e9", "\xc0\x80", ": expected JSON"},
    {"\"messages\"", "\"massages\"", ": \"massages\" is not known"},
};

START_TEST(what_is_no_session_is_refused)
{
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        char *text = tiny_replace(whole, changes[i][0], changes[i][1]);
        refused(text, strlen(text), changes[i][2]);
        free(text);
    }
    refused("", 0, ": expected JSON");
    refused("[]", 2, ": expected a JSON object, found an array");
    refused(whole, sizeof whole, ": expected JSON"); /* a NUL byte at the end */
    char deep[200];
    memset(deep, '[', sizeof deep);
    refused(deep, sizeof deep, ": expected JSON nested at most 64 deep, found deeper");
    size_t large = (16 << 20) + 1;
    char *spaces = malloc(large);
    memset(spaces, ' ', large);
    refused(spaces, large, ": expected at most 16777216 bytes, found 16777217");
    free(spaces);
}
END_TEST

/* Every beginning of a session, and every session with one byte changed, opens or is refused with
 * one line. */
START_TEST(damaged_files_do_no_harm)
{
    char text[sizeof whole];
    size_t refusals = 0;
    for (size_t i = 0; i < 2 * (sizeof whole - 1); i++) {
        struct llama3_error err = {0};
        size_t at = i / 2, size = i % 2 == 0 ? at : sizeof whole - 1;
        memcpy(text, whole, sizeof whole);
        text[at] ^= (char)(i % 2 == 0 ? 0 : 1 + at % 255);
        tiny_put(folder, "session.json", text, size);
        struct session_file *file = session_file_open(path, &err);
        ck_assert_int_eq(file == NULL, err.code != LLAMA3_OK);
        ck_assert_ptr_null(strchr(err.message, '\n'));
        refusals += file == NULL;
        session_file_close(file);
    }
    ck_assert_uint_gt(refusals, sizeof whole);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("session files");
    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, comes_back_as_written);
    tcase_add_test(tc, the_library_keeps_the_same_file);
    tcase_add_test(tc, what_others_wrote_is_kept);
    tcase_add_test(tc, the_format_stays);
    tcase_add_test(tc, the_command_line_replaces_what_the_file_says);
    tcase_add_test(tc, a_missing_file_is_an_empty_session);
    tcase_add_test(tc, what_is_no_session_is_refused);
    tcase_add_test(tc, damaged_files_do_no_harm);
    return run_tests("session", tc);
}
