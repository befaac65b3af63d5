/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Covers inject_text() of install/inject_text.c with splice.c, and under them lib/text: yaml_parse(),
 * yaml_json.c, yaml_resolve(), yaml_print().
 *
 * Properties: what is accepted once is accepted again and then comes out unchanged; annotating and
 * uninjecting gives back every byte, unless the input has words of ours already; a problem names
 * line and column, and nothing is written then.
 */
#include "core/err.h"
#include "core/text.h"
#include "install/inject.h"

#define FUZZ_BYTES_MAX  65536
#define FUZZ_OUTPUT_MAX ((size_t)64 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run(const struct inject_options *o, struct bytes input, struct text *to)
{
    struct text report;
    char problem[512] = "";
    int err;

    text_init(to, FUZZ_OUTPUT_MAX);
    text_init(&report, FUZZ_OUTPUT_MAX);
    err = inject_text(o, input, to, &report, problem, sizeof(problem));
    assert(err == 0 || err == E_YAML || err == E_CONFIG || err == E_LIMIT);
    assert((err == 0) == (problem[0] == '\0'));
    assert(err == 0 || (to->len == 0 && report.len == 0 && strncmp(problem, "line ", 5) == 0));
    text_clear(&report);
    return err;
}

static void there_again_and_back(const struct inject_options *o, struct bytes input)
{
    static const struct inject_options uninject = {.mode = INJECT_UNINJECT};
    struct text once, twice, back;
    size_t found;

    if (run(o, input, &once) == 0) {
        int err = run(o, text_bytes(&once), &twice);

        assert(err == 0);
        assert(bytes_eq(text_bytes(&once), text_bytes(&twice)));
        text_clear(&twice);
        err = run(&uninject, text_bytes(&once), &back);
        assert(err == 0 || err == E_YAML); /* an alias may stand in the way */
        if (o->mode == INJECT_ANNOTATE && !bytes_find(input, BYTES("linkerd"), &found) &&
            !bytes_find(input, BYTES("*"), &found)) {
            assert(err == 0 && bytes_eq(text_bytes(&back), input));
        }
        text_clear(&back);
    }
    text_clear(&once);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const annotations[][2] = {{"config.linkerd.io/opaque-ports", "3306"}};
    struct inject_values values;
    struct inject_options o = {.mode = INJECT_ANNOTATE, .annotate_value = "enabled"};
    struct bytes input = bytes_of(data, size);

    if (size > FUZZ_BYTES_MAX) {
        return 0;
    }
    inject_values_default(&values);
    values.trust_anchors_pem = "PEM\n";
    there_again_and_back(&o, input);
    o.annotations = annotations;
    o.annotations_count = 1;
    there_again_and_back(&o, input);
    o.mode = INJECT_MANUAL;
    o.values = &values;
    there_again_and_back(&o, input);
    return 0;
}
