/* SPDX-License-Identifier: Apache-2.0 */
#include "core/cgroup.h"
#include "tests/unit/unit.h"

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

/* A folder that stands for "/". */
static char root[] = "/tmp/test_cgroup.XXXXXX";

static int make_root(void **state UNUSED)
{
    memcpy(root + sizeof(root) - 7, "XXXXXX", 6);
    return mkdtemp(root) == NULL ? -1 : 0;
}

static int remove_one(const char *path, const struct stat *st UNUSED, int kind UNUSED,
                      struct FTW *at UNUSED)
{
    return remove(path);
}

static int remove_root(void **state UNUSED)
{
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void put(const char *path, const char *content)
{
    char whole[PATH_MAX];
    FILE *file;

    (void)snprintf(whole, sizeof(whole), "%s%s", root, path);
    for (char *at = strchr(whole + sizeof(root), '/'); at != NULL; at = strchr(at + 1, '/')) {
        *at = '\0';
        (void)mkdir(whole, 0700);
        *at = '/';
    }
    file = fopen(whole, "w");
    assert_non_null(file);
    assert_true(fputs(content, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

#define MOUNT_ROOT "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
#define MOUNT_V2   "30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"

static void version_2_takes_the_tightest_ancestor(void **state UNUSED)
{
    put("/proc/self/cgroup", "0::/kubepods/pod1/box\n");
    put("/proc/self/mountinfo", MOUNT_ROOT MOUNT_V2);
    put("/sys/fs/cgroup/kubepods/cpu.max", "400000 100000\n");
    put("/sys/fs/cgroup/kubepods/memory.max", "max\n");
    put("/sys/fs/cgroup/kubepods/pod1/cpu.max", "150000 100000\n");
    put("/sys/fs/cgroup/kubepods/pod1/memory.max", "268435456\n");
    put("/sys/fs/cgroup/kubepods/pod1/box/cpu.max", "max 100000\n");
    put("/sys/fs/cgroup/kubepods/pod1/box/memory.max", "536870912\n");
    assert_true(cgroup_cpu_limit_millis(root) == 1500);
    assert_true(cgroup_memory_limit(root) == 268435456);
}

static void version_2_in_a_container_has_its_own_root(void **state UNUSED)
{
    put("/proc/self/cgroup", "0::/\n");
    put("/proc/self/mountinfo", MOUNT_ROOT MOUNT_V2);
    put("/sys/fs/cgroup/cpu.max", "20000 100000\n");
    put("/sys/fs/cgroup/memory.max", "1000000\n");
    assert_true(cgroup_cpu_limit_millis(root) == 200);
    assert_true(cgroup_memory_limit(root) == 1000000);
}

/* Without a namespace of its own the group's path is the host's, but its folder is the mount. */
static void version_1_mounted_at_the_group(void **state UNUSED)
{
    put("/proc/self/cgroup", "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/docker/abc\n");
    put("/proc/self/mountinfo", MOUNT_ROOT
        "31 22 0:27 /docker/abc /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "32 22 0:28 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
    put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "250000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "67108864\n");
    assert_true(cgroup_cpu_limit_millis(root) == 2500);
    assert_true(cgroup_memory_limit(root) == 67108864);
}

static void version_1_says_none_in_its_own_way(void **state UNUSED)
{
    put("/proc/self/cgroup", "5:memory:/x\n4:cpu,cpuacct:/x\n");
    put("/proc/self/mountinfo", "31 22 0:27 / /cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
                                "32 22 0:28 / /memory rw - cgroup cgroup rw,memory\n");
    put("/cpu/x/cpu.cfs_quota_us", "-1\n");
    put("/cpu/x/cpu.cfs_period_us", "100000\n");
    put("/memory/x/memory.limit_in_bytes", "9223372036854771712\n");
    assert_true(cgroup_cpu_limit_millis(root) == UINT64_MAX);
    assert_true(cgroup_memory_limit(root) == UINT64_MAX);
    put("/memory/memory.limit_in_bytes", "4096\n");
    assert_true(cgroup_memory_limit(root) == 4096); /* of the parent */
}

static void nothing_known_is_no_limit(void **state UNUSED)
{
    assert_true(cgroup_cpu_limit_millis(root) == UINT64_MAX);
    put("/proc/self/cgroup", "");
    put("/proc/self/mountinfo", "");
    assert_true(cgroup_memory_limit(root) == UINT64_MAX);
    put("/proc/self/cgroup", "0::/../outside\nnonsense\n::\n\n0:");
    put("/proc/self/mountinfo", "- - -\n1 2 3\n\n" MOUNT_V2);
    assert_true(cgroup_memory_limit(root) == UINT64_MAX);
    put("/sys/fs/cgroup/memory.max", "12x\n");
    put("/sys/fs/cgroup/cpu.max", "100 0\n");
    assert_true(cgroup_memory_limit(root) == UINT64_MAX);
    assert_true(cgroup_cpu_limit_millis(root) == UINT64_MAX);
}

static void memory_is_looked_at_again(void **state UNUSED)
{
    struct cgroup_memory m;
    uint64_t limit, usage, anonymous, droppable;

    put("/proc/self/cgroup", "0::/pod/box\n");
    put("/proc/self/mountinfo", MOUNT_ROOT MOUNT_V2);
    put("/sys/fs/cgroup/pod/memory.max", "2000\n");
    put("/sys/fs/cgroup/pod/memory.current", "700\n");
    put("/sys/fs/cgroup/pod/memory.stat", "anon 300\nfile 9\nkernel 1\ninactive_file 8\nanon_thp 0\n");
    put("/sys/fs/cgroup/pod/box/memory.max", "3000\n");
    cgroup_memory_open(root, &m);
    assert_true(cgroup_memory_look(&m, &limit, &usage));
    assert_true(limit == 2000 && usage == 700); /* of the group whose limit it is */
    assert_true(cgroup_memory_parts(&m, &anonymous, &droppable));
    assert_true(anonymous == 300 && droppable == 8);
    put("/sys/fs/cgroup/pod/memory.current", "1900\n");
    put("/sys/fs/cgroup/pod/memory.max", "max\n"); /* lifted */
    put("/sys/fs/cgroup/pod/memory.stat", "anon 300\n");
    assert_true(cgroup_memory_look(&m, &limit, &usage));
    assert_true(limit == UINT64_MAX && usage == 1900);
    assert_false(cgroup_memory_parts(&m, &anonymous, &droppable));
    cgroup_memory_close(&m);
    cgroup_memory_close(&m);
    assert_false(cgroup_memory_look(&m, &limit, &usage));
}

static void memory_of_version_1(void **state UNUSED)
{
    struct cgroup_memory m;
    uint64_t limit, usage, anonymous, droppable;

    put("/proc/self/cgroup", "5:memory:/x\n");
    put("/proc/self/mountinfo", "32 22 0:28 / /memory rw - cgroup cgroup rw,memory\n");
    put("/memory/x/memory.limit_in_bytes", "5000\n");
    put("/memory/x/memory.usage_in_bytes", "4000\n");
    put("/memory/x/memory.stat", "rss 1\ninactive_file 2\ntotal_rss 30\ntotal_inactive_file 40\n");
    cgroup_memory_open(root, &m);
    assert_true(cgroup_memory_look(&m, &limit, &usage) && limit == 5000 && usage == 4000);
    assert_true(cgroup_memory_parts(&m, &anonymous, &droppable));
    assert_true(anonymous == 30 && droppable == 40);
    cgroup_memory_close(&m);
    put("/memory/x/memory.limit_in_bytes", "9223372036854771712\n");
    cgroup_memory_open(root, &m);
    assert_false(cgroup_memory_look(&m, &limit, &usage));
    cgroup_memory_close(&m);
}

#define GROUP_TEST(name) cmocka_unit_test_setup_teardown(name, make_root, remove_root)

int main(void)
{
    const struct CMUnitTest tests[] = {
        GROUP_TEST(version_2_takes_the_tightest_ancestor),
        GROUP_TEST(version_2_in_a_container_has_its_own_root),
        GROUP_TEST(version_1_mounted_at_the_group),
        GROUP_TEST(version_1_says_none_in_its_own_way),
        GROUP_TEST(nothing_known_is_no_limit),
        GROUP_TEST(memory_is_looked_at_again),
        GROUP_TEST(memory_of_version_1),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
