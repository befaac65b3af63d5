/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of endpoints (wire 3.2), of names of the mesh and of others. */
#include "discovery_probe.h"

static void sets_follow_updates(void **state)
{
    (void)state;
    ask(&asker, QUESTION_ENDPOINTS, BYTES(WEB));
    UNTIL(&loop, CALLED(GET));
    assert_true(bytes_eq(plane_call(&plane, GET, 0)->request, CAT(STR(2, WEB), STR(3, TOKEN))));
    settle(&loop);
    assert_null(asker.entry->answer);
    plane_send(&plane, GET, ADD(EP(3), EP(1), ENTRY(2, "service", "web")));
    UNTIL(&loop, knows(&asker, "1 3", ENDPOINTS_EXIST)); /* sorted */
    assert_string_equal(set_of(&asker)->at[0]->labels, "dst_service=\"web\"");
    plane_send(&plane, GET, ADD(EP(2)));
    UNTIL(&loop, knows(&asker, "1 2 3", ENDPOINTS_EXIST));
    plane_send(&plane, GET, REMOVE(GONE(1), GONE(9)));
    UNTIL(&loop, knows(&asker, "2 3", ENDPOINTS_EXIST));
    assert_int_equal(asker.changes, 3);
    /*
     * No news: an address again, one that was not there, an Add of nothing, one that is malformed.
     */
    plane_send(&plane, GET, ADD(EP(2)));
    plane_send(&plane, GET, REMOVE(GONE(9)));
    plane_send(&plane, GET, ADD(NONE));
    plane_send(&plane, GET, ADD(MSG(1, NUM(3, 1))));
    plane_send(&plane, GET, NONE);
    plane_send(&plane, GET, BYTES("\x0a\x05"));
    plane_send(&plane, GET, ADD(MSG(1, TCP4(1, 10, 0, 0, 2, 80), NUM(3, 7)))); /* other facts are */
    UNTIL(&loop, asker.changes == 4);
    assert_int_equal(set_of(&asker)->at[0]->weight, 7);
    plane_send(&plane, GET, MSG(3, NUM(1, 1)));
    UNTIL(&loop, knows(&asker, "", ENDPOINTS_EXIST));
    plane_send(&plane, GET, MSG(3, NONE));
    UNTIL(&loop, knows(&asker, "", ENDPOINTS_ABSENT));
    plane_send(&plane, GET, ADD(EP(5)));
    UNTIL(&loop, knows(&asker, "5", ENDPOINTS_EXIST));
    assert_int_equal(asker.answers, 1);
    let_go(&asker);
}

static void send_change(bool adds, const bool *changes)
{
    struct text parts;

    text_init(&parts, 16384);
    for (unsigned n = 0; n < 256; n++) {
        if (changes[n]) {
            text_add(&parts, adds ? EP(n) : GONE(n));
        }
    }
    plane_send(&plane, GET, adds ? ADD(text_bytes(&parts)) : REMOVE(text_bytes(&parts)));
    text_clear(&parts);
}

/* Few changes go into the set there is, many make a new one: either is the whole, in order. */
static void changes_of_any_size(void **state)
{
    static const unsigned sizes[] = {200, 1, 2, 15, 16, 17, 40, 3};
    bool is_there[256] = {false};
    uint32_t random = 1;

    (void)state;
    ask(&asker, QUESTION_ENDPOINTS, BYTES(WEB));
    UNTIL(&loop, CALLED(GET));
    for (unsigned round = 0; round < 64; round++) {
        bool changes[256] = {false}, adds = round == 0 || round % 3 != 0;
        char want[2048] = "";
        struct text text;

        for (unsigned i = 0; i < sizes[round == 0 ? 0 : 1 + round % 7]; i++) {
            random = random * 1664525 + 1013904223;
            changes[random >> 24] = true;
            is_there[random >> 24] = adds;
        }
        send_change(adds, changes);
        text_init_fixed(&text, want, sizeof(want));
        for (unsigned n = 0; n < 256; n++) {
            if (is_there[n]) {
                text_printf(&text, text.len > 0 ? " %u" : "%u", n);
            }
        }
        UNTIL(&loop, knows(&asker, want, ENDPOINTS_EXIST));
    }
    let_go(&asker);
}

/* MUST: the first Add after a connect replaces everything, and until then nothing is forgotten. */
static void the_first_add_replaces(void **state)
{
    (void)state;
    ask(&asker, QUESTION_ENDPOINTS, BYTES(WEB));
    UNTIL(&loop, CALLED(GET));
    plane_send(&plane, GET, ADD(EP(1), EP(2), EP(3)));
    UNTIL(&loop, knows(&asker, "1 2 3", ENDPOINTS_EXIST));
    plane_restart(&plane);
    UNTIL(&loop, CALLED(GET));
    assert_true(knows(&asker, "1 2 3", ENDPOINTS_EXIST));
    plane_send(&plane, GET, ADD(NONE)); /* is ignored, and does not count as the first */
    plane_send(&plane, GET, ADD(EP(3), EP(4)));
    UNTIL(&loop, knows(&asker, "3 4", ENDPOINTS_EXIST));
    plane_send(&plane, GET, ADD(EP(5)));
    UNTIL(&loop, knows(&asker, "3 4 5", ENDPOINTS_EXIST));
    plane_finish(&plane, GET, GRPC_UNAVAILABLE);
    UNTIL(&loop, plane.asked == 3 && CALLED(GET));
    plane_send(&plane, GET, ADD(EP(3), EP(4), EP(5)));
    settle(&loop);
    assert_int_equal(asker.changes, 3); /* the same set again is no change */
    plane_finish(&plane, GET, GRPC_NOT_FOUND);
    UNTIL(&loop, plane.asked == 4 && CALLED(GET));
    plane_send(&plane, GET, ADD(EP(5)));
    UNTIL(&loop, knows(&asker, "5", ENDPOINTS_EXIST));
    let_go(&asker);
}

static void refused_names_are_final(void **state)
{
    (void)state;
    ask(&asker, QUESTION_ENDPOINTS, BYTES(WEB));
    UNTIL(&loop, CALLED(GET));
    plane_send(&plane, GET, ADD(EP(1)));
    plane_finish(&plane, GET, GRPC_INVALID_ARGUMENT);
    UNTIL(&loop, knows(&asker, "", ENDPOINTS_INVALID));
    settle(&loop);
    assert_int_equal(plane.asked, 1);
    let_go(&asker);
}

static void names_of_others_are_looked_up(void **state)
{
    (void)state;
    rules[0] = (struct name_rule){
        .name = "db.example.org", .type = 1, .addr = addr_v4(0x0a000007, 0), .ttl_s = 1};
    rules[1] = (struct name_rule){
        .name = "db.example.org", .type = 1, .addr = addr_v4(0x0a000008, 0), .ttl_s = 1};
    names.count = 1;
    ask(&asker, QUESTION_ENDPOINTS, BYTES("db.example.org:5432"));
    UNTIL(&loop, knows(&asker, "7", ENDPOINTS_EXIST));
    assert_int_equal(set_of(&asker)->at[0]->addr.port, 5432);
    assert_null(set_of(&asker)->at[0]->identity);
    names.count = 2;
    UNTIL(&loop, knows(&asker, "7 8", ENDPOINTS_EXIST)); /* when the second of its TTL is over */
    names.count = 0;
    UNTIL(&loop, knows(&asker, "", ENDPOINTS_ABSENT));
    names.count = 2;
    UNTIL(&loop, knows(&asker, "7 8", ENDPOINTS_EXIST));
    assert_int_equal(plane.asked, 0);
    let_go(&asker);
}

static void which_names_are_the_meshs(void **state)
{
    static const struct {
        const char *key;
        bool is_ours;
    } cases[] = {
        {"web.app.svc.cluster.local:80", true},
        {"WEB.app.SVC.cluster.LOCAL.:80", true},
        {"svc.cluster.local:80", true},
        {"web.app.svc.cluster.local", true},
        {"websvc.cluster.local:80", false},
        {"cluster.local:80", false},
        {"svc.cluster.local.example.org:80", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        unsigned questions = names.questions, asked = plane.asked;

        ask(&asker, QUESTION_ENDPOINTS, bytes_str(cases[i].key));
        UNTIL(&loop, names.questions > questions || plane.asked > asked);
        if ((plane.asked > asked) != cases[i].is_ours) {
            fail_msg("%s", cases[i].key);
        }
        let_go(&asker);
        UNTIL(&loop, discovery_count(discovery, QUESTION_ENDPOINTS) == 0);
    }
}

static void keys_that_are_no_names(void **state)
{
    (void)state;
    ask(&asker, QUESTION_ENDPOINTS, BYTES(":80"));
    UNTIL(&loop, knows(&asker, "", ENDPOINTS_INVALID));
    let_go(&asker);
    ask(&asker, QUESTION_ENDPOINTS, BYTES("web:http"));
    UNTIL(&loop, knows(&asker, "", ENDPOINTS_INVALID));
    let_go(&asker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(sets_follow_updates),
        TEST(changes_of_any_size),
        TEST(the_first_add_replaces),
        TEST(refused_names_are_final),
        TEST(names_of_others_are_looked_up),
        TEST(which_names_are_the_meshs),
        TEST(keys_that_are_no_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
