/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/failure_log.h"

#include "core/err.h"
#include "core/log.h"
#include "core/text.h"
#include "mesh/policy.h"

#define DETAIL_BYTES 384
#define NAME_BYTES   253 /* of a DNS name: an identity is one, and so are names of objects */
#define SCOPE_BYTES  (20 * NAME_BYTES)

static const struct failure_hint hints[FAILURE_COUNT][2] = {
    [FAILURE_NONE] = {{FAULT_NONE, ""}, {FAULT_NONE, ""}},
#define HINT(id, fault_, text) [FAILURE_##id] = {{FAULT_##fault_, text}, {FAULT_##fault_, text}},
#define HINTS(id, in_fault, in_text, out_fault, out_text)                                          \
    [FAILURE_##id] = {{FAULT_##in_fault, in_text}, {FAULT_##out_fault, out_text}},
#include "proxy/failure_hint.def"
#undef HINT
#undef HINTS
};

/* That a hint is missing is for a test to find, and no reason to end here. */
const struct failure_hint *failure_hint(enum failure f, bool is_outbound)
{
    static const struct failure_hint missing = {FAULT_NONE, ""};

    assert(f < FAILURE_COUNT);
    return hints[f][is_outbound].look != NULL ? &hints[f][is_outbound] : &missing;
}

const char *fault_name(enum fault f)
{
    static const char *const names[] = {
        [FAULT_NONE] = "none",     [FAULT_APPLICATION] = "application",
        [FAULT_NETWORK] = "network", [FAULT_MESH] = "mesh",
        [FAULT_POLICY] = "policy", [FAULT_CLIENT] = "client",
    };

    return names[f];
}

static bool is_early(const struct failure_facts *f)
{
    return f->is_starting && !f->is_outbound && f->why == FAILURE_CONNECT;
}

/* What somebody asked for by a policy is no trouble, and neither is what a client does to itself. */
static enum log_level level_of(const struct failure_facts *f, const struct failure_hint *hint)
{
    bool is_trouble = !is_early(f) && failure_info(f->why)->status >= 500 && f->why != FAILURE_INJECTED &&
                      hint->fault != FAULT_CLIENT;

    return is_trouble ? LOG_WARN : LOG_INFO;
}

/* --- texts of others -------------------------------------------------------------------------- */

/* Within quotes only a quote could end it. */
static void add_quoted(struct text *t, struct bytes b)
{
    b = bytes_first(b, MIN(b.len, (size_t)DETAIL_BYTES));
    for (size_t i = 0; i < b.len; i++) {
        text_char(t, b.at[i] == '"' ? '\'' : b.at[i]);
    }
}

static void add_word(struct text *t, struct bytes b)
{
    b = bytes_first(b, MIN(b.len, (size_t)NAME_BYTES));
    for (size_t i = 0; i < b.len; i++) {
        unsigned char c = (unsigned char)b.at[i];

        text_char(t, c <= ' ' || c == 0x7f || c == '"' ? '?' : b.at[i]);
    }
}

/* " route=HTTPRoute/web.shop", " server=default/deny", " parent=Service/web.shop:80" */
static void add_object(struct text *t, const char *key, const struct meta *m)
{
    if (m == NULL || m->kind.len == 0) {
        return;
    }
    text_printf(t, " %s=", key);
    add_word(t, m->kind);
    text_char(t, '/');
    add_word(t, m->name);
    if (m->ns.len > 0) {
        text_char(t, '.');
        add_word(t, m->ns);
    }
    if (m->port != 0) {
        text_printf(t, ":%u", (unsigned)m->port);
    }
}

static void add_scope(struct text *t, const struct failure_scope *s)
{
    if (s->client_id != NULL) {
        text_str(t, " client_id=");
        add_word(t, s->client_id[0] != '\0' ? bytes_str(s->client_id) : BYTES("-"));
    }
    add_object(t, "server", s->server);
    add_object(t, "parent", s->parent);
    add_object(t, "route", s->route);
    add_object(t, "backend", s->backend);
}

/* ` authority=.. detail=".."`, and the pairs behind them. */
static void add_details(struct text *t, const struct failure_facts *f, enum fault fault)
{
    const char *detail = f->detail;

    if (detail == NULL || detail[0] == '\0') {
        detail = f->err != 0 ? err_text(f->err) : "";
    }
    text_str(t, " authority=");
    add_word(t, f->authority);
    text_str(t, " detail=\"");
    add_quoted(t, bytes_str(detail));
    text_char(t, '"');
    if (fault == FAULT_POLICY) {
        add_scope(t, &f->scope);
    }
    assert(t->err == 0);
}

/* --- the line --------------------------------------------------------------------------------- */

void failure_log(const struct failure_facts *f)
{
    /* A site each: the limit on lines is per site. */
    static struct log_site sites[FAILURE_COUNT][2] = {
        [0 ... FAILURE_COUNT - 1] = {{.file = __FILE__}, {.file = __FILE__}},
    };
    static const struct failure_hint early = {
        FAULT_APPLICATION,
        "the application on this pod does not listen on the port of target yet, as is usual while it "
        "starts; if that stays so, it may listen on another port, on localhost alone, or on IPv4 alone where "
        "target is IPv6"};
    struct log_site *site = &sites[f->why][f->is_outbound];
    char client[ADDR_TEXT_BYTES], target[ADDR_TEXT_BYTES], endpoint[ADDR_TEXT_BYTES] = "-";
    const struct failure_info *info = failure_info(f->why);
    const struct failure_hint *hint = is_early(f) ? &early : failure_hint(f->why, f->is_outbound);
    enum log_level level = level_of(f, hint);
    const char *hop = f->is_outbound ? "outbound" : "inbound";
    char buffer[DETAIL_BYTES + SCOPE_BYTES];
    struct text details;

    if (!log_is_on(site, level)) {
        return;
    }
    if (f->endpoint != NULL) {
        addr_format(f->endpoint, endpoint);
    }
    text_init_fixed(&details, buffer, sizeof(buffer));
    add_details(&details, f, hint->fault);
    log_write(site, level,
              "%s %s failed: %s; hop=%s phase=%s cause=%s client=%s target=%s endpoint=%s" BYTES_FMT
              " fault=%s look=\"%s\"",
              hop, f->is_request ? "request" : "connection", info->text, hop,
              phase_name(info->phase), info->cause, addr_format(f->client, client),
              addr_format(f->target, target), endpoint, BYTES_ARG(text_bytes(&details)),
              fault_name(hint->fault), hint->look);
}
