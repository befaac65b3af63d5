/* SPDX-License-Identifier: Apache-2.0 */
#include "core/text.h"
#include "install/inject_private.h"

#define OK               "\xe2\x88\x9a" /* square root sign, as the tool that users know has it */
#define WARN             "\xe2\x80\xbc" /* double exclamation mark */
#define REPORT_BYTES_MAX (4u << 20)

void report_init(struct inject_report *r)
{
    *r = (struct inject_report){0};
    text_init(&r->host_network, REPORT_BYTES_MAX);
    text_init(&r->sidecar, REPORT_BYTES_MAX);
    text_init(&r->udp, REPORT_BYTES_MAX);
    text_init(&r->disabled, REPORT_BYTES_MAX);
    text_init(&r->automount, REPORT_BYTES_MAX);
    text_init(&r->unknown, REPORT_BYTES_MAX);
    text_init(&r->lines, REPORT_BYTES_MAX);
}

void report_clear(struct inject_report *r)
{
    text_clear(&r->host_network);
    text_clear(&r->sidecar);
    text_clear(&r->udp);
    text_clear(&r->disabled);
    text_clear(&r->automount);
    text_clear(&r->unknown);
    text_clear(&r->lines);
}

static bool uses_udp(const json_t *spec)
{
    const json_t *container, *port;
    size_t i, p;

    json_array_foreach(json_object_get(spec, "containers"), i, container)
    {
        json_array_foreach(json_object_get(container, "ports"), p, port)
        {
            const char *protocol = json_string_value(json_object_get(port, "protocol"));

            if (protocol != NULL && strcmp(protocol, "UDP") == 0) {
                return true;
            }
        }
    }
    return false;
}

static void add_name(struct text *to, const struct inject_subject *s)
{
    text_printf(to, "%s%s/%s", to->len > 0 ? ", " : "", s->kind, s->name);
}

void report_add(struct inject_report *r, const struct inject_subject *s)
{
    if (s->kind == NULL) {
        text_str(&r->lines, "document missing \"kind\" field, skipped\n");
        return;
    }
    text_printf(&r->lines, "%s \"%s\" %s\n", s->kind, s->name,
                s->done != NULL ? s->done : "skipped");
    r->done_count += s->done != NULL;
    if (s->result == INJECT_HOST_NETWORK) {
        add_name(&r->host_network, s);
    } else if (s->result == INJECT_SIDECAR) {
        add_name(&r->sidecar, s);
    } else if (s->result == INJECT_DISABLED) {
        add_name(&r->disabled, s);
    }
    if (uses_udp(s->spec)) {
        add_name(&r->udp, s);
        r->udp_count++;
    }
    if (json_is_false(json_object_get(s->spec, "automountServiceAccountToken"))) {
        add_name(&r->automount, s);
    }
}

void report_unknown(struct inject_report *r, const struct inject_subject *s, const json_t *annotations)
{
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)annotations, name, value) /* it wants it non-const */
    {
        struct inject_annotation a;

        inject_annotation_read(name, "", &a);
        if (a.is_ours && !a.is_known) {
            text_printf(&r->unknown, WARN " the annotation %.200s of %s/%s is not known%s%s%s\n", name,
                        s->kind, s->name, a.near != NULL ? "; did you mean " : "",
                        a.near != NULL ? a.near : "", a.near != NULL ? "?" : "");
        }
    }
}

/* One condition: the warning with the names that it concerns, or that all is well. */
static bool condition(struct text *to, bool verbose, const struct text *names, const char *before,
                      const char *behind, const char *good)
{
    if (names->len > 0) {
        text_printf(to, WARN " %s" BYTES_FMT "%s\n", before, BYTES_ARG(text_bytes(names)), behind);
        return true;
    }
    if (verbose) {
        text_printf(to, OK " %s\n", good);
    }
    return verbose;
}

void report_print(const struct inject_report *r, enum inject_mode mode, bool verbose,
                  struct text *to)
{
    bool printed = false;

    text_char(to, '\n');
    if (mode != INJECT_UNINJECT) {
        printed |= condition(to, verbose, &r->host_network, "\"hostNetwork: true\" is set in ", "",
                             "no pod uses the host's network");
        printed |= condition(to, verbose, &r->sidecar, "a sidecar proxy is already in ", "",
                             "no pod has a sidecar proxy yet");
        if (r->done_count == 0) {
            text_str(to, WARN " found nothing that can be injected\n");
            printed = true;
        } else if (verbose) {
            text_str(to, OK " at least one object can be injected or annotated\n");
        }
        printed |= condition(to, verbose, &r->udp, "",
                             r->udp_count == 1 ? " uses \"protocol: UDP\", which is not meshed"
                                               : " use \"protocol: UDP\", which is not meshed",
                             "no pod has UDP ports");
        printed |=
            condition(to, verbose, &r->disabled, "\"linkerd.io/inject: disabled\" is set on ", "",
                      "no pod has the annotation \"linkerd.io/inject: disabled\"");
        printed |=
            condition(to, verbose, &r->automount, "\"automountServiceAccountToken: false\" in ",
                      " does not concern the proxy, whose token is projected",
                      "no pod has \"automountServiceAccountToken: false\"");
        printed |= r->unknown.len > 0;
        text_add(to, text_bytes(&r->unknown));
    }
    if (printed) {
        text_char(to, '\n');
    }
    text_add(to, text_bytes(&r->lines));
    text_char(to, '\n');
}
