/* SPDX-License-Identifier: Apache-2.0 */
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/opt.h"
#include "core/text.h"
#include "tests/unit/unit.h"

static bool all, verbose;
static const char *namespace;
static struct opt_list sets, args;
static long port;
static uint64_t wait_ns;
static char problem[200];

static const struct opt opts[] = {
    {"all", 'A', OPT_BOOL, NULL, "every namespace", &all},
    {"verbose", 'v', OPT_BOOL, NULL, "say more", &verbose},
    {"namespace", 'n', OPT_STRING, "NAMESPACE", "where to look", &namespace},
    {"set", 0, OPT_LIST, "KEY=VALUE", "override a value", &sets},
    {"port", 'p', OPT_INT, NULL, "port to listen on", &port},
    {"wait", 0, OPT_DURATION, "DURATION", "how long to wait", &wait_ns},
};

static int reset(void **state UNUSED)
{
    all = verbose = false;
    namespace = NULL;
    port = 0;
    wait_ns = 0;
    opt_list_clear(&sets);
    opt_list_clear(&args);
    problem[0] = '\0';
    return 0;
}

/* Up to ten words, the first of which is the program's name. */
#define parse(...) parse_words((const char *[11]){"tulle", __VA_ARGS__})

static int parse_words(const char *const *words)
{
    char *argv[12];
    int argc = 0, err;

    while (words[argc] != NULL) {
        argv[argc] = mem_strdup(words[argc]); /* argv is writable, and bounds are checked */
        argc++;
    }
    argv[argc] = NULL;
    err = opt_parse(opts, ARRAY_LEN(opts), argc, argv, &args, problem, sizeof(problem));
    namespace = namespace != NULL ? words[0] : NULL; /* only whether it was set outlives argv */
    for (int i = 0; i < argc; i++) {
        for (size_t j = 0; j < args.count; j++) {
            args.items[j] = args.items[j] == argv[i] ? words[i] : args.items[j];
        }
        mem_free(argv[i]);
    }
    return err;
}

static void expect_list(const struct opt_list *l, const char *want)
{
    struct text t;

    text_init(&t, 1000);
    text_str(&t, "");
    for (size_t i = 0; i < l->count; i++) {
        text_printf(&t, "%s%s", i > 0 ? "|" : "", l->items[i]);
    }
    assert_string_equal(t.at, want);
    text_clear(&t);
}

static void options_and_arguments_mix(void **state UNUSED)
{
    assert_int_equal(parse("stat", "--all", "deploy", "-p", "80", "-", "--", "-n", "--all"), 0);
    expect_list(&args, "stat|deploy|-|-n|--all");
    assert_true(all);
    assert_int_equal(port, 80);
    assert_null(namespace);
}

static void every_way_to_give_a_value(void **state UNUSED)
{
    assert_int_equal(parse("--port", "1"), 0);
    assert_int_equal(port, 1);
    assert_int_equal(parse("--port=2"), 0);
    assert_int_equal(port, 2);
    assert_int_equal(parse("-p", "3"), 0);
    assert_int_equal(port, 3);
    assert_int_equal(parse("-p4"), 0);
    assert_int_equal(port, 4);
    assert_int_equal(parse("-p=-5"), 0);
    assert_int_equal(port, -5);
    assert_int_equal(parse("-Avp6"), 0);
    assert_int_equal(port, 6);
    assert_true(all && verbose);
}

static void strings_are_borrowed(void **state UNUSED)
{
    char name[] = "tulle", option[] = "--namespace=emojivoto", next[] = "-n", value[] = "";
    char *argv[] = {name, option, NULL}, *again[] = {name, next, value, NULL};

    assert_int_equal(opt_parse(opts, ARRAY_LEN(opts), 2, argv, &args, problem, sizeof(problem)), 0);
    assert_ptr_equal(namespace, option + strlen("--namespace="));
    assert_int_equal(opt_parse(opts, ARRAY_LEN(opts), 3, again, &args, problem, sizeof(problem)),
                     0);
    assert_ptr_equal(namespace, value);
}

static void booleans_can_be_denied(void **state UNUSED)
{
    all = true;
    assert_int_equal(parse("--all=false"), 0);
    assert_false(all);
    assert_int_equal(parse("-A=true"), 0);
    assert_true(all);
    assert_int_equal(parse("--all=maybe"), E_CONFIG);
    assert_string_equal(problem, "--all is either true or false, not \"maybe\"");
}

static void lists_repeat_and_split(void **state UNUSED)
{
    assert_int_equal(parse("--set", "a=1,b=2", "--set=c=3", "--set", ",", "--set", "d,,e"), 0);
    expect_list(&sets, "a=1|b=2|c=3|d|e");
}

static void durations_are_written_as_in_go(void **state UNUSED)
{
    static const char *const malformed[] = {"",   "5",     "s",   "1x",   "-1s",
                                            ".s", "1..5s", "1m ", "1e3s", "999999999h"};

    assert_int_equal(parse("--wait", "1m30s"), 0);
    assert_true(wait_ns == 90 * NS_PER_S);
    assert_int_equal(parse("--wait", "1.5h"), 0);
    assert_true(wait_ns == 5400 * NS_PER_S);
    assert_int_equal(parse("--wait=250ms"), 0);
    assert_true(wait_ns == 250 * NS_PER_MS);
    assert_int_equal(parse("--wait=0"), 0);
    assert_true(wait_ns == 0);
    assert_int_equal(parse("--wait=2d"), 0);
    assert_true(wait_ns == UINT64_C(172800) * NS_PER_S);
    for (size_t i = 0; i < ARRAY_LEN(malformed); i++) {
        assert_int_equal(parse("--wait", malformed[i]), E_CONFIG);
    }
    assert_string_equal(problem,
                        "--wait needs a duration such as 30s or 1m30s, not \"999999999h\"");
}

static void mistakes_are_explained(void **state UNUSED)
{
    assert_int_equal(parse("--prot", "80"), E_CONFIG);
    assert_string_equal(problem, "unknown option --prot; did you mean --port? see --help");
    assert_int_equal(parse("--prot=80"), E_CONFIG);
    assert_string_equal(problem, "unknown option --prot; did you mean --port? see --help");
    assert_int_equal(parse("-Ax"), E_CONFIG);
    assert_string_equal(problem, "unknown option -x in -Ax; see --help");
    assert_int_equal(parse("stat", "--namespace"), E_CONFIG);
    assert_string_equal(problem, "--namespace needs a value: --namespace NAMESPACE");
    assert_int_equal(parse("-p", "8o"), E_CONFIG);
    assert_string_equal(problem, "--port needs a whole number, not \"8o\"");
    assert_int_equal(parse("-p", ""), E_CONFIG);
    assert_int_equal(parse("-p", " 8"), E_CONFIG);
    assert_int_equal(parse("-p", "99999999999999999999"), E_CONFIG);
    assert_int_equal(args.count, 0);
}

static void help_is_told_apart(void **state UNUSED)
{
    assert_int_equal(parse("--help"), E_CANCELED);
    assert_int_equal(parse("-h"), E_CANCELED);
    assert_int_equal(parse("-Ah"), E_CANCELED);
    assert_int_equal(parse("--", "--help"), 0);
}

static void help_is_aligned(void **state UNUSED)
{
    struct text t;

    text_init(&t, 1000);
    opt_help(opts, 3, &t);
    assert_string_equal(t.at, "  -A, --all                   every namespace\n"
                              "  -v, --verbose               say more\n"
                              "  -n, --namespace NAMESPACE   where to look\n");
    text_clear(&t);
}

static void help_fits_a_terminal(void **state UNUSED)
{
    const struct opt wide[] = {
        {"short", 's', OPT_BOOL, NULL, "so many words that they do not fit into what is left of a line",
         &all},
        {"an-option-with-a-very-long-name-for-once", 0, OPT_STRING, "VALUE", "on a line of its own",
         &namespace},
        {"of-thirty-columns-with", 0, OPT_STRING, "A-VALUE", "beside it", &namespace},
    };
    struct text t;

    text_init(&t, 4096);
    opt_help(wide, ARRAY_LEN(wide), &t);
    assert_string_equal(t.at,
                        "  -s, --short                            so many words that they do not fit into\n"
                        "                                         what is left of a line\n"
                        "      --an-option-with-a-very-long-name-for-once VALUE\n"
                        "                                         on a line of its own\n"
                        "      --of-thirty-columns-with A-VALUE   beside it\n");
    text_clear(&t);
}

#define OPT_TEST(name) cmocka_unit_test_setup_teardown(name, reset, reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        OPT_TEST(options_and_arguments_mix), OPT_TEST(every_way_to_give_a_value),
        OPT_TEST(strings_are_borrowed),      OPT_TEST(booleans_can_be_denied),
        OPT_TEST(lists_repeat_and_split),    OPT_TEST(durations_are_written_as_in_go),
        OPT_TEST(mistakes_are_explained),    OPT_TEST(help_is_told_apart),
        OPT_TEST(help_is_aligned),           OPT_TEST(help_fits_a_terminal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
