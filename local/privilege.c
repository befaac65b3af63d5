/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "api/names.h"
#include "core/err.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * Users and capabilities of a container, from its securityContext and the pod's.
 *
 * In a user namespace one user is all there is: user and group stay as they are, and the proxy keeps
 * NET_ADMIN of its own network, for it marks its sockets instead of being told apart by its user.
 */
#define GROUPS_MAX 32

/* What a container may do beyond an ordinary process: the defaults of Kubernetes, without NET_RAW,
 * and the two that may be added. */
static const struct {
    const char *name;
    unsigned capability;
    bool is_default;
} known[] = {
    {"CHOWN", CAP_CHOWN, true},
    {"DAC_OVERRIDE", CAP_DAC_OVERRIDE, true},
    {"FOWNER", CAP_FOWNER, true},
    {"FSETID", CAP_FSETID, true},
    {"KILL", CAP_KILL, true},
    {"SETGID", CAP_SETGID, true},
    {"SETUID", CAP_SETUID, true},
    {"SETPCAP", CAP_SETPCAP, true},
    {"NET_BIND_SERVICE", CAP_NET_BIND_SERVICE, true},
    {"SYS_CHROOT", CAP_SYS_CHROOT, true},
    {"SETFCAP", CAP_SETFCAP, true},
    {"NET_ADMIN", CAP_NET_ADMIN, false},
    {"NET_RAW", CAP_NET_RAW, false},
};

static bool is_named(const struct container *c, const char *list, const char *capability)
{
    const json_t *item;
    size_t i;

    json_array_foreach(json_object_get(json_at(c->spec, "securityContext.capabilities"), list), i,
                       item)
    {
        if (json_is_string(item) && strcmp(json_string_value(item), capability) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_proxy(const struct container *c)
{
    return strcmp(c->name, CONTAINER_PROXY) == 0;
}

static bool keeps(const struct container *c, unsigned capability)
{
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (known[i].capability != capability) {
            continue;
        }
        if (capability == CAP_NET_ADMIN && is_proxy(c) && !c->pod->home->is_root) {
            return true;
        }
        if (is_named(c, "add", known[i].name)) {
            return true;
        }
        return known[i].is_default && !is_named(c, "drop", "ALL") &&
               !is_named(c, "drop", known[i].name);
    }
    return false;
}

/* From the bounding set always, so that no program gets them back; from this process if it stays root. */
static int drop_capabilities(const struct container *c, bool stays_root)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};

    for (unsigned cap = 0; cap <= CAP_LAST_CAP; cap++) {
        if (keeps(c, cap)) {
            data[cap / 32].effective |= 1u << (cap % 32);
            data[cap / 32].permitted |= 1u << (cap % 32);
        } else if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0 && errno != EINVAL) {
            return -errno;
        }
    }
    if (stays_root && syscall(SYS_capset, &header, data) != 0) {
        return -errno;
    }
    return 0;
}

/* A number of the container's securityContext, or else of the pod's. */
static int64_t setting(const struct container *c, const char *name, int64_t fallback)
{
    const json_t *own = json_object_get(json_object_get(c->spec, "securityContext"), name);
    const json_t *pods = json_object_get(json_at(c->pod->json, "spec.securityContext"), name);

    own = own != NULL ? own : pods;
    return json_is_integer(own) ? (int64_t)json_integer_value(own) : fallback;
}

static bool flag(const struct container *c, const char *name, bool fallback)
{
    const json_t *own = json_object_get(json_object_get(c->spec, "securityContext"), name);
    const json_t *pods = json_object_get(json_at(c->pod->json, "spec.securityContext"), name);

    own = own != NULL ? own : pods;
    return json_is_boolean(own) ? json_is_true(own) : fallback;
}

static size_t add_groups(const struct container *c, gid_t groups[GROUPS_MAX])
{
    const json_t *context = json_at(c->pod->json, "spec.securityContext"), *item;
    size_t i, count = 0;

    if (json_is_integer(json_object_get(context, "fsGroup"))) {
        groups[count++] = (gid_t)json_integer_value(json_object_get(context, "fsGroup"));
    }
    json_array_foreach(json_object_get(context, "supplementalGroups"), i, item)
    {
        if (count < GROUPS_MAX && json_is_integer(item)) {
            groups[count++] = (gid_t)json_integer_value(item);
        }
    }
    return count;
}

static int set_groups(const struct container *c, gid_t gid)
{
    gid_t groups[GROUPS_MAX];
    size_t count = add_groups(c, groups);

    return syscall(SYS_setgroups, count, groups) == 0 && syscall(SYS_setresgid, gid, gid, gid) == 0
               ? 0
               : -errno;
}

int privilege_apply(const struct container *c, const char **out_problem)
{
    int64_t uid = setting(c, "runAsUser", 0), gid = setting(c, "runAsGroup", uid);
    bool is_root = c->pod->home->is_root;
    /* In an image it has NET_ADMIN as a property of its file, and so needs no root. */
    bool stays_root = !is_root || uid == 0 || strcmp(c->name, CONTAINER_INIT) == 0;

    if (is_root && uid == 0 && flag(c, "runAsNonRoot", false)) {
        *out_problem = "its securityContext says runAsNonRoot, and no runAsUser";
        return E_CONFIG;
    }
    *out_problem = "it cannot become the user and group of its securityContext";
    if (is_root) {
        TRY(set_groups(c, (gid_t)gid));
    }
    *out_problem = "its capabilities cannot be dropped";
    TRY(drop_capabilities(c, stays_root));
    *out_problem = "it cannot become the user of its securityContext";
    if (!stays_root && syscall(SYS_setresuid, (uid_t)uid, (uid_t)uid, (uid_t)uid) != 0) {
        return -errno;
    }
    *out_problem = "it cannot give up new privileges";
    if (!flag(c, "allowPrivilegeEscalation", true) && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return -errno;
    }
    return 0;
}
