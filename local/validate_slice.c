/* SPDX-License-Identifier: Apache-2.0 */
#include "local/validate_private.h"

#include "cluster/names.h"
#include "core/err.h"
#include "local/slice.h"
#include "net/addr.h"

static void check_addresses(struct checker *k, const json_t *endpoint, const char *path,
                            sa_family_t family)
{
    const json_t *list = json_object_get(endpoint, "addresses"), *item;
    char field[FIELD_BYTES];
    struct addr a;
    size_t i;

    validate_list(k, endpoint, path, "addresses");
    if (json_array_size(list) == 0) {
        validate_refuse(k, E_CONFIG, path, "%s needs addresses", path);
    }
    json_array_foreach(list, i, item)
    {
        validate_field(field, "%s.addresses[%zu]", path, i);
        if (!json_is_string(item) || addr_parse_ip(bytes_str(json_string_value(item)), &a) != 0 ||
            a.family != family) {
            validate_refuse(k, E_CONFIG, field, "%s must be an %s address, in quotes", field,
                            family == AF_INET6 ? "IPv6" : "IPv4");
        }
    }
}

static void check_endpoints(struct checker *k, const struct object *o, sa_family_t family)
{
    const json_t *item;
    char path[FIELD_BYTES], field[FIELD_BYTES];
    size_t i;

    json_array_foreach(json_object_get(o->json, "endpoints"), i, item)
    {
        const json_t *conditions = json_object_get(item, "conditions");

        validate_field(path, "endpoints[%zu]", i);
        validate_only(k, item, path,
                      ALLOWED("addresses", "conditions", "hostname", "targetRef", "nodeName", "zone",
                              "hints"));
        check_addresses(k, item, path, family);
        validate_field(field, "%s.conditions", path);
        validate_only(k, conditions, field, ALLOWED("ready", "serving", "terminating"));
        validate_bool(k, conditions, field, "ready");
        validate_bool(k, conditions, field, "serving");
        validate_bool(k, conditions, field, "terminating");
        if (json_object_get(item, "hostname") != NULL) {
            validate_field(field, "%s.hostname", path);
            validate_label(k, json_text(item, "hostname"), field, "the hostname");
        }
    }
}

static void check_ports(struct checker *k, const struct object *o)
{
    const json_t *item;
    char path[FIELD_BYTES];
    size_t i;

    json_array_foreach(json_object_get(o->json, "ports"), i, item)
    {
        validate_field(path, "ports[%zu]", i);
        validate_only(k, item, path, ALLOWED("name", "port", "protocol", "appProtocol"));
        validate_text(k, item, path, "name", false);
        validate_text(k, item, path, "protocol", false);
        validate_text(k, item, path, "appProtocol", false);
        if (json_object_get(item, "port") == NULL) {
            validate_refuse(k, E_CONFIG, path, "%s needs a port", path);
        }
        validate_port(k, item, path, "port", false);
    }
}

static void check_list(struct checker *k, const struct object *o, const char *name)
{
    const json_t *value = json_object_get(o->json, name);

    if (value != NULL && !json_is_array(value) && !json_is_null(value)) {
        validate_refuse(k, E_CONFIG, name, "%s must be a list", name);
    }
}

void validate_slice(struct checker *k, const struct object *o)
{
    const char *service = object_label(o, NAME_LABEL_SERVICE),
               *type = json_text(o->json, "addressType");
    struct bytes name = bytes_str(o->name);

    if (service == NULL || service[0] == '\0') {
        validate_refuse(k, E_CONFIG, "metadata",
                        "metadata.labels needs %s, the Service whose endpoints these are",
                        NAME_LABEL_SERVICE);
    }
    if (slice_is_own(o) || bytes_ends(name, BYTES(SLICE_SUFFIX_4)) ||
        bytes_ends(name, BYTES(SLICE_SUFFIX_6))) {
        validate_refuse(k, E_CONFIG, "metadata",
                        "names that end with %s or %s, and the label %s: %s, are the home's own",
                        SLICE_SUFFIX_4, SLICE_SUFFIX_6, SLICE_LABEL_BY, SLICE_BY_HOME);
    }
    if (type == NULL || (strcmp(type, "IPv4") != 0 && strcmp(type, "IPv6") != 0)) {
        validate_refuse(k, E_UNSUPPORTED, "addressType", "addressType must be IPv4 or IPv6");
        return;
    }
    check_list(k, o, "endpoints");
    check_list(k, o, "ports");
    check_endpoints(k, o, strcmp(type, "IPv6") == 0 ? AF_INET6 : AF_INET);
    check_ports(k, o);
}
