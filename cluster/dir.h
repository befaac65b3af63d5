/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_DIR_H
#define CLUSTER_DIR_H

/*
 * The `dir` source: a folder of manifests, watched. Private to cluster/.
 *
 *   dir.c        folders, inotify, the scan, life and the table of operations
 *   dir_file.c   one file: when it is read, which objects it owns, what happens when it goes
 *   dir_parse.c  text to objects
 *   dir_put.c    writing objects as files
 *   review.c     token reviews with a local key
 *
 * Each object has one owner, the file whose manifest came first. A later file with the same object
 * keeps it as a *shadow*: it is reported, and steps in when the owner lets go.
 * Limits: below; what exceeds one is reported and left out.
 */
#include "cluster/store.h"
#include "core/text.h"

#define DIR_FILES_MAX        65536
#define DIR_FOLDERS_MAX      4096
#define DIR_FILE_OBJECTS_MAX 10000
#define DIR_PATH_BYTES       1024 /* relative to the root */
#define DIR_PROBLEM_BYTES    1024

struct dir;
struct dir_file;

struct dir_entry { /* one object of a file */
    struct object *object; /* a reference */
    struct dir_file *file;
    bool is_owner;         /* dir.owners has it; otherwise it is a shadow */
};

struct dir_entries {
    struct dir_entry *at;
    size_t count;
};

struct dir_file {
    struct list node;     /* dir.dirty while it is to be read */
    struct timer settle;  /* a change that may not be the last of its kind */
    struct dir *dir;
    char *path;           /* below the root; also its key in dir.files */
    struct dir_entries entries;
    char *problem;        /* what was said about it last; NULL when it is good */
    uint64_t scan;        /* the last scan that met it */
    bool is_open;         /* somebody writes to it: wait for the close */
    bool is_missing;      /* gone, perhaps only for a moment: others may take its objects */
    bool is_doubted;      /* it was wrong once and is read again before that is said */
    bool counts_for_scan; /* it is one of dir.scan_files */
};

struct dir_folder {
    struct list node; /* dir.to_scan while it is to be listed */
    int wd;
    char *path;       /* below the root; "" is the root */
};

struct reviews {
    struct list open; /* struct review */
    struct task run;
    struct loop *loop;
    char *key_path;
};

struct dir {
    struct store store;
    struct watch inotify;
    struct task run;
    struct timer reopen;    /* the root is gone: look again */
    struct grave grave;
    char *root;
    int root_fd;
    struct map files;       /* by path */
    struct map folders;     /* by watch descriptor */
    struct map owners;      /* struct dir_entry by kind, "ns/name" */
    struct list dirty;      /* files, in the order of their changes */
    struct list to_scan;    /* folders */
    size_t scan_files;      /* read when this is 0: the scan is over */
    size_t shadows_count;
    uint64_t scan;          /* number of the present or last scan */
    uint64_t puts;          /* numbers temporary files */
    bool is_scanning;
    bool is_full;           /* a limit was reported */
    struct reviews reviews;
};

static inline struct dir *dir_of(struct cluster *c)
{
    return CONTAINER_OF(c, struct dir, store.cluster);
}

/* --- dir.c --- */
void dir_wake(struct dir *d);

/* --- dir_file.c --- */
bool file_is_wanted(const char *name); /* by its name; hidden and temporary ones are not */
struct dir_file *file_find(struct dir *d, const char *path);
struct dir_file *file_need(struct dir *d, const char *path); /* NULL at DIR_FILES_MAX, after reporting it */
void file_changed(struct dir_file *f);        /* it is complete: read it now */
void file_written(struct dir_file *f);        /* closed after writing: read it when it is quiet */
void file_opened(struct dir_file *f);         /* created or modified: wait for its close */
void file_lost(struct dir_file *f, bool now); /* moved away or deleted */
void file_read_next(struct dir *d);           /* the first dirty one */
void file_forget(struct dir_file *f);         /* its objects go, or their shadows step in; frees `f` */
void file_free(struct dir_file *f);           /* at the end: nothing is told to anybody */
struct dir_entry *file_owner(const struct dir *d, const struct object *o); /* NULL when nobody has it */
/* Takes the entries; the former ones of the file that are not among them vanish. E_LIMIT. */
void file_apply(struct dir_file *f, struct dir_entries entries);

/* --- dir_parse.c --- */
/* All objects of a text, or an error with "path:line: why" in `problem` and nothing. */
int parse_objects(const char *path, struct bytes text, struct dir_entries *out, char *problem,
                  size_t problem_bytes) MUST_USE;
void entries_clear(struct dir_entries *e);

/* --- dir_put.c --- */
#define PUT_NAME_BYTES 256
void put_file_name(const struct object *o, char to[PUT_NAME_BYTES]);
bool put_is_ours(const struct dir_file *f); /* one object, under the name that we would give it */
int dir_put(struct cluster *c, struct object *o) MUST_USE;
int dir_remove(struct cluster *c, enum kind k, const char *ns, const char *name) MUST_USE;

/* --- review.c --- */
struct review {
    struct cluster *cluster;
};
void reviews_init(struct reviews *rs, struct loop *l, char *key_path); /* takes key_path */
void reviews_clear(struct reviews *rs);
void reviews_ask(struct reviews *rs, struct cluster *c, struct token_review *r, struct bytes token,
                 const char *audience);
void reviews_cancel(struct token_review *r);

#endif
