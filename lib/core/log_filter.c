/* SPDX-License-Identifier: Apache-2.0 */
#include "core/log_filter.h"

#include "core/bytes.h"
#include "core/err.h"
#include "core/spin.h"
#include "core/text.h"

#define RULES_MAX        32
#define FILTER_BYTES_MAX 512

struct log_rule {
    char target[LOG_TARGET_BYTES]; /* without the name that stands for all of ours: "" */
    enum log_level level;
};

struct log_filter {
    char text[FILTER_BYTES_MAX];
    enum log_level others; /* for targets that no rule names */
    struct log_rule rules[RULES_MAX];
    size_t count;
};

static atomic_flag filter_lock = ATOMIC_FLAG_INIT;
static struct log_filter filter_now = {.text = "info", .others = LOG_INFO}; /* under filter_lock */
static struct log_filter filter_streams[LOG_FILTER_STREAMS];                /* the same; zero: off */
static _Atomic unsigned filter_generation = 1; /* written under filter_lock, read by call sites */

unsigned log_filter_generation(void)
{
    return atomic_load_explicit(&filter_generation, memory_order_acquire);
}

/* --- targets ----------------------------------------------------------------------------------- */

static bool is_root_folder(struct bytes name)
{
    static const char *const roots[] = {"api",     "mesh",  "proxy", "init",  "cluster", "install",
                                        "control", "local", "cli",   "tests", "tools"};

    for (size_t i = 0; i < ARRAY_LEN(roots); i++) {
        if (bytes_eq(name, bytes_str(roots[i]))) {
            return true;
        }
    }
    return false;
}

/* Cut a path down to what follows the root of the repository, wherever that is. */
static struct bytes path_in_tree(struct bytes path)
{
    size_t at = path.len, end = path.len;

    while (at > 0) {
        struct bytes name;

        at--;
        if (at > 0 && path.at[at - 1] != '/') {
            continue;
        }
        name = bytes_of(path.at + at, end - at);
        if (end < path.len && bytes_eq(name, BYTES("lib"))) {
            return bytes_from(path, end + 1);
        }
        if (end < path.len && is_root_folder(name)) {
            return bytes_from(path, at);
        }
        end = at > 0 ? at - 1 : 0;
    }
    while (bytes_starts(path, BYTES("../")) || bytes_starts(path, BYTES("./"))) {
        struct bytes dots;

        (void)bytes_split(path, '/', &dots, &path);
    }
    return path;
}

void log_target_of(const char *file, char out_target[LOG_TARGET_BYTES])
{
    struct bytes path = path_in_tree(bytes_str(file));
    size_t len;

    if (bytes_ends(path, BYTES(".c")) || bytes_ends(path, BYTES(".h"))) {
        path = bytes_first(path, path.len - 2);
    }
    len = MIN(path.len, (size_t)LOG_TARGET_BYTES - 1);
    for (size_t i = 0; i < len; i++) {
        out_target[i] = path.at[i] == '/' ? '.' : path.at[i];
    }
    out_target[len] = '\0';
}

/* --- parsing ----------------------------------------------------------------------------------- */

static bool parse_level(struct bytes word, enum log_level *out_level)
{
    static const char *const names[] = {"off", "error", "warn", "info", "debug", "trace"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (bytes_eq_nocase(word, bytes_str(names[i]))) {
            *out_level = (enum log_level)i;
            return true;
        }
    }
    if (word.len == 1 && word.at[0] >= '0' && word.at[0] < '0' + (char)ARRAY_LEN(names)) {
        *out_level = (enum log_level)(word.at[0] - '0'); /* as Linkerd's proxy has it */
        return true;
    }
    return false;
}

static bool stands_for_all(struct bytes target)
{
    return bytes_eq(target, BYTES("linkerd")) || bytes_eq(target, BYTES("tulle"));
}

/* Whether a bare word is a target of ours, so that a mistyped level is not taken for one. */
static bool is_known_target(struct bytes target)
{
    static const char *const libs[] = {"core", "text", "net", "http"};
    struct bytes folder, rest;

    (void)bytes_split(target, '.', &folder, &rest);
    for (size_t i = 0; i < ARRAY_LEN(libs); i++) {
        if (bytes_eq(folder, bytes_str(libs[i]))) {
            return true;
        }
    }
    return bytes_starts(target, BYTES("linkerd")) || stands_for_all(target) || is_root_folder(folder);
}

static bool is_target(struct bytes target)
{
    for (size_t i = 0; i < target.len; i++) {
        char c = target.at[i];
        bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '_' || c == '-' || c == '.' || c == ':';

        if (!fine) {
            return false;
        }
    }
    return target.len > 0;
}

static int add_rule(struct log_filter *f, struct bytes target, enum log_level level)
{
    struct log_rule *rule;
    struct text name;

    if (f->count == RULES_MAX) {
        return E_CONFIG;
    }
    rule = &f->rules[f->count];
    rule->level = level;
    text_init_fixed(&name, rule->target, sizeof(rule->target));
    if (!stands_for_all(target)) {
        for (size_t i = 0; i < target.len; i++) { /* both "net.tls" and "net::tls" */
            if (target.at[i] != ':') {
                text_char(&name, target.at[i]);
            } else if (i + 1 < target.len && target.at[i + 1] == ':') {
                text_char(&name, '.');
            }
        }
    }
    f->count++;
    return name.err != 0 ? E_CONFIG : 0;
}

/* "[{headers}]=off", "app[call{id=1}]": concerns nothing of ours. */
static int parse_span(struct bytes rule)
{
    const char *end = memrchr(rule.at, ']', rule.len);
    struct bytes rest = end != NULL ? bytes_from(rule, (size_t)(end + 1 - rule.at)) : rule;
    enum log_level level;

    return rest.len == 0 || (rest.at[0] == '=' && parse_level(bytes_from(rest, 1), &level)) ? 0 : E_CONFIG;
}

/* "info", "proxy=debug", "proxy". */
static int parse_rule(struct log_filter *f, struct bytes rule)
{
    struct bytes target, level_text;
    enum log_level level = LOG_TRACE;
    bool has_level = bytes_split(rule, '=', &target, &level_text);

    if (memchr(rule.at, '[', rule.len) != NULL) {
        return parse_span(rule);
    }
    if (has_level && !parse_level(level_text, &level)) {
        return E_CONFIG;
    }
    if (!has_level && parse_level(rule, &level)) {
        f->others = level;
        return 0;
    }
    if (!is_target(target) || (!has_level && !is_known_target(target))) {
        return E_CONFIG;
    }
    return add_rule(f, target, level);
}

/* Up to the next comma that is in no bracket. */
static struct bytes take_rule(struct bytes *rest)
{
    struct bytes whole = *rest;
    size_t end = 0, depth = 0;

    while (end < whole.len && (whole.at[end] != ',' || depth > 0)) {
        char c = whole.at[end++];

        depth += c == '[' || c == '{';
        depth -= depth > 0 && (c == ']' || c == '}');
    }
    *rest = bytes_from(whole, MIN(end + 1, whole.len));
    return bytes_trim(bytes_first(whole, end), " \t\r\n");
}

/* What call sites have computed is old. With the lock held. */
static void filters_changed(void)
{
    if (atomic_fetch_add_explicit(&filter_generation, 1, memory_order_release) + 1 == 0) {
        atomic_fetch_add_explicit(&filter_generation, 1, memory_order_release);
    }
}

static int filter_parse(const char *filter, struct log_filter *out)
{
    struct bytes rest = bytes_str(filter), rule;

    *out = (struct log_filter){.others = LOG_ERROR};
    if (rest.len >= FILTER_BYTES_MAX) {
        return E_CONFIG;
    }
    memcpy(out->text, filter, rest.len + 1);
    while (rest.len > 0) {
        rule = take_rule(&rest);
        if (rule.len > 0) {
            TRY(parse_rule(out, rule));
        }
    }
    return 0;
}

bool log_filter_is_good(const char *filter)
{
    struct log_filter parsed;

    return filter_parse(filter, &parsed) == 0;
}

static int filter_set(struct log_filter *to, const char *filter)
{
    struct log_filter fresh;

    TRY(filter_parse(filter, &fresh));
    spin_acquire(&filter_lock);
    *to = fresh;
    filters_changed();
    spin_release(&filter_lock);
    return 0;
}

int log_set_filter(const char *filter)
{
    return filter_set(&filter_now, filter);
}

int log_filter_stream_set(unsigned index, const char *filter)
{
    assert(index < LOG_FILTER_STREAMS);
    return filter_set(&filter_streams[index], filter);
}

void log_filter_stream_clear(unsigned index)
{
    spin_acquire(&filter_lock);
    filter_streams[index] = (struct log_filter){.others = LOG_OFF};
    filters_changed();
    spin_release(&filter_lock);
}

void log_get_filter(char *to, size_t bytes)
{
    struct text text;

    text_init_fixed(&text, to, bytes);
    spin_acquire(&filter_lock);
    text_add(&text,
             bytes_first(bytes_str(filter_now.text), MIN(strlen(filter_now.text), bytes - 1)));
    spin_release(&filter_lock);
}

static enum log_level level_in(const struct log_filter *f, const char *target)
{
    enum log_level level = f->others;
    size_t best = 0; /* one more than the length of the best rule's target */

    for (size_t i = 0; i < f->count; i++) {
        const struct log_rule *rule = &f->rules[i];
        size_t len = strlen(rule->target);
        bool matches = strncmp(target, rule->target, len) == 0 &&
                       (len == 0 || target[len] == '\0' || target[len] == '.');

        if (matches && len + 1 >= best) { /* of two equal ones the later counts */
            best = len + 1;
            level = rule->level;
        }
    }
    return level;
}

enum log_level log_filter_level(const char *target)
{
    enum log_level level;

    spin_acquire(&filter_lock);
    level = level_in(&filter_now, target);
    for (size_t i = 0; i < LOG_FILTER_STREAMS; i++) {
        level = MAX(level, level_in(&filter_streams[i], target));
    }
    spin_release(&filter_lock);
    return level;
}

enum log_level log_filter_main_level(const char *target)
{
    enum log_level level;

    spin_acquire(&filter_lock);
    level = level_in(&filter_now, target);
    spin_release(&filter_lock);
    return level;
}

enum log_level log_filter_stream_level(unsigned index, const char *target)
{
    enum log_level level;

    spin_acquire(&filter_lock);
    level = level_in(&filter_streams[index], target);
    spin_release(&filter_lock);
    return level;
}
